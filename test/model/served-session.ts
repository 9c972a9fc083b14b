/** What the model is held against: a session of a real server, and the clients whose pushes it has not answered yet. */
import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parts } from '../../src/kernel/extent.ts';
import type { HeldSession } from '../../src/store/held-session.ts';
import { elementCount } from '../../src/tensor/tensor.ts';
import { type Api, startApi } from '../support/api.ts';
import { succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';
import { encode } from '../support/floats.ts';
import { workersOf } from '../support/workers.ts';
import type { Shapes } from './plain-reduction.ts';
import { callOf, type Format, PushClient, watchSockets } from './push-client.ts';
import type { Push } from './shared-session.ts';

/** Nobody waits for so long, on however slow a machine. */
const patienceMs = 30_000;

type Task = () => Promise<unknown>;

/** A server, which can crash and go on from what that leaves. */
export class ModelServer {
  api: Api;
  sockets: Map<number, Socket>;
  #closing: Task[];

  private constructor(api: Api, closing: Task[]) {
    this.api = api;
    this.#closing = closing;
    this.sockets = watchSockets(this.server);
  }

  static async start(): Promise<ModelServer> {
    const closing: Task[] = [];
    return new ModelServer(await startApi(later(closing)), closing);
  }

  get server(): Server {
    return this.api.app.server as Server;
  }

  async restart(): Promise<void> {
    this.api = await this.api.restart();
    this.sockets = watchSockets(this.server);
  }

  /** `afterCopy` is called when what is left has been put aside. */
  async crash(afterCopy: () => void): Promise<void> {
    const closing: Task[] = [];
    const copy = await quietCopy(later(closing), this.api.folder);
    afterCopy();
    await this.close();
    this.#closing = closing;
    this.api = await startApi(later(closing), {}, copy);
    this.sockets = watchSockets(this.server);
  }

  async close(): Promise<void> {
    // The folder goes when the server has ended.
    for (const task of this.#closing.reverse()) await task();
  }
}

function later(tasks: Task[]) {
  return {
    after(task: () => Promise<never>): void {
      tasks.push(task);
    },
  };
}

/** Nothing was written while it was made: what the tail has goes to the database behind the requests' backs. */
async function quietCopy(t: Parameters<typeof crashedCopy>[0], folder: string): Promise<string> {
  for (;;) {
    const before = await timesOf(folder);
    // A file may have another name before it is copied.
    const copy = await crashedCopy(t, folder).catch(() => undefined);
    if (copy !== undefined && before === (await timesOf(folder))) return copy;
  }
}

async function timesOf(folder: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const stats = await Promise.all(paths.sort().map((path) => stat(path, { bigint: true }).catch(() => undefined)));
  return paths.map((path, k) => `${path} ${stats[k]?.mtimeNs} ${stats[k]?.size}`).join('\n');
}

export class ServedSession {
  readonly name: string;
  readonly shapes: Shapes;
  readonly #server: ModelServer;
  /** By the pushes that are not answered. */
  readonly #clients = new Map<Push, PushClient>();

  constructor(server: ModelServer, name: string, shapes: Shapes) {
    this.#server = server;
    this.name = name;
    this.shapes = shapes;
  }

  get api(): Api {
    return this.#server.api;
  }

  get path(): string {
    return `/v1/sessions/${this.name}`;
  }

  /** For the model to compare: where it stands, and all bits. */
  get state(): object {
    const { revision, contents } = this.#held;
    const bits = [...contents.variables.values()].flatMap(({ name, dtype, shape, memory }) =>
      parts.map((part) => {
        const count = elementCount(shape);
        const to = encode(new Float64Array(count), dtype);
        memory.read(part, 0, count, to);
        return [`${name}:${part}`, Buffer.from(to.bytes).toString('hex')];
      }),
    );
    return { revision, iterations: contents.iterations, bits: Object.fromEntries(bits) };
  }

  /** Who had a part in a step, or is put aside, as the server tells. */
  async workers(): Promise<object> {
    const known = (await workersOf(this.api, this.name)).filter(({ steps, quarantined }) => steps > 0 || quarantined);
    return Object.fromEntries(
      known.map(({ name, steps, last_staleness, quarantined }) => [name, { steps, last: last_staleness, quarantined }]),
    );
  }

  send(push: Push, format: Format): PushClient {
    const query = push.base === undefined ? '' : `&base=${push.base}`;
    const path = `${this.path}/gradients?worker=${encodeURIComponent(push.worker)}${query}`;
    const { server, sockets } = this.#server;
    const client = new PushClient(server, sockets, path, push, callOf(push, format, this.shapes));
    this.#clients.set(push, client);
    return client;
  }

  async change(method: string, path: string, json?: object): Promise<void> {
    succeeded(await this.api.call(method, `${this.path}${path}`, json === undefined ? {} : { json }));
  }

  /** Who hangs up is not answered any more. */
  async hangUp(push: Push): Promise<void> {
    const client = this.#clients.get(push);
    this.#clients.delete(push);
    await client?.hangUp();
  }

  /** The answers that have come, when the server has nothing more to do: whoever is not answered waits for others there. */
  async quiet(): Promise<Map<Push, PushClient>> {
    await this.#until(() => this.#isQuiet());
    return this.#take();
  }

  /** All answers, when all have been answered. */
  async answers(): Promise<Map<Push, PushClient>> {
    await this.#until(() => this.#unanswered.length === 0);
    return this.#take();
  }

  async restart(): Promise<Map<Push, PushClient>> {
    await this.#server.restart();
    return this.answers();
  }

  /** Nobody is answered any more. */
  async crash(): Promise<void> {
    await this.#server.crash(() => this.drop());
  }

  drop(): void {
    for (const client of this.#clients.values()) client.drop();
    this.#clients.clear();
  }

  get #held(): HeldSession {
    return this.api.store.session(this.name);
  }

  get #unanswered(): PushClient[] {
    return [...this.#clients.values()].filter(({ answered }) => answered === undefined);
  }

  #isQuiet(): boolean {
    const expected: Record<string, number> = {};
    const keys = new Set<string>();
    for (const { push, hasArrived } of this.#unanswered) {
      if (!hasArrived) return false;
      // A repeat waits for its first one, not for others.
      if (push.key !== undefined && keys.has(push.key)) continue;
      if (push.key !== undefined) keys.add(push.key);
      expected[push.worker] = (expected[push.worker] ?? 0) + 1;
    }
    const { watch } = this.#held.pushes;
    return [...new Set([...watch.names, ...Object.keys(expected)])].every((worker) => {
      return (watch.get(worker)?.waiting ?? 0) === (expected[worker] ?? 0);
    });
  }

  async #until(isSo: () => boolean): Promise<void> {
    const begun = performance.now();
    do {
      for (const { error } of this.#clients.values()) if (error !== undefined) throw error;
      if (performance.now() - begun > patienceMs) assert.fail(this.#whoWaits());
      await sleep(1);
    } while (!isSo());
  }

  #whoWaits(): string {
    const lines = this.#unanswered.map(({ push: { worker, base, key }, sent }) => {
      return `${worker}, base ${base}, key ${key}, for ${Math.round(performance.now() - sent)} ms`;
    });
    const { workers } = this.#held;
    const served = workers.filter(({ waiting }) => waiting).map(({ name }) => name);
    return `nobody must wait for ever. Not answered: ${lines.join('; ') || 'none'}. The server says: ${served.join(', ') || 'none'}`;
  }

  #take(): Map<Push, PushClient> {
    const answered = new Map([...this.#clients].filter(([, client]) => client.answered !== undefined));
    for (const push of answered.keys()) this.#clients.delete(push);
    return answered;
  }
}
