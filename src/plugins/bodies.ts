/**
 * Request bodies. A body is read chunk by chunk into one piece of memory, at most so much of it, and parsed there; tensors
 * are views of that memory. JSON is left to json-body.ts, safetensors are checked whole.
 */
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../errors.ts';
import type { ArrivedData } from '../journal/arrived-data.ts';
import { dataFileBytesMin, jsonBodyBytesMax, lentBytesMin } from '../limits.ts';
import { bodyPool, copyBytes } from '../tensor/buffer-pool.ts';
import { parseSafetensors, type SafetensorsFile } from '../tensor/safetensors.ts';
import { askForBody } from './expect-continue.ts';
import { parseJson } from './json-body.ts';
import { synchronous } from './synchronous.ts';

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

/** Gives a body's buffer back, when nothing more of it is written. */
function letGo(bytes: Buffer, arrived: ArrivedData | undefined): void {
  if (arrived === undefined) bodyPool.give(bytes);
  else void arrived.discard().then(() => bodyPool.give(bytes));
}

/** Lends memory until the request is answered. Throws `overloaded` and `insufficient_memory`. */
export function lendMemory(reply: FastifyReply, bytes: number): void {
  if (bytes < lentBytesMin) return;
  const giveBack = reply.server.store.memory.lend(bytes);
  // To a client that has gone while its request waited.
  if (reply.raw.destroyed) giveBack();
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
  app.addHook('onSend', ({ body }, _reply, _payload, done) => {
    if (body instanceof SafetensorsBody) body.release();
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
});

/** A parser in Fastify's callback form: `parse` gets the whole body, at most `max` bytes, and owns it; what it throws is passed on. */
function parser(max: number, advice: string, parse: (bytes: Buffer, arrived: ArrivedData | undefined) => unknown) {
  return (
    request: FastifyRequest,
    payload: IncomingMessage,
    done: (error: Error | null, body?: unknown) => void,
  ): void => {
    readBody(request, payload, max, advice, (error, bytes, arrived) => {
      let body: unknown;
      let problem = error;
      try {
        if (bytes !== undefined) body = parse(bytes, arrived);
      } catch (thrown) {
        problem = thrown as Error;
      }
      if (problem === undefined) done(null, body);
      else done(problem);
    });
  };
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

/** The type itself, without parameters. */
export function mediaType(contentType: string): string {
  const end = contentType.indexOf(';');
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}

/** Reads the whole body, decompressed, and calls `done` once. Fails with `body_too_large` as soon as that is known. */
function readBody(
  request: FastifyRequest,
  payload: IncomingMessage,
  max: number,
  advice: string,
  done: (error: Error | undefined, bytes?: Buffer, arrived?: ArrivedData) => void,
): void {
  const length = announcedBytes(request);
  if (length !== undefined && length > max) {
    done(tooLarge(max, `${length} bytes`, advice));
    return;
  }
  askForBody(request);
  let buffer = bodyPool.take(length ?? 65_536);
  let filled = 0;
  const arrived = length === undefined ? undefined : arriving(request, length);
  let checksum = request.headers['idempotency-key'] === undefined ? undefined : 0;
  const grow = (needed: number): void => {
    if (needed > max) throw tooLarge(max, 'more', advice);
    const size = Math.min(max, Math.max(needed, 2 * buffer.length));
    request.lend?.(size);
    const larger = bodyPool.take(size);
    copyBytes(buffer.subarray(0, filled), larger, 0);
    bodyPool.give(buffer);
    buffer = larger;
  };
  /** Nothing more is heard of the body, whatever becomes of its stream. */
  const deafen = (): void => {
    payload
      .off('data', take)
      .off('end', end)
      .off('error', fail)
      .off('close', cut)
      .on('error', () => undefined);
  };
  const fail = (error: Error): void => {
    deafen();
    letGo(buffer, arrived);
    done(error);
  };
  const take = (chunk: Buffer): void => {
    try {
      if (filled + chunk.length > buffer.length) grow(filled + chunk.length);
    } catch (error) {
      fail(error as Error);
      return;
    }
    copyBytes(chunk, buffer, filled);
    filled += chunk.length;
    arrived?.take(buffer, filled);
    if (checksum !== undefined) checksum = crc32(chunk, checksum);
  };
  const end = (): void => {
    deafen();
    request.bodyAt = performance.now();
    if (checksum !== undefined) request.bodyDigest = `${filled}-${checksum.toString(16)}`;
    done(undefined, buffer.subarray(0, filled), arrived);
  };
  const cut = (): void => fail(Object.assign(new Error('aborted'), { code: 'ECONNRESET' }));
  // A body to be decompressed comes paused.
  payload.on('data', take).on('end', end).on('error', fail).on('close', cut).resume();
}

/** Where the body's tensors go while they arrive, if they are a change that a session's journal is to have. */
function arriving(request: FastifyRequest, bytes: number): ArrivedData | undefined {
  if (bytes < dataFileBytesMin || !request.routeOptions.config.isJournaled) return undefined;
  if (mediaType(request.headers['content-type'] as string) === 'application/json') return undefined;
  return request.server.store.begin((request.params as { session: string }).session, bytes);
}

/** The length that the headers give a body; `undefined` where it comes compressed or in chunks, and 0 where there is none. */
export function announcedBytes({ headers }: FastifyRequest): number | undefined {
  if (headers['content-encoding'] !== undefined || headers['transfer-encoding'] !== undefined) return undefined;
  return Number(headers['content-length'] ?? 0);
}

/** What is still to come of the body is not waited for, so the connection cannot be used again. */
function tooLarge(max: number, received: string, advice: string): Problem {
  const detail = `a body must have at most ${max} bytes, decompressed${advice}. Received: ${received}`;
  return new Problem('body_too_large', detail, { headers: { connection: 'close' } });
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether a body in safetensors is a change to the session in the address, whose journal has its tensors. */
    isJournaled?: boolean;
  }
  interface FastifyRequest {
    /** For a body of unknown length: lends memory for so many bytes of it in all. */
    lend: ((bytes: number) => void) | undefined;
    /** When the body's last byte was there, by `performance.now()`. */
    bodyAt: number;
    /** Of a body that came with an idempotency key: its length and CRC-32, as text. */
    bodyDigest: string | undefined;
  }
}
