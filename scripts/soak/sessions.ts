/**
 * Sessions under soak, and their workers: each sends its gradients with keys, and sends them again until they are acknowledged. How
 * many were says how many steps the session must have taken, whatever befell the server.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Call } from '../../test/support/api.ts';
import { body, initialVariables, type Model, models, stream } from '../../test/support/crash-models.ts';
import type { Figures } from './figures.ts';
import { type Line, textOf } from './line.ts';

interface Plan {
  readonly name: string;
  readonly model: Model;
  readonly workers: number;
  /** Between two pushes of a worker. */
  readonly pauseMs: number;
  readonly settings: object;
}

const always = { durability: 'always' };

const plans: readonly Plan[] = [
  { name: 'dense', model: models.small, workers: 8, pauseMs: 40, settings: always },
  { name: 'sparse', model: models.embedding, workers: 4, pauseMs: 50, settings: { durability: 'everysec' } },
  { name: 'rows', model: { ...models.embedding, format: 'safetensors' }, workers: 4, pauseMs: 50, settings: always },
  { name: 'large', model: models.large, workers: 2, pauseMs: 200, settings: always },
  {
    name: 'together',
    model: models.small,
    workers: 3,
    pauseMs: 60,
    settings: { ...always, aggregation: { mode: 'sync', replicas_to_aggregate: 3 } },
  },
];
/** Bodies of a session, taken in turn: to make one costs more than to send it. */
const bodies = 32;

/** Told by a fingerprint: what the state was at an iteration. */
export interface Print {
  readonly iterations: number;
  readonly sha256: string;
}

export class SoakSession {
  readonly name: string;
  readonly path: string;
  readonly #plan: Plan;
  readonly #bodies: readonly Call[];
  /** By worker. */
  readonly #acknowledged: number[];

  constructor(plan: Plan, seed: number) {
    this.name = plan.name;
    this.path = `/v1/sessions/${plan.name}`;
    this.#plan = plan;
    this.#bodies = Array.from({ length: bodies }, (_, k) => body(plan.model, 'gradients', stream(seed, k)));
    this.#acknowledged = Array(plan.workers).fill(0);
  }

  /** The steps that the session must have taken. */
  get steps(): number {
    const each = this.#acknowledged;
    return this.#isTogether ? Math.min(...each) : each.reduce((sum, count) => sum + count, 0);
  }

  async create(line: Line): Promise<void> {
    const variables = initialVariables(this.#plan.model, stream(1));
    await line.expect([201], 'PUT', this.path, { json: { variables, ...this.#plan.settings } });
  }

  /** All workers, until the line is closed; each then has an answer to its last push. */
  async train(line: Line, figures: Figures): Promise<void> {
    await Promise.all(this.#acknowledged.map((_, worker) => this.#work(worker, line, figures)));
  }

  async print(line: Line): Promise<Print | undefined> {
    const answer = await line.expect([200], 'GET', `${this.path}/fingerprint`);
    if (answer?.status !== 200) return undefined;
    const { iterations, sha256 } = JSON.parse(answer.bytes.toString());
    return { iterations, sha256 };
  }

  /** Whether the session was so at that iteration, by its checkpoints and journal. */
  async recall(line: Line, { iterations, sha256 }: Print): Promise<void> {
    const name = `${this.name}-as-it-was`;
    await line.expect([201], 'POST', `${this.path}/fork`, { json: { name, iterations } });
    const answer = await line.expect([200], 'GET', `/v1/sessions/${name}/fingerprint`);
    const found = answer?.status === 200 ? JSON.parse(answer.bytes.toString()).sha256 : 'no answer';
    if (found !== sha256) line.fault(`${this.name} at ${iterations} must be ${sha256}. Received: ${found}`);
    await line.expect([204], 'DELETE', `/v1/sessions/${name}`);
  }

  get #isTogether(): boolean {
    return 'aggregation' in this.#plan.settings;
  }

  async #work(worker: number, line: Line, figures: Figures): Promise<void> {
    for (let nth = 0; line.isOpen || this.#isAwaited(nth); nth++) {
      const query = this.#isTogether ? `?worker=w${worker}&base=${nth}` : `?worker=w${worker}`;
      const call = this.#bodies[(nth * this.#plan.workers + worker) % bodies] as Call;
      const headers = { 'idempotency-key': `${this.name}/${worker}/${nth}` };
      const { answer, milliseconds } = await line.settle('POST', `${this.path}/gradients${query}`, {
        ...call,
        headers,
      });
      if (answer.status !== 200) {
        line.fault(`a push to ${this.name} must be taken. Received: ${answer.status} ${textOf(answer)}`);
        return;
      }
      (this.#acknowledged[worker] as number)++;
      if (milliseconds !== undefined && this.name !== 'large') figures.took('push', milliseconds);
      if (answer.headers['idempotency-replayed'] !== undefined) figures.count('rescued');
      await sleep(this.#plan.pauseMs);
    }
  }

  /** Whether others have begun this step of theirs, and wait for the gradient. */
  #isAwaited(nth: number): boolean {
    return this.#isTogether && this.#acknowledged.some((count) => count > nth);
  }
}

export function soakSessions(): SoakSession[] {
  return plans.map((plan, seed) => new SoakSession(plan, seed));
}
