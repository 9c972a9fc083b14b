/** How many connections are open to what the server listens on. */
import type { FastifyInstance } from 'fastify';

export function connectionsOf({ server }: FastifyInstance): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
  });
}
