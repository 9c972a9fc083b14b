/**
 * Parts of the contract that this version does not have. A request that asks for one is refused by name: a client that
 * relies on exactly-once or on tokens must not be left to believe that it has them.
 */
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../errors.ts';
import { synchronous } from './synchronous.ts';

const headers = [
  ['idempotency-key', 'Idempotency-Key'],
  ['authorization', 'Authorization'],
] as const;

export const notBuilt = fp(async (app: FastifyInstance) => {
  app.addHook(
    'onRequest',
    synchronous((request) => {
      const asked = headers.find(([header]) => request.headers[header] !== undefined);
      if (asked !== undefined && request.url.startsWith('/v1/')) throw refused(`the header ${asked[1]}`);
    }),
  );
  const routes = [
    ['POST', '/v1/sessions/:session/fork', 'fork'],
    ['GET', '/v1/sessions/:session/fingerprint', 'fingerprint'],
    ['GET', '/v1/sessions/:session/workers', 'workers'],
    ['POST', '/v1/sessions/:session/workers/:worker/release', 'workers'],
    ['GET', '/v1/sessions/:session/events', 'events'],
  ] as const;
  for (const [method, url, name] of routes) {
    app.route({
      method,
      url,
      schema: { hide: true },
      onRequest: async () => {
        throw refused(name);
      },
      handler: async () => undefined,
    });
  }
});

function refused(what: string): Problem {
  return new Problem('invalid_parameter', `a request must not use what this version does not have. Received: ${what}`);
}
