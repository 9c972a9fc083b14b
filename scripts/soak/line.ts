/**
 * The line to a server that is restarted now and then. A call waits while there is none; what needs an answer is sent again, with its
 * key, until it has one. A connection that breaks, or a refusal that nobody expects, while the server is there is a fault.
 */
import { EventEmitter, once } from 'node:events';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Call } from '../../test/support/api.ts';

export interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly bytes: Buffer;
  readonly milliseconds: number;
}

/** As the server under soak is now. */
export interface Target {
  readonly port: number;
  /** What requests come with; undefined for those that bring something else. */
  readonly token: string | undefined;
}

/** What must be answered has this long. */
const patienceMs = 60_000;
const pauseMs = 20;

export class Line {
  readonly faults: string[] = [];
  readonly #agent = new Agent({ keepAlive: true });
  readonly #changes = new EventEmitter().setMaxListeners(0);
  #target: Target | undefined;
  #isOpen = true;

  up(target: Target): void {
    this.#target = target;
    this.#changes.emit('change');
  }

  down(): void {
    this.#target = undefined;
  }

  /** Whether there is a server that has had no reason to break this off since `target` was it. */
  has(target: Target): boolean {
    return this.#target === target;
  }

  /** The server that is there, or will be. */
  async target(): Promise<Target> {
    while (this.#target === undefined) await once(this.#changes, 'change');
    return this.#target;
  }

  close(): void {
    this.#isOpen = false;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  fault(text: string): void {
    if (this.faults.length < 20) this.faults.push(text);
  }

  /** One attempt; `undefined` if it was broken off. */
  async ask(method: string, path: string, call: Call = {}): Promise<Answer | undefined> {
    const target = await this.target();
    const answer = await this.#attempt(target, method, path, call);
    if (answer === undefined && this.has(target)) this.fault(`${method} ${path} was broken off`);
    return answer;
  }

  /** As `ask`, and one of these must be what comes, unless the server cannot serve just now. */
  async expect(statuses: readonly number[], method: string, path: string, call?: Call): Promise<Answer | undefined> {
    const answer = await this.ask(method, path, call);
    if (answer === undefined || isPassing(answer) || statuses.includes(answer.status)) return answer;
    this.fault(`${method} ${path} must be answered with ${statuses}. Received: ${answer.status} ${textOf(answer)}`);
    return answer;
  }

  /** A change, sent until it is answered. `milliseconds` is undefined where that took more than one attempt. */
  async settle(
    method: string,
    path: string,
    call: Call,
  ): Promise<{ answer: Answer; milliseconds: number | undefined }> {
    const since = performance.now();
    for (let attempt = 0; performance.now() - since < patienceMs; attempt++) {
      const answer = await this.ask(method, path, call);
      if (answer !== undefined && !isPassing(answer))
        return { answer, milliseconds: attempt === 0 ? answer.milliseconds : undefined };
      await sleep(pauseMs);
    }
    throw new Error(`${method} ${path} must be answered within ${patienceMs} ms`);
  }

  #attempt(target: Target, method: string, path: string, { json, bytes, headers }: Call): Promise<Answer | undefined> {
    const body = json === undefined ? bytes : Buffer.from(JSON.stringify(json));
    const type = json === undefined ? 'application/vnd.safetensors' : 'application/json';
    const since = performance.now();
    return new Promise((resolve) => {
      const sent = request({
        agent: this.#agent,
        host: '127.0.0.1',
        port: target.port,
        method,
        path,
        headers: {
          ...(body === undefined ? {} : { 'content-type': type, 'content-length': body.length }),
          ...authorization(target),
          ...headers,
        },
      });
      sent.once('error', () => resolve(undefined));
      sent.once('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', () => resolve(undefined));
        response.once('end', () =>
          resolve({
            status: response.statusCode as number,
            headers: response.headers,
            bytes: Buffer.concat(chunks),
            milliseconds: performance.now() - since,
          }),
        );
      });
      sent.end(body);
    });
  }
}

export function authorization({ token }: Target): Record<string, string> {
  return token === undefined ? {} : { authorization: `Bearer ${token}` };
}

export function textOf({ bytes }: Answer): string {
  return bytes.subarray(0, 300).toString();
}

/** Told to come again: nothing was changed. */
function isPassing({ status }: Answer): boolean {
  return status === 503 || status === 429;
}
