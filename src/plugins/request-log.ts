/**
 * One log line for each request, when its reply is out: who asked for what, how large, how long, with which result; overload is summed up.
 * Where it is part of a trace (W3C Trace Context), the line says of which, as `trace_id` and `span_id`: the span of this server
 * or, where it makes none, the caller's.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import type { Logger } from 'pino';
import { synchronous } from './synchronous.ts';
import { parseTraceparent, type TraceContext } from './traceparent.ts';

export const requestLog = fp(async (app: FastifyInstance) => {
  app.decorateRequest('problemCode', undefined);
  app.decorateRequest('logged', undefined);
  app.decorateRequest('traced', undefined);
  app.addHook(
    'onResponse',
    synchronous((request, reply) => {
      if (request.problemCode === 'overloaded') {
        app.refusals.note();
        return;
      }
      if (!isLogged(request)) return;
      const traced = request.traced ?? parseTraceparent(request.headers.traceparent);
      const params = request.params as { session?: string } | undefined;
      const fields = {
        reqId: request.id,
        method: request.method,
        path: request.url.split('?', 1)[0],
        status: reply.statusCode,
        milliseconds: Math.round(reply.elapsedTime * 100) / 100,
        bytesIn: Number(request.headers['content-length'] ?? 0),
        bytesOut: Number(reply.getHeader('content-length') ?? 0),
        ...(request.token === undefined ? {} : { by: request.token.name }),
        ...(params?.session === undefined ? {} : { session: params.session }),
        ...(request.problemCode === undefined ? {} : { code: request.problemCode }),
        ...(traced === undefined ? {} : { trace_id: traced.traceId, span_id: traced.spanId }),
        ...request.logged,
      };
      request.log.info(fields, 'request');
    }),
  );
});

/** Whether a line is written at all, so that it pays to prepare what it says. */
export function isLogged({ log }: FastifyRequest): boolean {
  return (log as Logger).isLevelEnabled('info');
}

declare module 'fastify' {
  interface FastifyRequest {
    /** What a route has to add to its log line: the names of variables, a worker, an iteration; never a payload. */
    logged: Record<string, unknown> | undefined;
    /** The server's own span for it, if it makes one. */
    traced: TraceContext | undefined;
  }
}
