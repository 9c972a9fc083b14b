/** A connection of a client that writes what it likes when it likes, and reads replies one by one, `100 Continue` among them. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Api, Json } from './api.ts';

export interface RawReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** The body as JSON; throws if it is none. */
  readonly json: Json;
}

export class RawConnection {
  readonly socket: Socket;
  readonly #news = new EventEmitter();
  #received = Buffer.alloc(0);
  #isClosed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => undefined).setNoDelay(true);
    socket.on('data', (bytes) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      this.#news.emit('news');
    });
    socket.once('close', () => {
      this.#isClosed = true;
      this.#news.emit('news');
    });
  }

  static async open(api: Api): Promise<RawConnection> {
    const socket = connect((api.app.server.address() as AddressInfo).port, '127.0.0.1');
    const connection = new RawConnection(socket);
    await once(socket, 'connect');
    return connection;
  }

  write(...parts: (string | Uint8Array)[]): void {
    this.socket.write(Buffer.concat(parts.map((part) => Buffer.from(part as string))));
  }

  /** Whether nothing has come that was not read. */
  get isQuiet(): boolean {
    return this.#received.length === 0;
  }

  /** The next reply. Replies must have a length, or no body. */
  async next(): Promise<RawReply> {
    const end = await this.#until(() => this.#received.indexOf('\r\n\r\n'));
    const [first, ...lines] = this.#received.subarray(0, end).toString('latin1').split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first as string)?.[1]);
    const headers = Object.fromEntries(lines.map((line) => line.toLowerCase().split(/: (.*)/s, 2)));
    const start = end + 4;
    const length = Number(headers['content-length'] ?? 0);
    await this.#until(() => (this.#received.length >= start + length ? 0 : -1));
    const body = this.#received.subarray(start, start + length);
    this.#received = this.#received.subarray(start + length);
    return {
      status,
      headers,
      body,
      get json() {
        return JSON.parse(body.toString());
      },
    };
  }

  /** Resolves when the server has closed the connection. */
  async closed(): Promise<void> {
    while (!this.#isClosed) await once(this.#news, 'news');
  }

  async #until(place: () => number): Promise<number> {
    while (place() < 0) {
      assert.ok(!this.#isClosed, `the connection ended: ${this.#received.toString('latin1').slice(0, 500)}`);
      await once(this.#news, 'news');
    }
    return place();
  }
}

/** A request's header, up to the empty line. */
export function head(method: string, path: string, headers: Readonly<Record<string, string | number>> = {}): string {
  const lines = Object.entries({ host: 'a', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

/** A whole request with JSON. */
export function jsonRequest(method: string, path: string, json: unknown): string {
  const body = JSON.stringify(json);
  return head(method, path, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }) + body;
}
