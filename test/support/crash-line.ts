/**
 * The line to a server that keeps being killed: a request is sent again, with its key, until it is answered, as a client
 * does that was told nothing, or that the server cannot serve just now.
 */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer, Call } from './api.ts';
import type { ServerProcess } from './server-process.ts';

export interface Request {
  readonly method: string;
  readonly path: string;
  readonly call?: Call;
  /** None for what changes nothing. */
  readonly key?: string;
}

/** `twice`: a second time while the first is under way. `impatient`: the client hangs up, and asks again. */
export type Manner = 'once' | 'twice' | 'impatient';

export interface Reply {
  readonly answer: Answer;
  /** The server says that it had answered, or applied, this before. */
  readonly replayed: boolean;
}

const patienceMs = 30_000;
const pauseMs = 10;
/** Nothing that the server must answer so has been applied, or it will be found by its key. */
const comeAgain: readonly unknown[] = ['recovering', 'shutting_down', 'overloaded'];

export class Line {
  /**
   * `lost`: without an answer when the server went; afterwards `rescued`, if the retry found it applied, or `redone`.
   * `turnedAway`: told to come again.
   */
  readonly counts = { answered: 0, replayed: 0, lost: 0, rescued: 0, redone: 0, turnedAway: 0, hungUp: 0 };
  readonly #changes = new EventEmitter().setMaxListeners(0);
  #server: ServerProcess | undefined;
  #closed = false;

  /** From now on requests go to this server. */
  up(server: ServerProcess): void {
    this.#server = server;
    this.#changes.emit('change');
  }

  /** From now on requests wait for the next server; those that are under way go on. */
  down(): void {
    this.#server = undefined;
  }

  /** Fails what is sent from now on, and what waits. */
  close(): void {
    this.#closed = true;
    this.#changes.emit('change');
  }

  ask(request: Request): Promise<Reply> {
    return this.#settle(request);
  }

  /** The replies, two if it was sent twice. */
  async send(request: Request, manner: Manner = 'once', momentMs = 0): Promise<readonly [Reply, ...Reply[]]> {
    if (manner !== 'twice') return [await this.#settle(request, manner === 'impatient' ? momentMs : undefined)];
    const again = sleep(momentMs).then(() => this.#settle(request));
    return Promise.all([this.#settle(request), again]);
  }

  async #settle(request: Request, hangUpMs?: number): Promise<Reply> {
    let lost = false;
    for (let attempt = 0; ; attempt++) {
      const server = await this.#next();
      const answer = await attemptOn(server, request, attempt === 0 ? hangUpMs : undefined);
      if (answer === 'hung up') this.counts.hungUp++;
      else if (answer === 'lost') {
        // One that never reached a server is not lost.
        if (this.#server !== server) lost = true;
      } else if (answer.status === 503 && comeAgain.includes(answer.json.code)) {
        assert.ok(Number(answer.headers['retry-after']) > 0, 'a 503 must say when to come again');
        this.counts.turnedAway++;
      } else return this.#count(answer, lost);
      await sleep(pauseMs);
    }
  }

  #count(answer: Answer, lost: boolean): Reply {
    const header = answer.headers['idempotency-replayed'];
    assert.ok(header === undefined || header === 'true', `Idempotency-Replayed must be true. Received: ${header}`);
    const replayed = header === 'true';
    this.counts.answered++;
    if (replayed) this.counts.replayed++;
    if (lost) {
      this.counts.lost++;
      this.counts[replayed ? 'rescued' : 'redone']++;
    }
    return { answer, replayed };
  }

  async #next(): Promise<ServerProcess> {
    for (;;) {
      if (this.#closed) throw new Error('the line is closed');
      if (this.#server !== undefined) return this.#server;
      await once(this.#changes, 'change');
    }
  }
}

async function attemptOn(
  server: ServerProcess,
  { method, path, call = {}, key }: Request,
  hangUpMs = patienceMs,
): Promise<Answer | 'lost' | 'hung up'> {
  const headers = { ...call.headers, ...(key === undefined ? {} : { 'idempotency-key': key }) };
  try {
    return await server.call(method, path, { ...call, headers, signal: AbortSignal.timeout(hangUpMs) });
  } catch (error) {
    if (isTimeout(error)) {
      if (hangUpMs < patienceMs) return 'hung up';
      throw new Error(`${method} ${path} must be answered within ${patienceMs} ms, key ${key}`, { cause: error });
    }
    if (error instanceof TypeError && ['fetch failed', 'terminated'].includes(error.message)) return 'lost';
    throw error;
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError';
}
