/** A client that speaks HTTP/2 over TLS: whole calls, each reply held against the OpenAPI document, and streams for what they cannot do. */
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type SecureClientSessionOptions } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { TlsFiles } from '../../src/config.ts';
import { parseSafetensors } from '../../src/tensor/safetensors.ts';
import { type Answer, type Api, type Call, safetensors } from './api.ts';
import { type OpenapiDocument, OpenapiTruth } from './openapi-truth.ts';

const folder = join(import.meta.dirname, '../fixtures/tls');

/** The path of one of the fixtures. */
export function pathOf(name: string): string {
  return join(folder, name);
}

export const ca = readFileSync(pathOf('ca.crt'));
export const serverFiles: TlsFiles = { cert: pathOf('server.crt'), key: pathOf('server.key'), ca: undefined };

export type Fields = Readonly<Record<string, string | number>>;

export class Http2Client {
  readonly session: ClientHttp2Session;
  readonly #truth: OpenapiTruth;

  private constructor(session: ClientHttp2Session, truth: OpenapiTruth) {
    this.session = session;
    this.#truth = truth;
  }

  static async open(
    t: { after(task: () => void): void },
    api: Api,
    options: SecureClientSessionOptions = {},
  ): Promise<Http2Client> {
    const { port } = api.app.server.address() as AddressInfo;
    // Node counts among its memory what a client has written and not sent, and refuses replies beside it.
    const session = connect(`https://localhost:${port}`, {
      ca,
      family: 4,
      maxSessionMemory: 1_000,
      ...options,
    } as SecureClientSessionOptions);
    t.after(() => session.destroy());
    await once(session, 'connect');
    session.on('error', () => undefined);
    return new Http2Client(session, new OpenapiTruth(api.app.swagger() as unknown as OpenapiDocument));
  }

  /** A request whose body is the caller's to write. */
  stream(method: string, path: string, headers: Fields = {}): ClientHttp2Stream {
    const stream = this.session.request(
      { ':method': method, ':path': path, ...headers },
      { endStream: method === 'GET' },
    );
    return stream.on('error', () => undefined);
  }

  async call(method: string, path: string, { json, bytes, headers = {} }: Call = {}): Promise<Answer> {
    const body = json === undefined ? bytes : Buffer.from(JSON.stringify(json));
    const type: Fields =
      body === undefined ? {} : { 'content-type': json === undefined ? safetensors : 'application/json' };
    const length: Fields = body === undefined ? {} : { 'content-length': body.length };
    const stream = this.session.request({ ':method': method, ':path': path, ...type, ...length, ...headers });
    stream.end(body);
    const answer = await replyTo(stream);
    const contentType = answer.headers['content-type']?.split(';', 1)[0];
    this.#truth.check(method, path, { status: answer.status, contentType, bytes: answer.bytes });
    return answer;
  }
}

/** The whole reply, which may come before the request is whole. Rejects where the stream ends without one. */
export async function replyTo(stream: ClientHttp2Stream): Promise<Answer> {
  const chunks: Buffer[] = [];
  const fields = await new Promise((resolve, reject) => {
    let headers: unknown;
    const end = (): void => {
      if (headers === undefined) reject(new Error(`the stream was closed with ${stream.rstCode}`));
      else resolve(headers);
    };
    stream.once('response', (received) => {
      headers = received;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.once('end', end).once('close', end);
  });
  const bytes = Buffer.concat(chunks);
  const { ':status': status, ...headers } = fields as Record<string, string> & { ':status': number };
  return {
    status,
    headers,
    bytes,
    get json() {
      return JSON.parse(bytes.toString());
    },
    get file() {
      return parseSafetensors(bytes);
    },
  };
}

/** Resolves to the code with which the stream was closed. */
export async function closed(stream: ClientHttp2Stream): Promise<number | undefined> {
  if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
  return stream.rstCode;
}

/** The blocks of a stream of events, one by one. */
export class EventBlocks {
  readonly #news = new EventEmitter();
  #text = '';
  isOver = false;

  constructor(stream: ClientHttp2Stream) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
      this.#news.emit('news');
    });
    stream.once('close', () => {
      this.isOver = true;
      this.#news.emit('news');
    });
  }

  /** The next that is no comment and not the greeting; `undefined` at the end. */
  async next(): Promise<{ event: string; data: string } | undefined> {
    for (;;) {
      const end = this.#text.indexOf('\n\n');
      if (end >= 0) {
        const block = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 2);
        const event = /^event: (.*)$/m.exec(block)?.[1];
        if (event !== undefined) return { event, data: /^data: (.*)$/m.exec(block)?.[1] ?? '' };
      } else if (this.isOver) return undefined;
      else await once(this.#news, 'news');
    }
  }
}
