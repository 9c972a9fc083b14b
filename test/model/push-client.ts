/** A push over a connection of its own, whose client can hang up while it waits. */
import { once } from 'node:events';
import { type ClientRequest, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { encodeFile, f32, f64, i64, type Json, safetensors } from '../support/api.ts';
import { type Gradients, type Shapes, widthOf } from './plain-reduction.ts';
import type { Push } from './shared-session.ts';

export interface Format {
  readonly isFile: boolean;
  readonly isMinimal: boolean;
}

export interface Answered {
  readonly status: number;
  readonly isReplayed: boolean;
  readonly json: Json;
}

export class PushClient {
  readonly push: Push;
  /** `undefined`: none yet. */
  answered: Answered | undefined;
  /** Why there is none and will not be. */
  error: Error | undefined;
  readonly sent = performance.now();
  /** Resolves when there is an answer, or why there is none. */
  readonly over: Promise<void>;
  readonly #request: ClientRequest;
  readonly #sockets: ReadonlyMap<number, Socket>;

  constructor(server: Server, sockets: ReadonlyMap<number, Socket>, path: string, push: Push, call: Call) {
    this.push = push;
    this.#sockets = sockets;
    const { port } = server.address() as AddressInfo;
    const { headers, body } = call;
    this.#request = httpRequest({ host: '127.0.0.1', port, path, method: 'POST', headers, agent: false });
    this.#request.end(body);
    this.over = this.#receive().catch((error: Error) => {
      this.error = error;
    });
  }

  /** Whether the server knows of it. */
  get hasArrived(): boolean {
    return this.#served !== undefined;
  }

  /** Resolves when the server has seen that nobody is there any more. */
  async hangUp(): Promise<void> {
    const served = this.#served;
    const closed = served === undefined || served.closed ? undefined : once(served, 'close');
    this.drop();
    await closed;
  }

  drop(): void {
    this.#request.destroy();
  }

  get #served(): Socket | undefined {
    return this.#sockets.get(this.#request.socket?.localPort as number);
  }

  async #receive(): Promise<void> {
    const [response] = await once(this.#request, 'response');
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk);
    this.answered = {
      status: response.statusCode,
      isReplayed: response.headers['idempotency-replayed'] === 'true',
      json: JSON.parse(Buffer.concat(chunks).toString()),
    };
  }
}

/** The server's ends of the connections that a request has come over, by the clients' ports. */
export function watchSockets(server: Server): Map<number, Socket> {
  const sockets = new Map<number, Socket>();
  server.on('request', ({ socket }) => {
    const port = socket.remotePort as number;
    sockets.set(port, socket);
    socket.once('close', () => sockets.delete(port));
  });
  return sockets;
}

type Call = ReturnType<typeof callOf>;

export function callOf({ gradients, key, ifMatch }: Push, { isFile, isMinimal }: Format, shapes: Shapes) {
  const headers = {
    'content-type': isFile ? safetensors : 'application/json',
    accept: 'application/json',
    ...(isMinimal ? { prefer: 'return=minimal' } : {}),
    ...(key === undefined ? {} : { 'idempotency-key': key }),
    ...(ifMatch === undefined ? {} : { 'if-match': `"${ifMatch}"` }),
  };
  return { headers, body: isFile ? fileOf(gradients, shapes) : `{"gradients":${jsonOf(gradients)}}` };
}

function fileOf(gradients: Gradients, shapes: Shapes): Buffer {
  const tensors: Record<string, Tensor> = {};
  for (const [name, { values, indices }] of Object.entries(gradients)) {
    const { dtype, shape } = shapes[name] as Shapes[string];
    const of = dtype === 'F32' ? f32 : f64;
    if (indices === undefined) tensors[name] = of(values, shape);
    else {
      tensors[`${name}:indices`] = i64(indices);
      tensors[`${name}:values`] = of(values, [indices.length, ...shape.slice(1)]);
    }
  }
  return encodeFile(tensors);
}

function jsonOf(gradients: Gradients): string {
  const members = Object.entries(gradients).map(([name, { values, indices }]) => {
    const width = indices === undefined ? 0 : widthOf([0, values.length / indices.length]);
    const rows = indices?.map((_, k) => numbersOf(values.slice(k * width, (k + 1) * width)));
    const given =
      rows === undefined ? `"values":${numbersOf(values)}` : `"indices":${JSON.stringify(indices)},"values":[${rows}]`;
    return `${JSON.stringify(name)}:{${given}}`;
  });
  return `{${members}}`;
}

/** JSON.stringify would make a 0 of -0. */
function numbersOf(values: readonly number[]): string {
  return `[${values.map((x) => (Object.is(x, -0) ? '-0.0' : x))}]`;
}
