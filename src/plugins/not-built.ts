/**
 * Parts of the contract that this version does not have. A request that asks for one is refused by name: a client that
 * relies on tokens must not be left to believe that it has them.
 */
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../errors.ts';
import { synchronous } from './synchronous.ts';

const refusedHeaders: Readonly<Record<string, string>> = {
  authorization: 'Authorization',
};

export const notBuilt = fp(async (app: FastifyInstance) => {
  app.addHook(
    'onRequest',
    synchronous((request) => {
      if (!request.url.startsWith('/v1/')) return;
      for (const name in refusedHeaders) {
        if (request.headers[name] !== undefined) throw refused(`the header ${refusedHeaders[name]}`);
      }
    }),
  );
});

function refused(what: string): Problem {
  return new Problem('invalid_parameter', `a request must not use what this version does not have. Received: ${what}`);
}
