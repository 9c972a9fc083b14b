/**
 * A shutdown that waits for what is under way, so long: those who wait for a change are answered, and new requests are told
 * to go elsewhere. Replies that have no end of their own are ended last, so that they tell of all that was still done. What is
 * open then (idle, stalled or never used) is closed by Fastify's `forceCloseConnections`.
 */
import { EventEmitter, once } from 'node:events';
import type { FastifyInstance, FastifyReply } from 'fastify';
import fp from 'fastify-plugin';
import { shuttingDown } from '../errors.ts';
import { endConnection } from './http2.ts';
import { synchronous } from './synchronous.ts';

export const shutdown = fp(async (app: FastifyInstance, { patienceMs }: { patienceMs: number }) => {
  const underWay = new Set<FastifyReply>();
  const endless = new Set<FastifyReply>();
  const answered = new EventEmitter();
  let closing = false;
  app.decorate('replies', {
    *[Symbol.iterator]() {
      yield* underWay;
      yield* endless;
    },
  });
  app.addHook('preClose', async () => {
    closing = true;
    for (const reply of app.replies) endConnection(reply);
    const signal = AbortSignal.timeout(patienceMs);
    app.store.endWaits();
    await over(underWay, signal);
    app.store.endEvents();
    await over(endless, signal);
  });
  app.addHook(
    'onRequest',
    synchronous((request, reply) => {
      if (closing && request.url !== '/healthz') {
        endConnection(reply);
        throw shuttingDown();
      }
      const among = request.routeOptions.config.isEndless ? endless : underWay;
      among.add(reply);
      reply.raw.once('close', () => {
        among.delete(reply);
        if (closing && among.size === 0) answered.emit('all');
      });
    }),
  );

  async function over(replies: ReadonlySet<FastifyReply>, signal: AbortSignal): Promise<void> {
    while (replies.size > 0 && !signal.aborted) await once(answered, 'all', { signal }).catch(() => undefined);
  }
});

declare module 'fastify' {
  interface FastifyInstance {
    /** Those under way. */
    replies: Iterable<FastifyReply>;
  }
  interface FastifyContextConfig {
    /** Whether a reply goes on until the server ends it. */
    isEndless?: boolean;
  }
}
