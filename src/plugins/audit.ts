/**
 * Who did what: one line for each request to a route that takes the role `admin`, carried out or refused, and for each change
 * of the tokens. They stand in the log, told apart by `"audit": true`, whatever LOG_LEVEL leaves out.
 */
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { synchronous } from './synchronous.ts';

export const auditLog = fp(async (app: FastifyInstance) => {
  app.addHook(
    'onResponse',
    synchronous((request, reply) => {
      const { config, schema } = request.routeOptions;
      if (config.access !== 'admin') return;
      audit(app.log, {
        action: (schema as { operationId?: string } | undefined)?.operationId ?? config.url,
        by: request.token?.name ?? null,
        address: request.ip,
        ...(request.params as object),
        ...request.logged,
        status: reply.statusCode,
        ...(request.problemCode === undefined ? {} : { code: request.problemCode }),
        reqId: request.id,
      });
    }),
  );
});

/** `fields`: what was done, by whom, to what. */
export function audit(log: FastifyBaseLogger, fields: { readonly action: string } & Record<string, unknown>): void {
  if (log.level === 'silent') return;
  log.child({ audit: true }, { level: 'info' }).info(fields, 'audit');
}
