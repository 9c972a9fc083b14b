/**
 * A lean client on `node:http`: sends bodies that are there already and counts the bytes that come back, so that next to
 * nothing but the server is measured.
 */
import { Agent, request } from 'node:http';
import type { Work } from './pairs.ts';

export interface Body {
  readonly bytes: Buffer;
  /** Of tensors, the header not counted: no reply may carry less. */
  readonly dataBytes: number;
}

export class Poster {
  readonly #agent: Agent;
  readonly #port: number;
  readonly #path: string;

  constructor(port: number, path: string, connections: number) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
    this.#port = port;
    this.#path = path;
  }

  /** Sends a body and reads the whole reply. Throws unless that is a `200` with as many bytes of data. */
  post(body: Body): Promise<void> {
    const headers = { 'content-type': 'application/vnd.safetensors', 'content-length': body.bytes.length };
    const options = { agent: this.#agent, host: '127.0.0.1', port: this.#port, path: this.#path, headers };
    return new Promise((resolve, reject) => {
      const sent = request({ ...options, method: 'POST' }, (reply) => {
        let received = 0;
        let last: Buffer | undefined;
        reply.on('data', (chunk: Buffer) => {
          received += chunk.length;
          last = chunk;
        });
        reply.on('error', reject);
        reply.on('end', () => {
          if (reply.statusCode !== 200) reject(new Error(`a reply must be 200. Received: ${reply.statusCode} ${last}`));
          else if (received < body.dataBytes)
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
    return async (times) => {
      const start = performance.now();
      for (let k = 0; k < times; k++) {
        await this.post(bodies[next] as Body);
        next = (next + 1) % bodies.length;
      }
      return (performance.now() - start) / 1000;
    };
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
