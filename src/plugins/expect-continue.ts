/**
 * `Expect: 100-continue`: a client that asks first is told to send its body when all that can be judged without it has been,
 * and the body is about to be read. Node would tell it at once. Who is refused instead need not send it; Node then closes the
 * connection, since nobody can tell whether a body still comes.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { routeNotFound } from './problems.ts';
import { synchronous } from './synchronous.ts';

/** Requests whose client has not been told to go on. */
const asking = new WeakMap<IncomingMessage, ServerResponse>();

export const expectContinue = fp(async (app: FastifyInstance) => {
  app.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    asking.set(request, response);
    app.server.emit('request', request, response);
  });
  // Fastify would read the body first.
  app.addHook(
    'onRequest',
    synchronous((request) => {
      if (request.is404 && asking.has(request.raw)) throw routeNotFound(request);
    }),
  );
});

/** The body is wanted. */
export function askForBody({ raw }: FastifyRequest): void {
  asking.get(raw)?.writeContinue();
  asking.delete(raw);
}
