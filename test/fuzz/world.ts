/**
 * The server that the requests meet: its sessions as an episode begins, what a request can know of them when it is sent, and
 * all of their state that a refusal must leave as it is. Read beside HTTP, since it is looked at after every request.
 */
import assert from 'node:assert/strict';
import type { InjectOptions } from 'fastify';
import { encodeSession } from '../../src/schemas/session.ts';
import type { HeldSession } from '../../src/store/held-session.ts';
import type { Api } from '../support/api.ts';
import { variables } from './known.ts';

export interface SessionState {
  readonly revision: number;
  /** The document without what a checkpoint changes. */
  readonly document: object;
  readonly sha256: string;
  /** Newest first. */
  readonly checkpoints: readonly string[];
  /** Steps and staleness of those that have made steps. */
  readonly workers: readonly object[];
  readonly quarantined: readonly string[];
}

export type WorldState = ReadonlyMap<string, SessionState>;

export class World {
  readonly #api: Api;
  readonly #headers: Readonly<Record<string, string>>;
  #episode = 0;

  /** `headers`: what every request bears. */
  constructor(api: Api, headers: Readonly<Record<string, string>>) {
    this.#api = api;
    this.#headers = headers;
  }

  /** Two new sessions under new names, and no others. `rules`: of the second. */
  async begin(rules: object): Promise<void> {
    const { store } = this.#api;
    for (const { name } of store.list()) await store.delete(name, false, {});
    this.#episode++;
    const specs = variables.map(({ name, dtype, shape }) => [name, { dtype, shape }]);
    const creation = { variables: Object.fromEntries(specs) };
    await this.#call(201, { method: 'PUT', url: `/v1/sessions/alpha-${this.#episode}`, payload: creation });
    const other = { ...creation, ...rules };
    await this.#call(201, { method: 'PUT', url: `/v1/sessions/beta-${this.#episode}`, payload: other });
  }

  /** What the words between tildes stand for in a request to this path. */
  words(path: string): Map<string, string> {
    const words = new Map([['episode', String(this.#episode)]]);
    for (const name of ['alpha', 'beta', 'gamma', 'delta']) words.set(name, `${name}-${this.#episode}`);
    const word = /^\/v1\/sessions\/~(\w+)~/.exec(path)?.[1] ?? 'alpha';
    const held = this.#sessions.find(({ name }) => name === words.get(word));
    words.set('revision', String(held?.revision ?? 1));
    words.set('iterations', String(held?.contents.iterations ?? 0));
    words.set('checkpoint', held?.checkpoints.list[0]?.id ?? 'ckpt-000001');
    words.set('oldest', held?.checkpoints.list.at(-1)?.id ?? 'ckpt-000001');
    return words;
  }

  /** All that there is, when no checkpoint is being written. */
  async state(): Promise<WorldState> {
    const states = this.#sessions.map(async (held) => [held.name, await stateOf(held)] as const);
    return new Map(await Promise.all(states));
  }

  /** Ends the waiting of pushes for other workers, who may never come. Whether there were any. */
  async release(): Promise<boolean> {
    const waiting = this.#sessions.filter(({ workers }) => workers.some((each) => each.waiting));
    for (const { name } of waiting) {
      const payload = { aggregation: { mode: 'async' } };
      await this.#call(200, { method: 'PATCH', url: `/v1/sessions/${name}`, payload });
    }
    return waiting.length > 0;
  }

  get #sessions(): HeldSession[] {
    return this.#api.store.list();
  }

  async #call(status: number, call: InjectOptions): Promise<void> {
    const { statusCode, body } = await this.#api.app.inject({ ...call, headers: this.#headers });
    assert.equal(statusCode, status, body);
  }
}

async function stateOf(held: HeldSession): Promise<SessionState> {
  await held.checkpoints.idle();
  const { sha256 } = await held.fingerprint();
  const { last_checkpoint: _, ...document } = encodeSession(held.view);
  const { workers } = held;
  return {
    revision: held.revision,
    document,
    sha256,
    checkpoints: held.checkpoints.list.map(({ id }) => id),
    workers: workers
      .filter(({ steps }) => steps > 0)
      .map(({ name, steps, meanStaleness, lastStaleness }) => ({ name, steps, meanStaleness, lastStaleness })),
    quarantined: workers.filter(({ quarantined }) => quarantined).map(({ name }) => name),
  };
}
