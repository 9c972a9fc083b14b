/**
 * `Expect: 100-continue`: a client that asks first is told to send its body when all that can be judged without it has been,
 * and the body is about to be read. Node would tell it at once. Who is refused instead need not send it; Node then closes the
 * connection, since nobody can tell whether a body still comes.
 * Any other expectation is refused with a problem, where Node would answer a bare 417.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../../errors.ts';
import { routeNotFound } from '../problems.ts';
import { synchronous } from '../synchronous.ts';

/** Requests whose client has not been told to go on. */
const asking = new WeakMap<IncomingMessage, ServerResponse>();
/** Requests that expect something else. */
const demanding = new WeakSet<IncomingMessage>();

export const expectContinue = fp(async (app: FastifyInstance) => {
  app.connections.onServer((server) => {
    server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      asking.set(request, response);
      server.emit('request', request, response);
    });
    server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
      demanding.add(request);
      server.emit('request', request, response);
    });
  });
  // Of an address that is none, Fastify would read the body first, and may have to say about that.
  app.addHook(
    'onRequest',
    synchronous((request) => {
      if (demanding.has(request.raw)) throw unknownExpectation(request);
      if (request.is404) throw routeNotFound(request);
    }),
  );
});

function unknownExpectation({ headers }: FastifyRequest): Problem {
  return new Problem('invalid_parameter', `Expect must be 100-continue. Received: ${headers.expect}`, {
    // Its client may wait with the body, for what never comes.
    headers: { connection: 'close' },
  });
}

/** The body is wanted. */
export function askForBody({ raw }: FastifyRequest): void {
  asking.get(raw)?.writeContinue();
  asking.delete(raw);
}
