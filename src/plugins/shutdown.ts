/**
 * A shutdown that waits for what is under way: those who wait for a change are answered, connections are closed behind
 * their last reply, and new requests are told to go elsewhere.
 */
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../errors.ts';

export const shutdown = fp(async (app: FastifyInstance) => {
  let closing = false;
  app.addHook('preClose', async () => {
    closing = true;
    app.store.endWaits();
  });
  app.addHook('onRequest', async (request) => {
    if (!closing || request.url === '/healthz') return;
    throw new Problem('shutting_down', 'a request must come before the server shuts down. It is shutting down', {
      headers: { 'retry-after': '5' },
    });
  });
  app.addHook('onSend', async (_request, reply) => {
    if (closing) reply.header('connection', 'close');
  });
});
