/**
 * Room on the disk, asked for before a body is read: who is refused need not send it. It is set aside for what a change brings
 * until it is answered. A repeat of a request is let through, since it is told what came of the first. What the body does not
 * announce (its length, a session's size) is left to the store.
 */
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { lentBytesMin } from '../limits.ts';
import type { DiskUse } from '../store/disk-space.ts';
import { announcedBytes } from './bodies/body-reader.ts';
import { synchronous } from './synchronous.ts';

export const diskSpace = fp(async (app: FastifyInstance) => {
  const { store } = app;
  app.decorateRequest('hasRoom', false);
  app.addHook(
    'onRequest',
    synchronous((request, reply) => {
      const use = request.routeOptions.config.takesRoom;
      if (use === undefined) return;
      const { session } = request.params as { session: string };
      if (!store.isWritten(session, use, request.headers['idempotency-key'] as string | undefined)) return;
      const bytes = announcedBytes(request);
      if (use === 'session' || bytes === undefined) {
        store.disk.require(use, bytes ?? 0);
        return;
      }
      if (bytes < lentBytesMin) store.disk.take(use, bytes);
      else reply.raw.once('close', store.disk.reserve(use, bytes));
      request.hasRoom = true;
    }),
  );
});

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the request's body is going to take room on the disk for. */
    takesRoom?: DiskUse;
  }
  interface FastifyRequest {
    /** Whether room on the disk is set aside for what it writes. */
    hasRoom: boolean;
  }
}
