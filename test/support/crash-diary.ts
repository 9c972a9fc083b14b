/**
 * Sessions of one client that does one thing after the other, of every kind that changes something: create, push, assign,
 * patch, checkpoint, restore, fork, delete. So the order is known beforehand, and each answer too: what is in the diary
 * happened once, and the same diary on a server that is left alone must be answered the same.
 */
import assert from 'node:assert/strict';
import type { Answer } from './api.ts';
import { digestOf, headOf, succeeded } from './crash-answers.ts';
import type { Line, Reply, Request } from './crash-line.ts';
import { below, body, initialVariables, type Model, pick, type Random, stream } from './crash-models.ts';
import type { ServerProcess } from './server-process.ts';

type Kind = 'create' | 'push' | 'assign' | 'slots' | 'patch' | 'checkpoint' | 'restore' | 'fork' | 'delete' | 'look';

interface Entry {
  readonly nth: number;
  readonly kind: Kind;
  readonly session: string;
  readonly model: Model;
  /** Of a fork: the new session's name. Of a restore: the number of the checkpoint's entry. Of a patch: itself. */
  readonly what?: string | number | object;
  /** What the answer said of counter and rate (or fingerprint), and of the values; the latter from a first answer. */
  told?: string;
  digest?: string;
}

/** A session, as the diary has it. */
interface Page {
  readonly model: Model;
  durability: string;
  iterations: number;
  steps: number;
  /** Checkpoints that can be restored: entries, with the counter that they hold and the steps when they were written. */
  saved: { nth: number; iterations: number; steps: number }[];
  pushes: Entry[];
}

export interface DiaryPlan {
  readonly name: string;
  readonly seed: number;
  readonly models: readonly Model[];
}

/** Often by rule; and so many kept that those written on demand can still be restored. */
const checkpointing = { every_steps: 7, every_seconds: null, keep: 60 };
const restorable = { steps: 100, checkpoints: 3 };
const statuses: Partial<Record<Kind, number>> = { create: 201, fork: 201, checkpoint: 201, delete: 204 };
/** Repeated, if asked for; as many of each as its share of what is done. */
const kinds: readonly (Kind | 'repeat')[] = [
  ...Array<Kind>(24).fill('push'),
  ...(['assign', 'slots', 'patch', 'patch', 'checkpoint', 'checkpoint', 'restore', 'fork', 'delete', 'look'] as const),
  ...(['look', 'repeat', 'repeat', 'repeat'] as const),
];

export class Diary {
  readonly #plan: DiaryPlan;
  readonly #random: Random;
  readonly #names: readonly string[];
  readonly #entries: Entry[] = [];
  readonly #pages = new Map<string, Page>();
  /** Of checkpoints, by their entries. */
  readonly #ids = new Map<number, string>();

  constructor(plan: DiaryPlan) {
    this.#plan = plan;
    this.#random = stream(plan.seed, 3);
    this.#names = ['a', 'b', 'c'].map((letter) => `${plan.name}-${letter}`);
  }

  get entries(): number {
    return this.#entries.length;
  }

