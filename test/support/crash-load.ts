/**
 * A bout: sessions under load, and rounds of starting their server and killing it at some moment; then the server is left
 * alone until everything has been answered, and what was answered is held against another that never crashed.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Crowd, type Push } from './crash-crowd.ts';
import type { CrowdPlan } from './crash-crowd-requests.ts';
import { Diary, type DiaryPlan } from './crash-diary.ts';
import { Line } from './crash-line.ts';
import { below, pick, type Random, stream } from './crash-models.ts';
import type { ServerProcess } from './server-process.ts';

export interface BoutPlan {
  readonly seed: number;
  readonly rounds: number;
  /** Who push to all crowds in turn. */
  readonly clients: number;
  readonly crowds: readonly CrowdPlan[];
  readonly diaries: readonly DiaryPlan[];
  /** From when the sessions are back to the kill, at least and at most. */
  readonly loadMs: readonly [number, number];
}

export interface Servers {
  /** The one to be killed, on its data folder: launched, not waited for. */
  launch(): ServerProcess;
  /** The one that is left alone; there must be none of the bout's sessions on it. */
  readonly reference: ServerProcess;
  /** Told about each round. */
  report(line: string): void;
}

/** Loaded, and then killed; killed before its sessions are back; or told to end, and killed on the way. */
type Ending = 'load' | 'recovery' | 'shutdown';

const patienceMs = 60_000;

export interface Outcome extends Readonly<Line['counts']> {
  /** Of the sessions that all clients push to. */
  readonly steps: number;
}

export async function runBout(plan: BoutPlan, servers: Servers): Promise<Outcome> {
  const bout = new Bout(plan, servers);
  try {
    return await Promise.race([bout.run(), bout.failed]);
  } finally {
    bout.line.close();
  }
}

class Bout {
  readonly line = new Line();
  /** Rejected when a client has an answer that it must not have, or a server ends by itself. */
  readonly failed: Promise<never>;
  #fail: (error: unknown) => void = () => undefined;
  readonly #plan: BoutPlan;
  readonly #servers: Servers;
  readonly #random: Random;
  readonly #crowds: readonly Crowd[];
  readonly #diaries: readonly Diary[];
  readonly #toEnd = new WeakSet<ServerProcess>();
  #enough = false;
  /** How long the last start took. */
  #startMs = 300;

  constructor(plan: BoutPlan, servers: Servers) {
    this.#plan = plan;
    this.#servers = servers;
    this.#random = stream(plan.seed, 5);
    this.#crowds = plan.crowds.map((each) => new Crowd(each));
    this.#diaries = plan.diaries.map((each) => new Diary(each));
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
  }

