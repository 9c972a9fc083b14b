/**
 * A lean client on `node:http`: sends bodies that are there already and counts the bytes that come back, so that next to
 * nothing but the server is measured.
 */
import { Agent, request } from 'node:http';
import { timed, type Work } from './pairs.ts';

export interface Body {
  readonly type: 'application/json' | 'application/vnd.safetensors';
  readonly bytes: Buffer;
  /** No reply may carry less. Of safetensors: the data, the header not counted. */
  readonly replyBytesMin: number;
}

/** Sees a piece of a reply. `at`: its place in the data of the reply, negative within the header. */
export type Receive = (chunk: Buffer, at: number) => void;

export class Poster {
  readonly #agent: Agent;
  readonly #port: number;
  readonly path: string;

  constructor(port: number, path: string, connections: number) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
    this.#port = port;
    this.path = path;
  }

  /**
   * Sends a body and reads the whole reply, which `receive` sees. Throws unless that is a `200` with enough data. `query` is added
   * to the path.
   */
  post(body: Body, receive: Receive = () => undefined, query = ''): Promise<void> {
    const headers = { 'content-type': body.type, 'content-length': body.bytes.length };
    const options = { agent: this.#agent, host: '127.0.0.1', port: this.#port, path: `${this.path}${query}`, headers };
    return new Promise((resolve, reject) => {
      const sent = request({ ...options, method: 'POST' }, (reply) => {
        let received = 0;
        let last: Buffer | undefined;
        const headerBytes = Number(reply.headers['content-length']) - body.replyBytesMin;
        reply.on('data', (chunk: Buffer) => {
          try {
            receive(chunk, received - headerBytes);
          } catch (error) {
            reply.destroy(error as Error);
          }
          received += chunk.length;
          last = chunk;
        });
        reply.on('error', reject);
        reply.on('end', () => {
          if (reply.statusCode !== 200) reject(new Error(`a reply must be 200. Received: ${reply.statusCode} ${last}`));
          else if (received < body.replyBytesMin)
            reject(new Error(`a reply must carry all data. Received: ${received} bytes`));
          else resolve();
        });
      });
      sent.on('error', reject);
      sent.end(body.bytes);
    });
  }

  /** One request after the other, taking the bodies in turn. */
  inTurn(bodies: readonly Body[]): Work {
    let next = 0;
    return timed(() => this.post(bodies[next++ % bodies.length] as Body));
  }

  /** The same body so many times, on all connections at once. Returns seconds. */
  async flood(body: Body, connections: number, times: number): Promise<number> {
    const start = performance.now();
    let left = times;
    const connection = async (): Promise<void> => {
      while (left-- > 0) await this.post(body);
    };
    await Promise.all(Array.from({ length: connections }, connection));
    return (performance.now() - start) / 1000;
  }
}
