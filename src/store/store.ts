/**
 * The named sessions of one data folder: which there are, how they come and go, and that they are back after a restart. A
 * folder `sessions/<name>` with a `session.json` is a session; its state is in its checkpoints and in the journal. What can be
 * done with one session is held-session.ts.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Problem } from '../errors.ts';
import type { ArrivedData } from '../journal/arrived-data.ts';
import { makeFolder, storageProblem, syncFolder } from '../journal/files.ts';
import type { Journal } from '../journal/journal.ts';
import { Threads } from '../kernel/threads.ts';
import type { Damage } from './checkpoint-folder.ts';
import { DataLock } from './data-lock.ts';
import { DiskSpace, type DiskUse, type Measure } from './disk-space.ts';
import { Figures } from './figures.ts';
import type { HeldSession } from './held-session.ts';
import type { RequestKey } from './idempotency.ts';
import { writeLastCheckpoints } from './last-checkpoints.ts';
import { Lifecycle, type NewSession } from './lifecycle.ts';
import { notFound } from './live-session.ts';
import type { Log } from './log.ts';
import { MemoryBudget } from './memory-budget.ts';
import { Mending } from './mending.ts';
import { Names } from './names.ts';
import type { Outcome } from './outcome.ts';
import type { Quota } from './quota.ts';
import type { ChangeRequest } from './requests.ts';
import type { SessionFolder } from './session-folder.ts';
import { type Started, start } from './start.ts';
import { setRight } from './whole-journal.ts';

export interface StoreConfig {
  readonly dataDir: string;
  /** For the variables and slots of all sessions, and the bodies and replies of requests. */
  readonly memoryBytesMax: number;
  /** That share large steps; with none, they hold up everything else. */
  readonly threads: number;
  /** Idempotency keys that are remembered of each session. */
  readonly keysMax: number;
  /** What is to stay free on the folder's disk, bytes; 0, or none: nothing is refused before it is full. */
  readonly diskFreeBytesMin?: number;
  /** Another way to measure what is free there. */
  readonly measureDisk?: Measure;
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

export class Store {
  /** Told, first of all, of a fault that only a restart mends: memory is not what the journal says, or that does not come back. */
  onFault: (error: unknown) => void = () => undefined;
  readonly disk: DiskSpace;
  readonly folder: string;
  readonly memory: MemoryBudget;
  readonly figures = new Figures();
  readonly #keysMax: number;
  readonly #log: Log;
  readonly #lock: DataLock;
  readonly #threads: Threads;
  readonly #sessions = new Map<string, HeldSession>();
  readonly #lifecycle: Lifecycle;
  readonly #names: Names;
  readonly #damage: Damage[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #mending: Mending;
  #started: Started | undefined;
  #expected: number | undefined;
  #replayed = 0;
  #ready = false;

