/**
 * The named sessions of one data folder: which there are, how they come and go, and that they are back after a restart. A
 * folder `sessions/<name>` with a `session.json` is a session; its state is in its checkpoints and in the journal. What can be
 * done with one session is held-session.ts.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Problem } from '../errors.ts';
import { Threads } from '../kernel/threads.ts';
import { sessionsMax } from '../limits.ts';
import { type Head, Session, type SessionContents } from '../session/session.ts';
import type { Damage } from './checkpoint-folder.ts';
import type { WrittenCheckpoint } from './checkpointer.ts';
import { settle } from './creation.ts';
import { DataLock } from './data-lock.ts';
import { storageProblem } from './files.ts';
import type { HeldSession, Outcome } from './held-session.ts';
import type { KeyEntry, RequestKey } from './idempotency.ts';
import { type ChangeRequest, notFound } from './live-session.ts';
import { MemoryBudget } from './memory-budget.ts';
import { Names, taken } from './names.ts';
import type { SessionFolder } from './session-folder.ts';
import { type Started, start } from './start.ts';
import { setRight } from './whole-journal.ts';

/** A session to be created, checked already: what it will take, and how to make it. */
export interface NewSession {
  /** Memory for its variables and slots. */
  readonly bytes: number;
  make(): Promise<SessionContents>;
}

export interface StoreConfig {
  readonly dataDir: string;
  /** For the variables and slots of all sessions, and the bodies and replies of requests. */
  readonly memoryBytesMax: number;
  /** That share large steps; with none, they hold up everything else. */
  readonly threads: number;
  /** Idempotency keys that are remembered of each session. */
  readonly keysMax: number;
}

/** How far a start has come, what was found damaged, and why nothing can be changed, if that is so. */
export interface StoreStatus {
  readonly ready: boolean;
  readonly sessions: number;
  /** Sessions that are to come back, once that is known. */
  readonly expected: number | undefined;
  /** Changes that were applied again. */
  readonly replayed: number;
  readonly damaged: readonly Damage[];
  readonly problem: Problem | undefined;
}

