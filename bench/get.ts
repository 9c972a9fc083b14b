/** A lean client for GET on `node:http`: one kept-alive connection, one request after the other. */
import { Agent, get } from 'node:http';
import { timed, type Work } from './pairs.ts';

/** Reads each reply whole. Throws unless that is a `200`. */
export function getInTurn(port: number, path: string, accept = '*/*'): Work {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const once = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const sent = get({ agent, host: '127.0.0.1', port, path, headers: { accept } }, (reply) => {
        reply.on('error', reject);
        reply.on('end', () => {
          if (reply.statusCode === 200) resolve();
          else reject(new Error(`a reply must be 200. Received: ${reply.statusCode}`));
        });
        reply.resume();
      });
      sent.on('error', reject);
    });
  return timed(once);
}
