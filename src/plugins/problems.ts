/** Every error as RFC 9457 problem details: the one place where errors become replies. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { catalogue, Problem, type ProblemCode } from '../errors.ts';
import type { ProblemDetails } from '../schemas/common.ts';
import { validationProblem } from '../schemas/validate.ts';

export const problems = fp(async (app: FastifyInstance) => {
  app.setErrorHandler((error: FastifyError, request, reply) => sendProblem(toProblem(error), request, reply));
  app.setNotFoundHandler((request) => {
    throw routeNotFound(request);
  });
});

export function routeNotFound(request: FastifyRequest): Problem {
  return new Problem(
    'route_not_found',
    `the address must be one of the API's, see /docs. Received: ${request.method} ${pathOf(request)}`,
  );
}

export function sendProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  // Others with such a status (recovering, overloaded) are the server at work, and the request's own line tells them.
  if (problem.status >= 500 && problem.cause !== undefined) {
    request.log.error({ reqId: request.id, err: problem.cause }, problem.message);
  }
  request.problemCode = problem.code;
  return reply
    .status(problem.status)
    .headers(problem.headers)
    .type('application/problem+json')
    .send(problemText(problem, pathOf(request)));
}

/** A problem as it goes out. */
export function problemText(problem: Problem, instance: string): string {
  return JSON.stringify(details(problem, instance));
}

function details(problem: Problem, instance: string): ProblemDetails {
  return {
    type: `/docs/errors#${problem.code}`,
    title: catalogue[problem.code].title,
    status: problem.status,
    detail: problem.message,
    instance,
    code: problem.code,
    ...(problem.errors === undefined ? {} : { errors: problem.errors }),
    applied: problem.applied,
    ...(problem.iterations === undefined ? {} : { iterations: problem.iterations }),
  };
}

/** Fastify's own errors, by their codes, in the words of the catalogue. */
const translated: Record<string, ProblemCode> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_INVALID_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'malformed_body',
  FST_ERR_CTP_EMPTY_TYPE: 'unsupported_media_type',
  FST_ERR_BAD_URL: 'invalid_parameter',
  FST_ERR_MAX_PARAM_LENGTH: 'invalid_parameter',
};

export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const { validation, validationContext, code, message, statusCode } = error as FastifyError;
  if (validation !== undefined)
    return validationProblem(validation as Parameters<typeof validationProblem>[0], validationContext ?? 'body');
  const known = translated[code];
  if (known !== undefined) return new Problem(known, message, { cause: error });
  if (code === 'FST_CP_ERR_INVALID_CONTENT') {
    const rule = 'a body must be compressed as its Content-Encoding says';
    return new Problem('malformed_body', `${rule}. Received: other bytes`, { cause: error });
  }
  if (code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE') {
    return new Problem('malformed_body', 'a body must arrive whole. The connection ended before', { cause: error });
  }
  // What serves the files of /docs forbids addresses that lead out of their folder.
  if (statusCode === 403) {
    return new Problem(
      'route_not_found',
      "the address must be one of the API's, see /docs. Received: one outside them",
    );
  }
  return new Problem('internal', 'the server must not fail here, but did; its log says more under this request', {
    cause: error,
  });
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] as string;
}

/** Answers what cannot even be parsed as HTTP, behind the replies that are `due` on its connection. */
export function answerClientError(
  error: Error & { code?: string },
  socket: Socket,
  due: readonly FastifyReply[],
): void {
  // Of a request that is not complete there is no more to come, and nothing fits into a reply without an end.
  const replies = due.filter(({ request }) => request.raw.complete);
  if (replies.some(({ request }) => request.routeOptions.config.isEndless)) {
    socket.destroy();
    return;
  }
  let left = replies.length;
  const over = () => {
    if (--left === 0) refuse(error, socket);
  };
  for (const { raw } of replies) raw.once('close', over);
  if (left === 0) refuse(error, socket);
}

function refuse(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const problem = new Problem('malformed_body', `a request must be well-formed HTTP/1.1. Received: ${error.message}`);
  const body = problemText(problem, '*');
  const head = `HTTP/1.1 400 ${STATUS_CODES[400]}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n`;
  socket.end(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The code of the problem that answered the request, if one did. */
    problemCode: ProblemCode | undefined;
  }
}
