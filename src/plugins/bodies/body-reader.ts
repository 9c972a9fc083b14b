/**
 * A body, from its chunks to one piece of memory: of the length that its headers announce or, where they do not, growing up to
 * what is allowed. What its bytes mean is left to bodies.ts.
 */
import type { IncomingMessage } from 'node:http';
import { crc32 } from 'node:zlib';
import type { FastifyRequest } from 'fastify';
import { Problem } from '../../errors.ts';
import type { ArrivedData } from '../../journal/arrived-data.ts';
import { dataFileBytesMin } from '../../limits.ts';
import { bodyPool, copyBytes } from '../../tensor/buffer-pool.ts';
import { askForBody } from '../connections/expect-continue.ts';

/** Gives a body's buffer back, when nothing more of it is written. */
export function letGo(bytes: Buffer, arrived: ArrivedData | undefined): void {
  if (arrived === undefined) bodyPool.give(bytes);
  else void arrived.discard().then(() => bodyPool.give(bytes));
}

/** The type itself, without parameters. */
export function mediaType(contentType: string): string {
  const end = contentType.indexOf(';');
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}

/** Reads the whole body, decompressed, and calls `done` once. Fails with `body_too_large` as soon as that is known. */
export function readBody(
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
  const arrival = { bytes: () => filled, fail: (problem: Error): void => fail(problem) };
  /** Nothing more is heard of the body, whatever becomes of its stream. */
  const deafen = (): void => {
    request.server.pace.end(arrival);
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
    // Over HTTP/2 a body that is cut ends like any other.
    if (request.raw.aborted || (length !== undefined && filled < length)) {
      cut();
      return;
    }
    deafen();
    request.bodyAt = performance.now();
    if (checksum !== undefined) request.bodyDigest = `${filled}-${checksum.toString(16)}`;
    done(undefined, buffer.subarray(0, filled), arrived);
  };
  const cut = (): void => fail(Object.assign(new Error('aborted'), { code: 'ECONNRESET' }));
  request.server.pace.begin(arrival);
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
export function announcedBytes({ headers, raw }: FastifyRequest): number | undefined {
  const length = headers['content-length'];
  if (headers['content-encoding'] !== undefined || headers['transfer-encoding'] !== undefined) return undefined;
  // Over HTTP/2 any body may come without its length.
  return length === undefined && raw.httpVersionMajor === 2 ? undefined : Number(length ?? 0);
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
