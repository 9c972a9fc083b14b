/**
 * Request bodies. A body is one piece of memory (body-reader.ts), and parsed there; tensors are views of it. JSON is left to
 * json-body.ts, safetensors are checked whole. Where a route takes no body, none is taken, whatever it says it is.
 */
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../../errors.ts';
import type { ArrivedData } from '../../journal/arrived-data.ts';
import { jsonBodyBytesMax, lentBytesMin } from '../../limits.ts';
import { bodyPool } from '../../tensor/buffer-pool.ts';
import { parseSafetensors, type SafetensorsFile } from '../../tensor/safetensors.ts';
import { hasGone } from '../connections/http2.ts';
import { synchronous } from '../synchronous.ts';
import { announcedBytes, letGo, mediaType, readBody } from './body-reader.ts';
import { parseJson } from './json-body.ts';

export const safetensorsTypes = ['application/vnd.safetensors', 'application/octet-stream'] as const;

/** A safetensors body, told apart from any JSON value by its class. */
export class SafetensorsBody {
  readonly file: SafetensorsFile;
  /** What the file's tensors are views of. */
  readonly #bytes: Buffer;
  /** What was written of it meanwhile. */
  readonly arrived: ArrivedData | undefined;
  /** What has to be over before the buffer is anybody else's. */
  readonly #inUse: Promise<unknown>[] = [];
  #released = false;

  /** Owns the bytes from now on. */
  constructor(bytes: Buffer, arrived: ArrivedData | undefined) {
    this.#bytes = bytes;
    this.arrived = arrived;
    try {
      this.file = parseSafetensors(bytes);
    } catch (problem) {
      letGo(bytes, arrived);
      throw problem;
    }
  }

  /** The tensors are looked at until `done` is settled, even if the reply is on its way before. */
  useUntil(done: Promise<unknown>): void {
    this.#inUse.push(done);
  }

