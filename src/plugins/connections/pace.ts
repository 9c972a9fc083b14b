/**
 * Who sends or reads too slowly is cut off, since a request that goes on for ever holds memory and a place for ever. What counts
 * is progress: an honest client behind a slow link may take hours for a large body, as long as some of it comes all the time.
 * Time is counted in looks, not by the clock, so a server that stood still blames nobody for it. How long a header may take is
 * listener.ts.
 */
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import fp from 'fastify-plugin';
import type { ConnectionBounds } from '../../config.ts';
import { Problem } from '../../errors.ts';
import { replyPieceBytes } from '../../limits.ts';
import { cutOff, hasGone } from './http2.ts';

/** A body on its way. */
export interface Arrival {
  /** That have come. */
  readonly bytes: () => number;
  /** Ends it. */
  readonly fail: (problem: Problem) => void;
}

interface Progress {
  /** Bytes that had come at the first of these looks, or the least that waited at any of them. */
  bytes: number;
  looks: number;
}

export class Pace {
  readonly #bounds: ConnectionBounds;
  readonly #arrivals = new Map<Arrival, Progress>();
  readonly #stalls = new WeakMap<ServerResponse, Progress>();

  constructor(bounds: ConnectionBounds) {
    this.#bounds = bounds;
  }

  begin(arrival: Arrival): void {
    this.#arrivals.set(arrival, { bytes: 0, looks: 0 });
  }

  end(arrival: Arrival): void {
    this.#arrivals.delete(arrival);
  }

  /** The client has taken a piece. */
  readonly noteTaken = (raw: ServerResponse): void => void this.#stalls.delete(raw);

  look(replies: Iterable<FastifyReply>): void {
    const { bodyMs, bytesPerSecondMin, checkMs } = this.#bounds;
    const bytesMin = Math.max(1, (bytesPerSecondMin * bodyMs) / 1000);
    for (const [arrival, progress] of this.#arrivals) {
      if (++progress.looks * checkMs < bodyMs) continue;
      const bytes = arrival.bytes();
      if (bytes - progress.bytes < bytesMin) arrival.fail(tooSlow(bytesMin, bodyMs, bytes - progress.bytes));
      else this.#arrivals.set(arrival, { bytes, looks: 0 });
    }
    for (const { raw } of replies) if (this.#isStalled(raw)) cutOff(raw);
  }

  /** Whether of what waits for a client nothing was taken for so long as a piece may take. */
  #isStalled(raw: ServerResponse): boolean {
    const bytes = raw.writableLength;
    const progress = this.#stalls.get(raw);
    // What has no socket waits behind another reply.
    if (bytes === 0 || raw.socket === null || hasGone(raw)) this.#stalls.delete(raw);
    else if (progress === undefined || bytes < progress.bytes) this.#stalls.set(raw, { bytes, looks: 0 });
    else return ++progress.looks * this.#bounds.checkMs >= this.#pieceMs;
    return false;
  }

  get #pieceMs(): number {
    const { bodyMs, bytesPerSecondMin } = this.#bounds;
    return Math.max(bodyMs, (replyPieceBytes * 1000) / bytesPerSecondMin);
  }
}

function tooSlow(bytesMin: number, bodyMs: number, bytes: number): Problem {
  const rule = `a body must bring at least ${Math.ceil(bytesMin)} bytes every ${bodyMs / 1000} s until it is whole`;
  return new Problem('request_timeout', `${rule}. Received: ${bytes}`, { headers: { connection: 'close' } });
}

export const pace = fp(async (app: FastifyInstance, { bounds }: { bounds: ConnectionBounds }) => {
  const pace = new Pace(bounds);
  app.decorate('pace', pace);
  const timer = setInterval(() => pace.look(app.replies), bounds.checkMs).unref();
  app.addHook('onClose', async () => clearInterval(timer));
  function noteTaken(this: ServerResponse): void {
    pace.noteTaken(this);
  }
  app.addHook('onSend', (_request, reply, payload, done) => {
    let sent = payload;
    if (isLarge(payload)) {
      reply.header('content-length', Buffer.byteLength(payload));
      sent = pieces(payload);
    }
    if (sent instanceof Readable) reply.raw.on('drain', noteTaken);
    done(null, sent);
  });
});

function isLarge(payload: unknown): payload is Buffer | string {
  return (Buffer.isBuffer(payload) || typeof payload === 'string') && payload.length > replyPieceBytes;
}

/** The bytes in order, one piece after the other as they are taken. They are not copied. */
function pieces(payload: Buffer | string): Readable {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  let sent = 0;
  return new Readable({
    read() {
      this.push(sent === bytes.length ? null : bytes.subarray(sent, Math.min(bytes.length, sent + replyPieceBytes)));
      sent = Math.min(bytes.length, sent + replyPieceBytes);
    },
  });
}

declare module 'fastify' {
  interface FastifyInstance {
    pace: Pace;
  }
}
