/**
 * Request bodies. A body is read chunk by chunk into one piece of memory, at most so much of it, and parsed there; tensors
 * are views of that memory. JSON is parsed as it stands, safetensors are checked whole.
 */
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../errors.ts';
import { jsonBodyBytesMax } from '../limits.ts';
import { bodyPool } from '../tensor/buffer-pool.ts';
import { parseSafetensors, type SafetensorsFile } from '../tensor/safetensors.ts';

export const safetensorsTypes = ['application/vnd.safetensors', 'application/octet-stream'] as const;

/** A safetensors body, told apart from any JSON value by its class. */
export class SafetensorsBody {
  readonly file: SafetensorsFile;
  /** What the file's tensors are views of. */
  #bytes: Buffer | undefined;

  constructor(bytes: Buffer) {
    this.file = parseSafetensors(bytes);
    this.#bytes = bytes;
  }

  /** Gives the buffer back, once; the tensors must not be looked at any more. */
  release(): void {
    if (this.#bytes !== undefined) bodyPool.give(this.#bytes);
    this.#bytes = undefined;
  }
}

export const bodies = fp(async (app: FastifyInstance, { bodyBytesMax }: { bodyBytesMax: number }) => {
  app.removeAllContentTypeParsers();
  app.addHook('onRequest', async (request) => checkContentType(request));
  // The handler is done with a body when it replies; if it never does, nobody else gets the buffer.
  app.addHook('onSend', async ({ body }) => {
    if (body instanceof SafetensorsBody) body.release();
  });
  app.addContentTypeParser(
    ['application/json', 'application/merge-patch+json'],
    async (request: FastifyRequest, payload: IncomingMessage) => {
      const max = Math.min(jsonBodyBytesMax, bodyBytesMax);
      const bytes = await readBody(request, payload, max, '; larger tensors travel as application/vnd.safetensors');
      return bytes.length === 0 ? undefined : parseJson(bytes);
    },
  );
  app.addContentTypeParser([...safetensorsTypes], async (request: FastifyRequest, payload: IncomingMessage) => {
    return new SafetensorsBody(await readBody(request, payload, bodyBytesMax, ''));
  });
});

/** Sends a large reply from a pooled buffer, which goes back when the last byte has been handed to the system. */
export function sendPooled(reply: FastifyReply, payload: Buffer | string): FastifyReply {
  if (Buffer.isBuffer(payload)) reply.raw.once('finish', () => bodyPool.give(payload));
  return reply.send(payload);
}

/** Refuses a format that the route does not take before any of the body is read; no format would mean no validation. */
function checkContentType(request: FastifyRequest): void {
  const body = request.routeOptions.schema?.body as { content?: Record<string, unknown> } | undefined;
  if (body?.content === undefined) return;
  const { 'content-type': received } = request.headers;
  const type = received?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== undefined && Object.hasOwn(body.content, type)) return;
  const known = Object.keys(body.content).join(', ');
  throw new Problem('unsupported_media_type', `Content-Type must be one of ${known}. Received: ${received ?? 'none'}`);
}

function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Problem('malformed_body', 'a JSON body must be UTF-8. Received: other bytes', { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? cause.message : 'it is nested too deep';
    throw new Problem('malformed_body', `a JSON body must be well-formed. Received: ${reason}`, { cause });
  }
}

/** The whole body, decompressed. Throws `body_too_large` as soon as it is known to be. */
async function readBody(
  request: FastifyRequest,
  payload: IncomingMessage,
  max: number,
  advice: string,
): Promise<Buffer> {
  const encoded = request.headers['content-encoding'] !== undefined;
  const announced = Number(request.headers['content-length'] ?? Number.NaN);
  const length = encoded || Number.isNaN(announced) ? undefined : announced;
  if (length !== undefined && length > max) throw tooLarge(max, `${length} bytes`, advice);
  let buffer = bodyPool.take(length ?? 65_536);
  let filled = 0;
  for await (const chunk of payload as AsyncIterable<Buffer>) {
    const needed = filled + chunk.length;
    if (needed > max) throw tooLarge(max, 'more', advice);
    if (needed > buffer.length) {
      const larger = bodyPool.take(Math.min(max, Math.max(needed, 2 * buffer.length)));
      larger.set(buffer.subarray(0, filled));
      buffer = larger;
    }
    buffer.set(chunk, filled);
    filled = needed;
  }
  return buffer.subarray(0, filled);
}

/** What is still to come of the body is not waited for, so the connection cannot be used again. */
function tooLarge(max: number, received: string, advice: string): Problem {
  return new Problem(
    'body_too_large',
    `a body must have at most ${max} bytes, decompressed${advice}. Received: ${received}`,
    {
      headers: { connection: 'close' },
    },
  );
}