  /** Gives the buffer back, once, when the tensors are not looked at any more: the next who has it must not lose it. */
  release(): void {
    if (this.#released || !bodyPool.keeps(this.#bytes)) return;
    this.#released = true;
    const give = () => letGo(this.#bytes, this.arrived);
    if (this.#inUse.length === 0) give();
    else void Promise.allSettled(this.#inUse).then(give);
  }
}

/** Lends memory until the request is answered. Throws `overloaded` and `insufficient_memory`. */
export function lendMemory(reply: FastifyReply, bytes: number): void {
  if (bytes < lentBytesMin) return;
  const giveBack = reply.server.store.memory.lend(bytes);
  // To a client that has gone while its request waited.
  if (hasGone(reply.raw)) giveBack();
  else reply.raw.once('close', giveBack);
}

/** As `lendMemory`, for what grows: each call lends so many bytes in place of those lent before. */
function lendGrowing(reply: FastifyReply): (bytes: number) => void {
  let giveBack: (() => void) | undefined;
  reply.raw.once('close', () => giveBack?.());
  return (bytes) => {
    giveBack?.();
    giveBack = reply.server.store.memory.lend(bytes);
  };
}

export const bodies = fp(async (app: FastifyInstance, { bodyBytesMax }: { bodyBytesMax: number }) => {
  app.removeAllContentTypeParsers();
  app.decorateRequest('lend', undefined);
  app.decorateRequest('bodyDigest', undefined);
  app.decorateRequest('bodyAt', 0);
  app.addHook(
    'onRequest',
    synchronous((request, reply) => {
      checkContentType(request);
      const announced = announcedBytes(request);
      if (announced === undefined) request.lend = lendGrowing(reply);
      else if (announced <= bodyBytesMax) lendMemory(reply, announced);
    }),
  );
  // The handler is done with a body when it replies; if it never does, nobody else gets the buffer.
  app.addHook('onSend', (request, reply, _payload, done) => {
    const { body, headers, raw } = request;
    if (body instanceof SafetensorsBody) body.release();
    // Node takes what was to be decompressed for read, and would never come to the next request behind what is left of it.
    if (headers['content-encoding'] !== undefined && !raw.complete) reply.header('connection', 'close');
    done();
  });
  app.addContentTypeParser(
    ['application/json', 'application/merge-patch+json'],
    parser(
      Math.min(jsonBodyBytesMax, bodyBytesMax),
      '; larger tensors travel as application/vnd.safetensors',
      (bytes) => {
        try {
          return bytes.length === 0 ? undefined : parseJson(bytes);
        } finally {
          bodyPool.give(bytes);
        }
      },
    ),
  );
  app.addContentTypeParser(
    [...safetensorsTypes],
    parser(bodyBytesMax, '', (bytes, arrived) => new SafetensorsBody(bytes, arrived)),
  );
  // Of a route that takes one, `checkContentType` has refused it.
  app.addContentTypeParser('*', (request, _payload, done) => {
    done(announcedBytes(request) === 0 ? null : unwanted(request));
  });
});

/** A parser in Fastify's callback form: `parse` gets the whole body, at most `max` bytes, and owns it; what it throws is passed on. */
function parser(max: number, advice: string, parse: (bytes: Buffer, arrived: ArrivedData | undefined) => unknown) {
  return (
    request: FastifyRequest,
    payload: IncomingMessage,
    done: (error: Error | null, body?: unknown) => void,
  ): void => {
    const isWanted = takesBody(request);
    readBody(request, payload, isWanted ? max : unwantedBytesMax, advice, (error, bytes, arrived) => {
      let body: unknown;
      let problem = error;
      try {
        if (bytes !== undefined) body = parse(bytes, arrived);
      } catch (thrown) {
        problem = thrown as Error;
      }
      if (!isWanted && (problem !== undefined || !isNothing(body))) done(unwanted(request));
      else if (problem === undefined) done(null, body);
      else done(problem);
    });
  };
}

/** `{}` in whatever way it is written. */
const unwantedBytesMax = 64;

export function takesBody({ routeOptions }: FastifyRequest): boolean {
  return routeOptions.schema?.body !== undefined;
}

/** Some clients cannot but send a body: an empty one, or `{}`, is as good as none. */
function isNothing(body: unknown): boolean {
  return body === undefined || JSON.stringify(body) === '{}';
}

/** What is still to come of it is not waited for, so the connection cannot be used again. */
function unwanted({ headers }: FastifyRequest): Problem {
  const received = headers['content-type'] ?? 'one';
  return new Problem('invalid_parameter', `this request must have no body. Received: ${received}`, {
    headers: { connection: 'close' },
  });
}

/**
 * A reply in a pooled buffer, which goes back when the system has the last byte, or the client is gone. To be returned by the
 * handler: a handler that sends it and returns the reply makes Fastify listen for the end of every one.
 */
export function pooledReply(reply: FastifyReply, payload: Buffer | string): Buffer | string {
  if (Buffer.isBuffer(payload)) {
    if (reply.getHeader('content-type') !== 'application/json') leaveUncompressed(reply);
    if (bodyPool.keeps(payload)) reply.raw.once('close', () => bodyPool.give(payload));
  }
  return payload;
}

/** A reply in a pooled buffer of `length` bytes that is sent while it is filled, which is over when `filled` is settled. */
export function streamedReply(
  reply: FastifyReply,
  { bytes, stream }: { bytes: Buffer; stream: Readable },
  filled: Promise<unknown>,
): Readable {
  reply.raw.once('close', () => {
    const give = () => bodyPool.give(bytes);
    filled.then(give, give);
  });
  leaveUncompressed(reply);
  reply.header('content-length', bytes.length);
  return stream;
}

/** For binary replies: the plugin counts application/octet-stream among what shrinks, and lets nobody but the request speak against it. */
function leaveUncompressed({ request }: FastifyReply): void {
  request.raw.headers['x-no-compression'] = '';
}

/** Refuses a format that the route does not take before any of the body is read; no format would mean no validation. */
function checkContentType(request: FastifyRequest): void {
  const body = request.routeOptions.schema?.body as { content?: Record<string, unknown> } | undefined;
  if (body?.content === undefined) return;
  const { 'content-type': received } = request.headers;
  if (received !== undefined && Object.hasOwn(body.content, mediaType(received))) return;
  const known = Object.keys(body.content).join(', ');
  throw new Problem('unsupported_media_type', `Content-Type must be one of ${known}. Received: ${received ?? 'none'}`);
}