  /** Does the next thing. */
  async write(line: Line): Promise<void> {
    const random = this.#random;
    const session = pick(random, this.#names);
    const page = this.#pages.get(session);
    const kind = page === undefined ? 'create' : pick(random, kinds);
    const manner = pick(random, ['once', 'once', 'once', 'twice', 'impatient'] as const);
    const momentMs = 1 + below(random, 5);
    if (kind === 'repeat') return this.#repeat(line, page?.pushes ?? []);
    const entry = this.#draw(kind, session, page);
    if (entry === undefined) return;
    const request = this.#request(entry, this.#ids);
    const replies = await line.send(request, manner, momentMs);
    for (const reply of replies) this.#note(entry, request, reply, page);
    this.#turn(entry, replies[0].answer, page);
    this.#entries.push(entry);
  }

  /** All sessions that there are, as they are now. */
  async look(line: Line): Promise<readonly string[]> {
    const told: string[] = [];
    for (const [session, page] of this.#pages) {
      const entry: Entry = { nth: this.#entries.length, kind: 'look', session, model: page.model };
      const request = this.#request(entry, this.#ids);
      this.#note(entry, request, await line.ask(request), page);
      this.#entries.push(entry);
      told.push(`${session} ${entry.told}`);
    }
    return told;
  }

  async delete(line: Line): Promise<void> {
    for (const [session, { model }] of this.#pages) {
      const entry: Entry = { nth: this.#entries.length, kind: 'delete', session, model };
      const request = this.#request(entry, this.#ids);
      for (const { answer } of await line.send(request, 'twice', 1)) succeeded(request, answer, 204);
      this.#entries.push(entry);
    }
  }

  /** Deletes what is left on the server of the retracing. */
  async forget(server: ServerProcess): Promise<void> {
    for (const session of this.#pages.keys()) await server.call('DELETE', `/v1/sessions/${session}`);
  }

  async retrace(server: ServerProcess): Promise<void> {
    const ids = new Map<number, string>();
    for (const entry of this.#entries) {
      const request = this.#request(entry, ids);
      const answer = await server.call(request.method, request.path, request.call);
      succeeded(request, answer, statuses[entry.kind]);
      const where = `${entry.session}: ${request.key ?? `${request.path} after entry ${entry.nth - 1}`}`;
      assert.equal(entry.told, told(entry, request, answer), `${where} was answered otherwise`);
      if (entry.digest !== undefined)
        assert.equal(entry.digest, digestOf(answer), `${where} was answered with other values`);
      if (entry.kind === 'checkpoint') ids.set(entry.nth, answer.json.id);
    }
  }

  #draw(kind: Kind, session: string, page: Page | undefined): Entry | undefined {
    const random = this.#random;
    const entry = { nth: this.#entries.length, kind, session, model: page?.model ?? pick(random, this.#plan.models) };
    if (kind === 'patch') return { ...entry, what: drawPatch(random) };
    if (kind === 'fork') {
      const what = this.#names.find((name) => !this.#pages.has(name));
      return what === undefined ? undefined : { ...entry, what };
    }
    if (kind === 'restore') {
      const recent = page?.saved.filter(({ steps }) => page.steps - steps <= restorable.steps) ?? [];
      return recent.length === 0
        ? undefined
        : { ...entry, what: pick(random, recent.slice(-restorable.checkpoints)).nth };
    }
    return entry;
  }

  async #repeat(line: Line, pushes: readonly Entry[]): Promise<void> {
    if (pushes.length === 0) return;
    const entry = pick(this.#random, pushes.slice(-1000));
    const request = this.#request(entry, this.#ids);
    const { answer, replayed } = await line.ask(request);
    assert.ok(replayed, `${request.key} was answered before, and is not replayed`);
    assert.equal(told(entry, request, answer), entry.told, `${request.key} was answered otherwise before`);
  }

  /** Holds an answer against the diary so far. */
  #note(entry: Entry, request: Request, { answer, replayed }: Reply, page: Page | undefined): void {
    succeeded(request, answer, statuses[entry.kind]);
    const now = told(entry, request, answer);
    entry.told ??= now;
    assert.equal(now, entry.told, `${request.key} was answered otherwise before`);
    const iterations = this.#expected(entry, page);
    if (entry.kind !== 'delete') {
      assert.equal(
        Number(now.split(' ')[0]),
        iterations,
        `${entry.session}: the counter in the answer to ${request.key}`,
      );
    }
    if (entry.kind === 'checkpoint') {
      const id = this.#ids.get(entry.nth) ?? answer.json.id;
      assert.equal(answer.json.id, id, `${request.key} was answered with another checkpoint before`);
      this.#ids.set(entry.nth, id);
    }
    if (entry.kind !== 'push' || replayed) return;
    assert.equal(entry.digest, undefined, `${request.key} was answered as new twice`);
    entry.digest = digestOf(answer);
    assert.equal(answer.headers.durability, page?.durability, `${request.key}: Durability`);
  }

  #expected({ kind, what }: Entry, page: Page | undefined): number {
    const now = page?.iterations ?? 0;
    if (kind === 'push') return now + 1;
    if (kind === 'restore') return page?.saved.find(({ nth }) => nth === what)?.iterations ?? now;
    if (kind === 'patch') return (what as { iterations?: number }).iterations ?? now;
    return now;
  }

  /** What is true after it. */
  #turn(entry: Entry, answer: Answer, page: Page | undefined): void {
    const { kind, session, model, what, nth } = entry;
    const iterations = this.#expected(entry, page);
    if (kind === 'delete') this.#pages.delete(session);
    if (kind === 'create' || kind === 'fork') {
      const { durability } = answer.json;
      const name = kind === 'fork' ? (what as string) : session;
      this.#pages.set(name, { model, durability, iterations, steps: 0, saved: [], pushes: [] });
    }
    if (page === undefined) return;
    page.iterations = iterations;
    if (kind === 'checkpoint') page.saved.push({ nth, iterations, steps: page.steps });
    if (kind === 'patch' || kind === 'restore') page.durability = answer.json.durability;
    if (kind !== 'push') return;
    page.steps++;
    page.pushes.push(entry);
  }

  /** `ids`: of checkpoints, on the server that it goes to, by their entries. */
  #request(entry: Entry, ids: ReadonlyMap<number, string>): Request {
    const { nth, kind, session, model, what } = entry;
    const random = stream(this.#plan.seed, 4, nth);
    const path = `/v1/sessions/${session}`;
    const key = `${session}/${this.#plan.seed}/${kind}/${nth}`;
    if (kind === 'create') {
      const durability = pick(random, ['always', 'everysec']);
      const json = { variables: initialVariables(model, random), durability, checkpointing };
      return { method: 'PUT', path, call: { json }, key };
    }
    if (kind === 'push') {
      const call = { ...body(model, 'gradients', random), headers: random() < 0.5 ? { prefer: 'return=minimal' } : {} };
      return { method: 'POST', path: `${path}/gradients`, call, key };
    }
    if (kind === 'assign' || kind === 'slots') {
      const part = kind === 'assign' ? 'variables' : 'slots/m';
      return { method: 'PUT', path: `${path}/${part}`, call: body(model, 'variables', random), key };
    }
    if (kind === 'patch') return { method: 'PATCH', path, call: { json: what }, key };
    if (kind === 'checkpoint') return { method: 'POST', path: `${path}/checkpoints`, key };
    if (kind === 'restore')
      return { method: 'POST', path: `${path}/checkpoints/${ids.get(what as number)}/restore`, key };
    if (kind === 'fork') return { method: 'POST', path: `${path}/fork`, call: { json: { name: what } }, key };
    if (kind === 'delete') return { method: 'DELETE', path, key };
    return { method: 'GET', path: `${path}/fingerprint` };
  }
}

function drawPatch(random: Random): object {
  const kind = random();
  if (kind < 0.4) return { optimizer: { config: { learning_rate: (1 + below(random, 1024)) / 65_536 } } };
  if (kind < 0.6) return { optimizer: { config: { clipvalue: random() < 0.3 ? null : (1 + below(random, 64)) / 64 } } };
  if (kind < 0.8) return { durability: pick(random, ['always', 'everysec']) };
  return { iterations: below(random, 1000) };
}

function told({ kind }: Entry, request: Request, answer: Answer): string {
  if (kind === 'delete') return '';
  if (kind === 'push') {
    const { iterations, rate } = headOf(request, answer);
    return `${iterations} ${rate}`;
  }
  const { iterations, sha256, learning_rate: rate } = answer.json;
  return kind === 'checkpoint' ? `${iterations}` : `${iterations} ${kind === 'look' ? sha256 : rate}`;
}
