/**
 * What holds for all requests on a connection: how many fields a header has, what becomes of a body that nobody reads, how
 * long a connection is kept, and which certificate the next one meets. The connections themselves are listener.ts.
 */
import type { ServerHttp2Session } from 'node:http2';
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import type { Config } from '../../config.ts';
import { Problem } from '../../errors.ts';
import { headerFieldsMax } from '../../limits.ts';
import { synchronous } from '../synchronous.ts';
import { type Credentials, watchCredentials } from './certificate.ts';
import { http2Stream, leaveBody } from './http2.ts';
import type { Listener } from './listener.ts';

export interface ConnectionsOptions {
  readonly config: Config;
  readonly listener: Listener;
  readonly credentials: Credentials | undefined;
}

export const connections = fp(async (app: FastifyInstance, { config, listener, credentials }: ConnectionsOptions) => {
  const { certificateCheckMs, checkMs, keepAliveMs, lingerMs } = config.connections;
  app.decorate('connections', listener);
  app.addHook(
    'onRequest',
    synchronous(({ raw }) => {
      // A name and a value each. HTTP/2's own are counted by its session.
      if (raw.httpVersionMajor === 1 && raw.rawHeaders.length > 2 * headerFieldsMax) {
        const rule = `a header must have at most ${headerFieldsMax} fields`;
        const headers = { connection: 'close' };
        throw new Problem('headers_too_large', `${rule}. Received: ${raw.rawHeaders.length / 2}`, { headers });
      }
    }),
  );
  app.addHook('onSend', (request, reply, _payload, done) => {
    const stream = http2Stream(reply.raw);
    if (stream !== undefined) {
      // Of HTTP/1.1, where Fastify too sets it.
      reply.removeHeader('connection');
      leaveBody(request.raw, stream);
    }
    done();
  });
  app.addHook(
    'onResponse',
    synchronous(({ raw }) => {
      // One that came over no connection at all does not say.
      if (raw.complete !== false || raw.httpVersionMajor === 2) return;
      const { socket } = raw;
      const timer = setTimeout(() => socket.destroy(), lingerMs).unref();
      raw.once('close', () => clearTimeout(timer));
    }),
  );
  const timer = setInterval(() => closeIdle(), checkMs).unref();
  const watch =
    config.tls &&
    credentials &&
    watchCredentials(config.tls, credentials, { checkMs: certificateCheckMs, log: app.log, use: listener.use });
  app.addHook('onClose', async () => {
    clearInterval(timer);
    await watch?.close();
  });

  /** Sessions: their latest stream, and at how many looks since they had no request. */
  const idle = new WeakMap<ServerHttp2Session, { readonly stream: number | undefined; readonly looks: number }>();

  function closeIdle(): void {
    if (listener.sessions.size === 0) return;
    const busy = new Set(Array.from(app.replies, ({ raw }) => http2Stream(raw)?.session));
    for (const session of listener.sessions) {
      const { lastProcStreamID: stream } = session.state;
      const before = idle.get(session);
      const isIdle = !busy.has(session) && before !== undefined && before.stream === stream;
      const looks = isIdle ? before.looks + 1 : 0;
      idle.set(session, { stream, looks });
      if (looks * checkMs >= keepAliveMs) session.close();
      if (looks * checkMs >= 2 * keepAliveMs) session.destroy();
    }
  }
});

declare module 'fastify' {
  interface FastifyInstance {
    /** `open` and `dropped` say how many there are and were refused. */
    connections: Listener;
  }
}
