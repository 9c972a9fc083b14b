/**
 * A client's connection that is kept alive: sends one request's bytes, whatever they are, and reads the reply to it, strictly
 * by the rules of HTTP/1.1. Node's own client would not send half of what is to be sent.
 */
import { EventEmitter, once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib';

export interface WireReply {
  readonly status: number;
  /** By names in small letters. */
  readonly headers: Readonly<Record<string, string>>;
  /** Decompressed. Of an endless reply, what had come of it. */
  readonly bytes: Buffer;
}

export interface Outgoing {
  readonly method: string;
  readonly bytes: readonly Uint8Array[];
  /** Nothing follows these bytes on the connection. */
  readonly isLast: boolean;
  /** They end before the request does. */
  readonly isCut: boolean;
}

/**
 * `closed`: the server has ended the connection without a reply. `reset`: it did while the client was still sending, as it may
 * when it has said what it had to say, and what it said is lost.
 */
export type Outcome = WireReply | 'closed' | 'reset';

const decoders: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  gzip: gunzipSync,
  deflate: inflateSync,
  br: brotliDecompressSync,
};

export class Connection {
  readonly #port: number;
  readonly #news = new EventEmitter();
  #socket: Socket | undefined;
  #received = Buffer.alloc(0);
  #isEnded = false;
  #isReset = false;

  constructor(port: number) {
    this.#port = port;
  }

  /** Throws for a reply that is no HTTP. */
  async exchange({ method, bytes, isLast, isCut }: Outgoing, timeoutMs: number): Promise<Outcome> {
    const socket = this.#open();
    for (const part of bytes) socket.write(part);
    if (isCut) socket.end();
    const until = performance.now() + timeoutMs;
    for (;;) {
      const found = this.#parse(method);
      if (found !== undefined) {
        const { reply, length } = found;
        this.#received = this.#received.subarray(length);
        const isOver = isLast || reply.headers.connection === 'close' || isEndless(reply);
        if (!isOver && this.#received.length > 0) throw new Error(`more than one reply: ${this.#received}`);
        if (isOver) this.close();
        return reply;
      }
      if (this.#isEnded) {
        const rest = this.#received;
        this.close();
        if (this.#isReset) return 'reset';
        if (rest.length > 0) throw new Error(`a reply must be whole. Received: ${rest}`);
        return 'closed';
      }
      await this.#wait(until);
    }
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #open(): Socket {
    if (this.#socket !== undefined && !this.#isEnded) return this.#socket;
    this.close();
    this.#received = Buffer.alloc(0);
    this.#isEnded = false;
    this.#isReset = false;
    const socket = connect({ port: this.#port, host: '127.0.0.1', allowHalfOpen: true });
    socket.setNoDelay(true);
    const end = () => {
      if (this.#socket !== socket) return;
      this.#isEnded = true;
      this.#news.emit('news');
    };
    socket.on('data', (chunk) => {
      if (this.#socket !== socket) return;
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#news.emit('news');
    });
    socket.on('end', end).on('close', end);
    socket.on('error', () => {
      if (this.#socket === socket) this.#isReset = true;
      end();
    });
    this.#socket = socket;
    return socket;
  }

  async #wait(until: number): Promise<void> {
    const left = until - performance.now();
    const controller = new AbortController();
    const { signal } = controller;
    const timeout = setTimeout(Math.max(0, left), 'late', { signal }).catch(() => undefined);
    const outcome = await Promise.race([once(this.#news, 'news', { signal }), timeout]).finally(() =>
      controller.abort(),
    );
    if (outcome !== 'late') return;
    this.close();
    throw new Error('a request must be answered in time. Received: nothing');
  }

  /** The reply, if all of it is there, and its length; interim replies are passed over. */
  #parse(method: string): { reply: WireReply; length: number } | undefined {
    const end = this.#received.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const [first = '', ...lines] = this.#received.subarray(0, end).toString('latin1').split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1]);
    if (Number.isNaN(status)) throw new Error(`a reply must begin with its status. Received: ${first}`);
    if (status < 200) {
      this.#received = this.#received.subarray(end + 4);
      return this.#parse(method);
    }
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    const hasNone = method === 'HEAD' || status === 204 || status === 304;
    const rest = this.#received.subarray(end + 4);
    const body = hasNone ? { bytes: rest.subarray(0, 0), length: 0 } : bodyOf(headers, rest);
    if (body === undefined) return undefined;
    const decode = hasNone ? undefined : decoders[headers['content-encoding'] ?? ''];
    const bytes = decode === undefined ? body.bytes : decode(body.bytes);
    return { reply: { status, headers, bytes: Buffer.from(bytes) }, length: end + 4 + body.length };
  }
}

function isEndless({ headers }: WireReply): boolean {
  return headers['content-type']?.startsWith('text/event-stream') === true;
}

function bodyOf(headers: WireReply['headers'], rest: Buffer): { bytes: Buffer; length: number } | undefined {
  if (headers['content-type']?.startsWith('text/event-stream')) return { bytes: rest, length: rest.length };
  if (headers['transfer-encoding'] === 'chunked') return unchunked(rest);
  const length = Number(headers['content-length']);
  if (!Number.isSafeInteger(length))
    throw new Error(`a reply must have a length. Received: ${JSON.stringify(headers)}`);
  return rest.length < length ? undefined : { bytes: rest.subarray(0, length), length };
}

function unchunked(rest: Buffer): { bytes: Buffer; length: number } | undefined {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = rest.indexOf('\r\n', at);
    if (end < 0) return undefined;
    const size = Number.parseInt(rest.subarray(at, end).toString('latin1'), 16);
    at = end + 2 + size + 2;
    if (rest.length < at) return undefined;
    if (size === 0) return { bytes: Buffer.concat(chunks), length: at };
    chunks.push(rest.subarray(end + 2, end + 2 + size));
  }
}
