// A client of adamax-server in one class: what a worker needs, and nothing but `fetch`. All it knows is where the server
// is and what the session is called. Tensors travel as safetensors, both ways (safetensors.ts).

import { decode, encode, type Floats, type Integers, type Tensors } from './safetensors.ts';

/** All variables of a session, and the step that they stand at. */
export interface Variables {
  tensors: Tensors;
  iterations: number;
}

/** Rows of a matrix: row `indices[i]` is the i-th stretch of `values`. */
export interface Rows {
  indices: Integers;
  values: Floats;
}

/** Who pushes, and the `iterations` of the variables that the gradients were computed from. */
export interface PushOptions {
  worker: string;
  base: number;
  /** The gradients' own: a push that is sent again with the same one is applied once. */
  key?: string;
}

/** What `listWorkers` tells of a worker: steps it had a part in, how stale its gradients were, and how many were refused. */
export interface WorkerState {
  name: string;
  steps: number;
  mean_staleness: number | null;
  rejected: number;
}

/** What the server refuses a request with (RFC 9457 problem details). */
export class Problem extends Error {
  /** What it is, for programs: `gradient_stale`, `aggregation_timeout`, … */
  readonly code: string | undefined;
  /** Where the session stands, for who is behind it. */
  readonly iterations: number | undefined;

  constructor(message: string, { code, iterations }: { code?: string; iterations?: number }) {
    super(message);
    this.code = code;
    this.iterations = iterations;
  }
}

const SAFETENSORS = 'application/vnd.safetensors';

export class AdamaxClient {
  readonly #session: string;

  constructor(url: string, session: string) {
    this.#session = `${url}/v1/sessions/${encodeURIComponent(session)}`;
  }

  /** Creates the session: `{variables: {name: {shape, initializer}}, optimizer: {class_name, config}}`. */
  async createSession(definition: object): Promise<void> {
    await this.#request('PUT', '', JSON.stringify(definition), { 'content-type': 'application/json' });
  }

  async deleteSession(): Promise<void> {
    await this.#request('DELETE', '');
  }

  /** All workers that have pushed, by name. */
  async listWorkers(): Promise<WorkerState[]> {
    const response = await this.#request('GET', '/workers');
    return ((await response.json()) as { workers: WorkerState[] }).workers;
  }

  /** All variables, whole. */
  async pull(): Promise<Variables> {
    return variablesOf(await this.#request('GET', '/variables', undefined, { accept: SAFETENSORS }));
  }

  /** One step of dense gradients, named as their variables. The reply brings the updated variables. */
  async pushGradients(gradients: Tensors, options: PushOptions): Promise<Variables> {
    return variablesOf(await this.#push(gradients, options));
  }

  /** Some rows of some variables, in the order asked for. */
  async lookup(indices: Record<string, Integers>): Promise<{ rows: Record<string, Rows>; iterations: number }> {
    const query: Tensors = {};
    for (const [name, data] of Object.entries(indices)) query[`${name}:indices`] = { shape: [data.length], data };
    const response = await this.#request('POST', '/lookup', encode(query), { 'content-type': SAFETENSORS });
    const { tensors, iterations } = await variablesOf(response);
    const rows: Record<string, Rows> = {};
    for (const [name, wanted] of Object.entries(indices)) {
      rows[name] = { indices: wanted, values: tensors[`${name}:values`]?.data as Floats };
    }
    return { rows, iterations };
  }

  /** One step of sparse gradients: only the rows named are touched. Asks for no values back; returns `iterations`. */
  async pushSparseGradients(gradients: Record<string, Rows>, options: PushOptions): Promise<number> {
    const tensors: Tensors = {};
    for (const [name, { indices, values }] of Object.entries(gradients)) {
      tensors[`${name}:indices`] = { shape: [indices.length], data: indices };
      tensors[`${name}:values`] = { shape: [indices.length, values.length / indices.length], data: values };
    }
    return (await variablesOf(await this.#push(tensors, options, { prefer: 'return=minimal' }))).iterations;
  }

  #push(tensors: Tensors, { worker, base, key }: PushOptions, headers: Record<string, string> = {}): Promise<Response> {
    const path = `/gradients?worker=${encodeURIComponent(worker)}&base=${base}`;
    const own = key === undefined ? {} : { 'idempotency-key': key };
    return this.#request('POST', path, encode(tensors), { 'content-type': SAFETENSORS, ...own, ...headers });
  }

  async #request(
    method: string,
    path: string,
    body?: string | Uint8Array<ArrayBuffer>,
    headers?: Record<string, string>,
  ): Promise<Response> {
    const response = await fetch(this.#session + path, { method, body: body ?? null, headers: headers ?? {} });
    if (!response.ok) throw await problemOf(response, method);
    return response;
  }
}

async function problemOf(response: Response, method: string): Promise<Problem> {
  const text = await response.text();
  const isProblem = response.headers.get('content-type')?.startsWith('application/problem+json');
  return new Problem(`${method} ${response.url}: ${response.status} ${text}`, isProblem ? JSON.parse(text) : {});
}

async function variablesOf(response: Response): Promise<Variables> {
  const { tensors, metadata } = decode(await response.arrayBuffer());
  return { tensors, iterations: Number(metadata.iterations) };
}
