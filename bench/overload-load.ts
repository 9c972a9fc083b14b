/**
 * A child: pushes over raw connections, so that it costs less than the server that it is to overload. Without a rate each
 * connection sends its next request when it has the reply to the last one, as a worker does. With a rate requests have their
 * times, and what a request took counts from there; one that finds every connection busy is not sent, and counted as such. Who
 * gives the orders: overload.ts.
 */
import { connect, type Socket } from 'node:net';
import { denseBody, denseJsonBody } from './bodies.ts';
import type { Format } from './flood.ts';
import { type Latencies, summary, windowMs } from './latency.ts';

export interface LoadOrder {
  readonly port: number;
  readonly path: string;
  readonly connections: number;
  readonly seconds: number;
  /** Requests a second. */
  readonly rate?: number;
}

export interface LoadReport {
  readonly accepted: number;
  readonly refused: number;
  readonly unsent: number;
  /** Connections that broke, and replies that were neither. */
  readonly failed: number;
  readonly latencies: { readonly accepted: Latencies; readonly refused: Latencies };
  /** p99 of the accepted, by the window of so many milliseconds in which they were answered. */
  readonly windows: readonly number[];
  /** From the start to the last refusal, in milliseconds. */
  readonly lastRefusal: number;
}

const [format, floats] = process.argv.slice(2) as [Format, string];
const body = format === 'json' ? denseJsonBody(Number(floats)) : denseBody(Number(floats));

/** One connection, and the one request on it. */
class Connection {
  #socket: Socket | undefined;
  #since = 0;
  #head: Buffer = Buffer.alloc(0);
  #status = 0;
  /** Of the reply's body; negative while its header is not complete. */
  #missing = -1;
  /** Whether the server takes no more requests on this connection. */
  #isLast = false;
  readonly #load: Load;

  constructor(load: Load) {
    this.#load = load;
  }

  open(): void {
    const socket = connect(this.#load.order.port, '127.0.0.1').setNoDelay(true);
    this.#socket = socket;
    socket.once('connect', () => this.#load.free(this));
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('error', () => undefined);
    socket.once('close', () => {
      if (this.#socket !== socket) return;
      if (this.#since > 0) this.#load.answered(0, this.#since);
      this.#since = 0;
      if (!this.#load.isOver) this.open();
    });
  }

  send(at: number): void {
    this.#since = at;
    this.#missing = -1;
    this.#socket?.write(this.#load.head);
  }

  close(): void {
    this.#socket?.destroy();
  }

  #take(chunk: Buffer): void {
    let rest = chunk.length;
    if (this.#missing < 0) {
      const head = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      this.#head = end < 0 ? head : Buffer.alloc(0);
      if (end < 0) return;
      const text = head.toString('latin1', 0, end);
      if (text.startsWith('HTTP/1.1 100')) {
        this.#socket?.write(body.bytes);
        return;
      }
      this.#status = Number(text.slice(9, 12));
      if (this.#status === 503 && !/retry-after: \d/i.test(text)) this.#status = 0;
      this.#isLast = /connection: close/i.test(text);
      this.#missing = Number(/content-length: (\d+)/i.exec(text)?.[1]);
      rest = head.length - end - 4;
    }
    this.#missing -= rest;
    if (this.#missing > 0) return;
    const since = this.#since;
    this.#since = 0;
    this.#load.answered(this.#status, since);
    if (this.#load.isOver) return;
    if (this.#isLast) this.#socket?.destroy();
    else this.#load.free(this);
  }
}

class Load {
  readonly order: LoadOrder;
  /** What a request begins with: all of it if it is small; a large body is sent when it is wanted, as curl does. */
  readonly head: Buffer;
  isOver = false;
  readonly #start = performance.now();
  readonly #idle: Connection[] = [];
  readonly #taken: Record<'accepted' | 'refused', number[]> = { accepted: [], refused: [] };
  readonly #windows: number[][] = [];
  #unsent = 0;
  #failed = 0;
  #lastRefusal = 0;
  #underWay = 0;

  constructor(order: LoadOrder) {
    this.order = order;
    const isSmall = body.bytes.length < 65_536;
    const length = `content-length: ${body.bytes.length}\r\n${isSmall ? '' : 'expect: 100-continue\r\n'}`;
    const head = `POST ${order.path} HTTP/1.1\r\nhost: a\r\ncontent-type: ${body.type}\r\n${length}\r\n`;
    this.head = isSmall ? Buffer.concat([Buffer.from(head), body.bytes]) : Buffer.from(head);
  }

  async run(): Promise<LoadReport> {
    const connections = Array.from({ length: this.order.connections }, () => new Connection(this));
    for (const connection of connections) connection.open();
    const end = this.#start + this.order.seconds * 1000;
    for (let due = 0; performance.now() < end; ) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const passed = performance.now() - this.#start;
      for (; due < ((this.order.rate ?? 0) * passed) / 1000; due++) this.#sendDue(due);
    }
    this.isOver = true;
    while (this.#underWay > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    for (const connection of connections) connection.close();
    const { accepted, refused } = this.#taken;
    return {
      accepted: accepted.length,
      refused: refused.length,
      unsent: this.#unsent,
      failed: this.#failed,
      latencies: { accepted: summary(accepted), refused: summary(refused) },
      lastRefusal: this.#lastRefusal,
      windows: Array.from(this.#windows, (window = []) => summary(window).p99),
    };
  }

  free(connection: Connection): void {
    if (this.order.rate !== undefined) this.#idle.push(connection);
    else if (!this.isOver) this.#send(connection, performance.now());
  }

  /** `status`: 0 for a request without an answer. */
  answered(status: number, since: number): void {
    const now = performance.now();
    this.#underWay--;
    if (status === 200) {
      this.#taken.accepted.push(now - since);
      const window = Math.floor((now - this.#start) / windowMs);
      this.#windows[window] ??= [];
      this.#windows[window].push(now - since);
    } else if (status === 503) {
      this.#taken.refused.push(now - since);
      this.#lastRefusal = now - this.#start;
    } else this.#failed++;
  }

  #sendDue(nth: number): void {
    const connection = this.#idle.shift();
    if (connection === undefined) this.#unsent++;
    else this.#send(connection, this.#start + (nth * 1000) / (this.order.rate as number));
  }

  #send(connection: Connection, at: number): void {
    this.#underWay++;
    connection.send(at);
  }
}

process.on('message', async (order: LoadOrder) => {
  process.send?.(await new Load(order).run());
});
process.on('disconnect', () => process.exit());
