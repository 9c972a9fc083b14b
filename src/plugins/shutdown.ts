/**
 * A shutdown that waits for what is under way, so long: those who wait for a change are answered, and new requests are told
 * to go elsewhere, `/readyz` among them, from the beginning to the end of it; `/healthz` alone is answered as ever. Replies that
 * have no end of their own are ended last, so that they tell of all that was still done. Whoever calls `drain` can save what
 * there is while new requests are still refused rather than met by a closed port. What is open in the end (idle, stalled or
 * never used) is closed by Fastify's `forceCloseConnections`.
 */
import { EventEmitter, once } from 'node:events';
import type { FastifyInstance, FastifyReply } from 'fastify';
import fp from 'fastify-plugin';
import { shuttingDown } from '../errors.ts';
import { cutOff, endConnection } from './connections/http2.ts';
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
  let drained: Promise<void> | undefined;
  const drain = async (): Promise<void> => {
    closing = true;
    for (const reply of app.replies) endConnection(reply);
    const signal = AbortSignal.timeout(patienceMs);
    app.store.endWaits();
    await over(underWay, signal);
    app.store.endEvents();
    await over(endless, signal);
    // Nothing that stalled may change what is being saved.
    for (const { raw } of [...underWay, ...endless]) cutOff(raw);
  };
  app.decorate('drain', () => {
    drained ??= drain();
    return drained;
  });
  app.addHook('preClose', () => app.drain());
  app.addHook(
    'onRequest',
    synchronous((request, reply) => {
      if (closing) {
        if (request.routeOptions.url === '/healthz') return;
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
    /** Takes no more requests. Resolves when those under way are over, or have had their time. */
    drain: () => Promise<void>;
    /** Those under way. */
    replies: Iterable<FastifyReply>;
  }
  interface FastifyContextConfig {
    /** Whether a reply goes on until the server ends it. */
    isEndless?: boolean;
  }
}
