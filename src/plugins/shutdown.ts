/**
 * A shutdown that waits for what is under way, so long: those who wait for a change are answered, and new requests are told
 * to go elsewhere. What is still open then (idle, stalled or never used) is closed by Fastify's `forceCloseConnections`.
 */
import { EventEmitter, once } from 'node:events';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../errors.ts';
import { synchronous } from './synchronous.ts';

export const shutdown = fp(async (app: FastifyInstance, { patienceMs }: { patienceMs: number }) => {
  const underWay = new Set<FastifyRequest>();
  const answered = new EventEmitter();
  let closing = false;
  app.addHook('preClose', async () => {
    closing = true;
    app.store.endWaits();
    if (underWay.size === 0) return;
    await once(answered, 'all', { signal: AbortSignal.timeout(patienceMs) }).catch(() => undefined);
  });
  app.addHook(
    'onRequest',
    synchronous((request, reply) => {
      if (closing && request.url !== '/healthz') {
        throw new Problem('shutting_down', 'a request must come before the server shuts down. It is shutting down', {
          headers: { 'retry-after': '5' },
        });
      }
      underWay.add(request);
      reply.raw.once('close', () => {
        underWay.delete(request);
        if (closing && underWay.size === 0) answered.emit('all');
      });
    }),
  );
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (closing) reply.header('connection', 'close');
    done();
  });
});