/** How the store tells what it does; pino's loggers fit. */
export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export class Store {
  /** Told of every checkpoint that was written by rule. */
  onCheckpoint: (written: WrittenCheckpoint) => void = () => undefined;
  readonly #folder: string;
  readonly #keysMax: number;
  readonly #memory: MemoryBudget;
  readonly #log: Log;
  readonly #lock: DataLock;
  readonly #threads: Threads;
  readonly #sessions = new Map<string, HeldSession>();
  readonly #names: Names;
  readonly #damage: Damage[] = [];
  readonly #timer: NodeJS.Timeout;
  #started: Started | undefined;
  #mending: Promise<void> | undefined;
  #expected: number | undefined;
  #replayed = 0;
  #ready = false;

  private constructor({ dataDir, memoryBytesMax, threads, keysMax }: StoreConfig, lock: DataLock, log: Log) {
    this.#folder = dataDir;
    this.#keysMax = keysMax;
    this.#names = new Names(keysMax);
    this.#memory = new MemoryBudget(memoryBytesMax, () => this.held.reduce((sum, { bytes }) => sum + bytes, 0));
    this.#lock = lock;
    this.#threads = new Threads(threads);
    this.#log = log;
    this.#timer = setInterval(() => {
      for (const name of this.#sessions.keys()) this.#checkpointIfDue(name);
      this.#mendIfBroken();
    }, 1000).unref();
  }

  /** Makes the folder if need be and locks it. Nothing is read before `recover`. */
  static async open(config: StoreConfig, log: Log): Promise<Store> {
    try {
      await mkdir(join(config.dataDir, 'sessions'), { recursive: true });
      return new Store(config, await DataLock.acquire(config.dataDir), log);
    } catch (error) {
      const rule = 'DATA_DIR must be a folder that this server can write to and no other one uses';
      throw new Error(`${rule}. Received: ${config.dataDir} (${(error as Error).message})`, { cause: error });
    }
  }

  /** Brings every session back: its newest good checkpoint, and the changes behind it. */
  async recover(): Promise<void> {
    const started = performance.now();
    await rm(join(this.#folder, 'trash'), { recursive: true, force: true });
    this.#started = await start({
      folder: this.#folder,
      names: this.#names,
      keysMax: this.#keysMax,
      place: (name) => this.#place(name),
      onDamage: (damage) => this.#damaged(damage),
      onExpected: (sessions) => {
        this.#expected = sessions;
      },
      onChange: () => {
        this.#replayed++;
      },
      onSession: (held, changes) => {
        this.#sessions.set(held.name, held);
        this.#log.info({ session: held.name, iterations: held.contents.iterations, changes }, 'session recovered');
      },
    });
    if (this.#started.isDamaged) await this.#mend(join(this.#folder, 'damaged', 'journal'));
    this.#ready = true;
    const milliseconds = Math.round(performance.now() - started);
    this.#log.info({ sessions: this.#sessions.size, changes: this.#replayed, milliseconds }, 'all sessions recovered');
  }

  get status(): StoreStatus {
    return {
      ready: this.#ready,
      sessions: this.#sessions.size,
      expected: this.#expected,
      replayed: this.#replayed,
      damaged: this.#damage,
      problem: this.#started?.journal.problem,
    };
  }

  /** Throws if the data folder cannot be written to. */
  async probe(): Promise<void> {
    this.#started?.journal.requireWritable();
    const path = join(this.#folder, 'probe.tmp');
    try {
      await writeFile(path, 'probe');
      await rm(path, { force: true });
    } catch (error) {
      throw storageProblem(error);
    }
  }

  /** One by name. Throws `session_not_found`, and `recovering` until they are all back. */
  session(name: string): HeldSession {
    this.#recovered();
    const held = this.#sessions.get(name);
    if (held === undefined) throw notFound(name);
    return held;
  }

  /** All by name. Throws `recovering` until they are all back. */
  list(): HeldSession[] {
    this.#recovered();
    return this.held.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Those that are in memory now. */
  get held(): HeldSession[] {
    return [...this.#sessions.values()];
  }

  /** Creates a session; it is on the disk when this returns. Throws `session_exists`. */
  create(name: string, wanted: NewSession, key?: RequestKey): Promise<Outcome<HeldSession>> {
    const make = async () => ({ contents: await wanted.make(), keys: [] });
    return this.#names.keysOf(name).once(
      key,
      () => this.#create(name, wanted.bytes, make, key, undefined),
      (entry) => this.#made(entry),
    );
  }

  /**
   * Creates the session `into` with the state of `name` as it stands, or last stood at `iterations`. What the keys of that time
   * did is known to it as well. Throws `session_exists` and `iteration_unavailable`.
   */
  fork(
    name: string,
    into: string,
    iterations: number | undefined,
    request: ChangeRequest,
  ): Promise<Outcome<HeldSession>> {
    const keys = this.#names.keysOf(name);
    const first = () => {
      const held = this.session(name);
      const make = async () => {
        const { contents, revision } = await held.copy(iterations, request);
        const known = keys.entries.filter((entry) => entry.sentTo === undefined && entry.revision <= revision);
        return { contents, keys: known.map((entry) => ({ ...entry, revision: 0 })) };
      };
      return this.#create(into, held.bytes, make, request.key, name);
    };
    return keys.once(request.key, first, (entry) => this.#made(entry));
  }

  /** Deletes a session and, unless they are to be kept, its checkpoints. */
  delete(name: string, keepCheckpoints: boolean, request: ChangeRequest): Promise<Outcome<void>> {
    const first = async () => {
      const held = this.session(name);
      await this.#names.alone(name, () => this.#delete(held, keepCheckpoints, request));
      return { result: undefined, replayed: false };
    };
    return this.#names.keysOf(name).once(request.key, first, async () => ({ result: undefined, replayed: true }));
  }

  /** Lends memory for a request's body or reply; returns how to give it back. Throws `overloaded`, `insufficient_memory`. */
  lend(bytes: number): () => void {
    return this.#memory.lend(bytes);
  }

  /** From now on, who waits for a change answers with what there is. */
  endWaits(): void {
    for (const held of this.#sessions.values()) held.endWaits();
  }

  /** Writes last checkpoints and gives the folder up. What fails is logged; the other sessions are saved all the same. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#mending;
    for (const [name, held] of this.#sessions) {
      try {
        await held.close();
      } catch (error) {
        this.#log.error({ session: name, error: String(error) }, 'the last checkpoint could not be written');
      }
    }
    await this.#started?.journal.close();
    await this.#threads.close();
    await this.#lock.release();
  }

  async #create(
    name: string,
    bytes: number,
    make: () => Promise<{ contents: SessionContents; keys: readonly KeyEntry[] }>,
    key: RequestKey | undefined,
    sentTo: string | undefined,
  ): Promise<Outcome<HeldSession>> {
    return this.#names.alone(name, async () => {
      const { journal } = this.#recovered();
      if (this.#sessions.has(name)) throw taken(name);
      if (this.#sessions.size >= sessionsMax) {
        throw new Problem('session_quota_exceeded', `at most ${sessionsMax} sessions can exist. Received: one more`, {
          headers: { 'retry-after': '60' },
        });
      }
      const release = this.#memory.reserve(bytes);
      let session: Session | undefined;
      try {
        const { contents, keys } = await make();
        session = new Session(name, new Date().toISOString(), contents, 0, this.#threads);
        const entries = key === undefined ? keys : [...keys, creationEntry(key, session.head, sentTo)];
        const held = await settle(this.#place(name), journal, session, entries);
        for (const entry of entries) this.#names.remember(name, entry);
        this.#sessions.set(name, held);
        this.#log.info({ session: name }, 'session created');
        return { result: held, replayed: false };
      } catch (error) {
        session?.release();
        throw storageProblem(error);
      } finally {
        release();
      }
    });
  }

  /** What a creation made, for its repeat. Throws `session_not_found` where it has been deleted since. */
  async #made({ made }: KeyEntry): Promise<Outcome<HeldSession>> {
    return { result: this.session(made as string), replayed: true };
  }

  async #delete(held: HeldSession, keepCheckpoints: boolean, request: ChangeRequest): Promise<void> {
    const { deletions } = this.#recovered();
    const { name } = held;
    const kept = this.#names.keysOf(name).entries.filter(({ made }) => made === name);
    const { head } = held.view;
    if (request.key !== undefined) kept.push({ ...request.key, ...positionOf(head) });
    const entries = kept.map((entry) => ({ ...entry, sentTo: entry.sentTo ?? name }));
    const journal = held.live.log.journal.id.toString('hex');
    let finish: (() => Promise<void>) | undefined;
    await held.delete(request, async () => {
      finish = await deletions.decide({ name, journal, keep_checkpoints: keepCheckpoints }, entries);
    });
    this.#sessions.delete(name);
    this.#names.forget(name, entries);
    await finish?.().catch((error) => {
      this.#log.warn(
        { session: name, error: String(error) },
        'what is left of a deleted session goes at the next start',
      );
    });
    this.#log.info({ session: name, keepCheckpoints }, 'session deleted');
  }

  #place(name: string): SessionFolder {
    return {
      name,
      path: join(this.#folder, 'sessions', name),
      aside: join(this.#folder, 'damaged', name),
      onDamage: (damage) => this.#damaged(damage),
      onStep: () => this.#checkpointIfDue(name),
      executor: this.#threads,
      keys: this.#names.keysOf(name),
      remember: (entry) => this.#names.remember(name, entry),
    };
  }

  #damaged(damage: Damage): void {
    this.#damage.push(damage);
    this.#log.error(damage, 'something damaged was set aside');
  }

  /** What there is from the end of the recovery on. Throws `recovering` before. */
  #recovered(): Started {
    if (this.#ready && this.#started !== undefined) return this.#started;
    throw new Problem('recovering', 'the server must have recovered its sessions first. It is still reading them', {
      headers: { 'retry-after': '1' },
    });
  }

  /** Starts a checkpoint beside the traffic if the session's rules ask for one. */
  #checkpointIfDue(name: string): void {
    this.#sessions
      .get(name)
      ?.checkpointIfDue(Date.now())
      ?.then((written) => this.onCheckpoint(written))
      .catch((error) => this.#log.error({ session: name, error: String(error) }, 'a checkpoint could not be written'));
  }

  /** Tries to come back after a failure of the disk. */
  #mendIfBroken(): void {
    const problem = this.#ready ? this.#started?.journal.problem : undefined;
    if (problem === undefined || this.#mending !== undefined) return;
    this.#mending = this.#mend()
      .then(
        () => this.#log.warn({}, 'the disk takes changes again'),
        (error) => this.#log.error({ error: String(error) }, 'no changes are taken: the disk fails'),
      )
      .finally(() => {
        this.#mending = undefined;
      });
  }

  async #mend(aside?: string): Promise<void> {
    const { journal, catalogue } = this.#started as Started;
    await setRight(journal, catalogue, this.held, this.#names.elsewhere, aside);
  }
}

function creationEntry(key: RequestKey, head: Head, sentTo: string | undefined): KeyEntry {
  const entry = { ...key, ...positionOf(head), made: head.session };
  return sentTo === undefined ? entry : { ...entry, sentTo };
}

function positionOf({
  revision,
  iterations,
  learningRate,
}: Head): Pick<KeyEntry, 'revision' | 'iterations' | 'learningRate'> {
  return { revision, iterations, learningRate };
}