  private constructor(config: StoreConfig, lock: DataLock, log: Log) {
    const { dataDir, memoryBytesMax, threads, keysMax, diskFreeBytesMin = 0, measureDisk } = config;
    this.folder = dataDir;
    this.disk = new DiskSpace(dataDir, diskFreeBytesMin, log, measureDisk);
    this.#keysMax = keysMax;
    this.#names = new Names(keysMax);
    this.memory = new MemoryBudget(memoryBytesMax, () => this.held.reduce((sum, { bytes }) => sum + bytes, 0));
    this.#lock = lock;
    this.#threads = new Threads(threads);
    this.#log = log;
    this.#lifecycle = new Lifecycle({
      sessions: this.#sessions,
      session: (name) => this.session(name),
      names: this.#names,
      memory: this.memory,
      disk: this.disk,
      threads: this.#threads,
      log,
      place: (each) => this.#place(each),
      recovered: () => this.#recovered(),
    });
    const onFault = (error: unknown): void => this.onFault(error);
    this.#mending = new Mending(() => this.#mend(), log, onFault);
    this.#timer = setInterval(() => {
      for (const name of this.#sessions.keys()) this.#checkpointIfDue(name);
      if (this.#ready && this.status.problem !== undefined) this.#mending.begin();
      void this.disk.look();
    }, 1000).unref();
  }

  /** Makes the folder if need be and locks it. Nothing is read before `recover`. */
  static async open(config: StoreConfig, log: Log): Promise<Store> {
    try {
      await makeFolder(join(config.dataDir, 'sessions'));
      await syncFolder(config.dataDir);
      const store = new Store(config, await DataLock.acquire(config.dataDir), log);
      await store.disk.look();
      return store;
    } catch (error) {
      const rule = 'DATA_DIR must be a folder that this server can write to and no other one uses';
      throw new Error(`${rule}. Received: ${config.dataDir} (${(error as Error).message})`, { cause: error });
    }
  }

  /** Brings every session back: its newest good checkpoint, and the changes behind it. */
  async recover(): Promise<void> {
    const started = performance.now();
    await rm(join(this.folder, 'trash'), { recursive: true, force: true });
    this.#started = await start({
      folder: this.folder,
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

  /** What holds the sessions' changes, once they are all back. */
  get journal(): Journal | undefined {
    return this.#started?.journal;
  }

  /** Throws if the data folder cannot be written to. */
  async probe(): Promise<void> {
    this.#started?.journal.requireWritable();
    const path = join(this.folder, 'probe.tmp');
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

  /** As `ChangeLog.begin`, for a session by name, if there is one. */
  begin(name: string, bodyBytes: number): ArrivedData | undefined {
    const held = this.#ready ? this.#sessions.get(name) : undefined;
    // What is put in the journal then is not what arrives.
    if (held?.contents.settings.aggregation.mode === 'sync') return undefined;
    return held?.live.log.begin(bodyBytes);
  }

  /** Whether such a request to `name` is going to be written: a repeat is not, nor a change that the journal does not get. */
  isWritten(name: string, use: DiskUse, key: string | undefined): boolean {
    if (key !== undefined && this.#names.knows(name, key)) return false;
    return use === 'session' || (this.#ready && this.#sessions.get(name)?.live.log.isOn === true);
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

  /** Creates a session; it is on the disk when this returns. Throws `session_exists` and `session_quota_exceeded`. */
  create(name: string, wanted: NewSession, key?: RequestKey, quota?: Quota): Promise<Outcome<HeldSession>> {
    return this.#lifecycle.create(name, wanted, key, quota);
  }

  /**
   * Creates the session `into` with the state of `name` as it stands, or last stood at `iterations`. Throws `session_exists` and
   * `iteration_unavailable`.
   */
  fork(
    name: string,
    into: string,
    iterations: number | undefined,
    request: ChangeRequest,
    quota?: Quota,
  ): Promise<Outcome<HeldSession>> {
    return this.#lifecycle.fork(name, into, iterations, request, quota);
  }

  /** Deletes a session and, unless they are to be kept, its checkpoints. */
  delete(name: string, keepCheckpoints: boolean, request: ChangeRequest): Promise<Outcome<void>> {
    return this.#lifecycle.delete(name, keepCheckpoints, request);
  }

  /** From now on, who waits for a change answers with what there is. */
  endWaits(): void {
    for (const held of this.#sessions.values()) held.endWaits();
  }

  /** From now on, nobody is told of events. */
  endEvents(): void {
    for (const held of this.#sessions.values()) held.endEvents();
  }

  /** Writes last checkpoints and gives the folder up. Resolves to whether all of them are written. */
  async close(): Promise<boolean> {
    clearInterval(this.#timer);
    await this.#mending.idle();
    const isSaved = await writeLastCheckpoints(this.held, this.#started?.journal, this.#log);
    await this.#started?.journal.close();
    await this.#threads.close();
    await this.#lock.release();
    return isSaved;
  }

  #place(name: string): SessionFolder {
    return {
      name,
      path: join(this.folder, 'sessions', name),
      aside: join(this.folder, 'damaged', name),
      onDamage: (damage) => this.#damaged(damage),
      onStep: () => this.#checkpointIfDue(name),
      onFault: (error) => this.onFault(error),
      figures: this.figures,
      executor: this.#threads,
      memory: this.memory,
      disk: this.disk,
      keys: this.#names.keysOf(name),
      remember: (entry) => this.#names.remember(name, entry),
    };
  }

  #damaged(damage: Damage): void {
    this.#damage.push(damage);
    this.#log.error(damage, 'a damaged file was set aside');
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
      ?.checkpoints.writeIfDue(Date.now())
      ?.catch((error) => this.#log.error({ session: name, error: String(error) }, 'a checkpoint could not be written'));
  }

  async #mend(): Promise<void> {
    const { journal, catalogue } = this.#started as Started;
    await setRight(journal, catalogue, this.held, this.#names.elsewhere);
  }
}