  async run(): Promise<Outcome> {
    // It is asked for the OpenAPI document, once for all servers; one that is killed meanwhile could not answer.
    await this.#servers.reference.call('GET', '/healthz');
    const load = this.#load();
    load.catch(this.#fail);
    for (let round = 1; round <= this.#plan.rounds; round++) await this.#round(round);
    const server = await this.#start();
    this.#enough = true;
    await load;
    for (const crowd of this.#crowds) await crowd.settle(this.line, this.#random);
    const told = await this.#look(server);
    await this.#end(server, 'SIGKILL');
    const second = await this.#start();
    assert.deepEqual(await this.#look(second), told, 'a kill while nothing is under way must change nothing');
    await this.#end(second, 'SIGTERM');
    const third = await this.#start();
    assert.deepEqual(await this.#look(third), told, 'an orderly restart must change nothing');
    await this.#retrace(told);
    await this.#delete();
    await this.#end(third, 'SIGKILL');
    const steps = this.#crowds.reduce((sum, crowd) => sum + crowd.steps, 0);
    return { ...this.line.counts, steps };
  }

  async #load(): Promise<void> {
    await Promise.all(this.#crowds.map((crowd) => crowd.create(this.line)));
    const clients = Array.from({ length: this.#plan.clients }, (_, client) => this.#push(client));
    await Promise.all([
      ...clients,
      ...this.#crowds.map((crowd) => this.#keep(crowd)),
      ...this.#diaries.map((diary) => this.#write(diary)),
    ]);
  }

  async #push(client: number): Promise<void> {
    const random = stream(this.#plan.seed, 6, client);
    const crowds = this.#crowds.flatMap((crowd) => Array<Crowd>(crowd.plan.share).fill(crowd));
    const done: { crowd: Crowd; push: Push }[] = [];
    for (let nth = 0; !this.#enough; nth++) {
      const crowd = pick(random, crowds);
      const manner = random() < 0.9 ? 'once' : pick(random, ['twice', 'impatient'] as const);
      const push = await crowd.push(this.line, client, nth, manner, 1 + below(random, 4));
      done.push({ crowd, push });
      const old = random() < 0.05 ? pick(random, done) : undefined;
      if (old !== undefined) await old.crowd.repeat(this.line, old.push);
    }
  }

  async #keep(crowd: Crowd): Promise<void> {
    const random = stream(crowd.plan.seed, 7);
    for (let nth = 0; !this.#enough; nth++) {
      await crowd.keep(this.line, random, nth);
      await sleep(below(random, 40));
    }
  }

  async #write(diary: Diary): Promise<void> {
    while (!this.#enough) await diary.write(this.line);
  }

  async #round(round: number): Promise<void> {
    const { rounds, loadMs } = this.#plan;
    const kind = this.#random();
    const moment = this.#random();
    const before = this.line.counts.answered;
    // The first one is to get somewhere.
    const ending: Ending = round === 1 || kind < 0.75 ? 'load' : kind < 0.9 ? 'recovery' : 'shutdown';
    if (ending === 'recovery') {
      const server = this.#launch();
      await sleep((0.3 + 0.7 * moment) * this.#startMs);
      await this.#end(server, 'SIGKILL');
    } else {
      const server = await this.#start();
      await sleep(loadMs[0] + moment * (loadMs[1] - loadMs[0]));
      if (ending === 'shutdown') {
        this.#toEnd.add(server);
        server.kill('SIGTERM');
        await sleep(this.#random() * 50);
      }
      await this.#end(server, 'SIGKILL');
    }
    const answered = this.line.counts.answered - before;
    this.#servers.report(`round ${round} of ${rounds}: killed under ${ending}, ${answered} answers`);
  }

  #launch(): ServerProcess {
    const server = this.#servers.launch();
    // Clients come as soon as it listens, and are told to come again until it is ready.
    server.logged('Server listening at').then(
      () => this.#toEnd.has(server) || this.line.up(server),
      () => undefined,
    );
    server.exited.then(({ code, signal }) => {
      if (this.#toEnd.has(server)) return;
      this.#fail(new Error(`the server ended by itself, with ${code ?? signal}: ${server.stderr}`));
    }, this.#fail);
    return server;
  }

  async #start(): Promise<ServerProcess> {
    const began = performance.now();
    const server = this.#launch();
    const tooLate = sleep(patienceMs, undefined, { ref: false }).then(() =>
      assert.fail(`the server must become ready: ${JSON.stringify(server.log.slice(-6))} ${server.stderr}`),
    );
    await Promise.race([server.logged('all sessions recovered'), tooLate]);
    this.#startMs = performance.now() - began;
    const { damaged } = (await server.call('GET', '/readyz')).json;
    assert.deepEqual(damaged, [], 'a kill must leave nothing that counts as damaged');
    return server;
  }

  async #end(server: ServerProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    this.#toEnd.add(server);
    this.line.down();
    const exit = await server.end(signal);
    if (exit.signal === null) assert.equal(exit.code, 0, `an orderly end must be a success: ${server.stderr}`);
  }

  /** What the sessions are like now. */
  async #look(server: ServerProcess): Promise<readonly string[]> {
    const crowds = await Promise.all(this.#crowds.map((crowd) => crowd.look(server)));
    const diaries = await Promise.all(this.#diaries.map((diary) => diary.look(this.line)));
    return [...crowds, ...diaries.flat()];
  }

  async #retrace(told: readonly string[]): Promise<void> {
    const { reference } = this.#servers;
    await Promise.all([...this.#crowds, ...this.#diaries].map((each) => each.retrace(reference)));
    const again = await Promise.all(this.#crowds.map((crowd) => crowd.look(reference)));
    assert.deepEqual(told.slice(0, again.length), again, 'counters and fingerprints must be as without crashes');
  }

  async #delete(): Promise<void> {
    for (const session of [...this.#crowds, ...this.#diaries]) {
      await session.delete(this.line);
      await session.forget(this.#servers.reference);
    }
  }
}
