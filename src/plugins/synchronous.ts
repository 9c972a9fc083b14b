/**
 * Hooks that wait for nothing, in Fastify's callback form, which spares every request a promise for each. Fastify does not
 * catch what such a hook throws; here it is passed on.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';

type Hook = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void;

/** `task` as a hook; what it throws becomes the reply. */
export function synchronous(task: (request: FastifyRequest, reply: FastifyReply) => void): Hook {
  return (request, reply, done) => {
    let thrown: Error | undefined;
    try {
      task(request, reply);
    } catch (error) {
      thrown = error as Error;
    }
    done(thrown);
  };
}
