/**
 * A shutdown that waits for what is under way, so long: those who wait for a change are answered, and new requests are told
 * to go elsewhere. What is still open then (idle, stalled or never used) is closed by Fastify's `forceCloseConnections`.
 */
import { EventEmitter, once } from 'node:events';
import type { FastifyInstance, FastifyReply } from 'fastify';
import fp from 'fastify-plugin';
import { shuttingDown } from '../errors.ts';
import { synchronous } from './synchronous.ts';

export const shutdown = fp(async (app: FastifyInstance, { patienceMs }: { patienceMs: number }) => {
  const underWay = new Set<FastifyReply>();
  const answered = new EventEmitter();
  let closing = false;
  app.addHook('preClose', async () => {
    closing = true;
    for (const reply of underWay) if (!reply.raw.headersSent) reply.header('connection', 'close');
    app.store.endWaits();
    if (underWay.size === 0) return;
    await once(answered, 'all', { signal: AbortSignal.timeout(patienceMs) }).catch(() => undefined);
  });
  app.addHook(
    'onRequest',
    synchronous((request, reply) => {
      if (closing && request.url !== '/healthz') {
        throw shuttingDown({ connection: 'close' });
      }
      underWay.add(reply);
      reply.raw.once('close', () => {
        underWay.delete(reply);
        if (closing && underWay.size === 0) answered.emit('all');
      });
    }),
  );
});
