/**
 * The named sessions of one data folder: which there are, how they come and go, and that they are back after a restart. A
 * folder `sessions/<name>` with a `session.json` is a session, and everything else about it is in its checkpoints. What
 * can be done with one session is held-session.ts.
 */
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Problem } from '../errors.ts';
import { Threads } from '../kernel/threads.ts';
import { sessionsMax } from '../limits.ts';
import { Session, type SessionContents } from '../session/session.ts';
import type { Damage } from './checkpoint-folder.ts';
import type { WrittenCheckpoint } from './checkpointer.ts';
import { DataLock } from './data-lock.ts';
import { storageProblem, syncFolder } from './files.ts';
import { type HeldSession, notFound, type Precondition } from './held-session.ts';
import { MemoryBudget } from './memory-budget.ts';
import { recover, type SessionFolder, settle } from './recovery.ts';
import { recordFile } from './session-record.ts';

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
  readonly #memory: MemoryBudget;
  readonly #log: Log;
  readonly #lock: DataLock;
  readonly #threads: Threads;
  readonly #sessions = new Map<string, HeldSession>();
  /** Names being created or deleted. */
  readonly #busy = new Set<string>();
  readonly #damage: Damage[] = [];
  readonly #timer: NodeJS.Timeout;
  #ready = false;

  private constructor({ dataDir, memoryBytesMax, threads }: StoreConfig, lock: DataLock, log: Log) {
    this.#folder = dataDir;
    this.#memory = new MemoryBudget(memoryBytesMax, () => this.held.reduce((sum, { bytes }) => sum + bytes, 0));
    this.#lock = lock;
    this.#threads = new Threads(threads);
    this.#log = log;
    this.#timer = setInterval(() => {
      for (const name of this.#sessions.keys()) this.#checkpointIfDue(name);
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

  /** Brings every session back from its newest good checkpoint. */
  async recover(): Promise<void> {
    const started = performance.now();
    await rm(join(this.#folder, 'trash'), { recursive: true, force: true });
    for (const name of await this.#folders()) {
      const held = await recover(this.#place(name));
      if (held === undefined) continue;
      this.#sessions.set(name, held);
      this.#log.info({ session: name, iterations: held.contents.iterations }, 'session recovered');
    }
    this.#ready = true;
    const milliseconds = Math.round(performance.now() - started);
    this.#log.info({ sessions: this.#sessions.size, milliseconds }, 'all sessions recovered');
  }

  /** Whether recovery is over, and what was found damaged. */
  get status(): { ready: boolean; sessions: number; damaged: readonly Damage[] } {
    return { ready: this.#ready, sessions: this.#sessions.size, damaged: this.#damage };
  }

  /** Throws if the data folder cannot be written to. */
  async probe(): Promise<void> {
    const path = join(this.#folder, 'probe.tmp');
    try {
      await writeFile(path, 'probe');
      await rm(path, { force: true });
    } catch (error) {
      throw storageProblem(error);
    }
  }

  /** One by name. Throws `session_not_found`, or `recovering` where it may still come. */
  session(name: string): HeldSession {
    const held = this.#sessions.get(name);
    if (held !== undefined) return held;
    this.#requireRecovered();
    throw notFound(name);
  }

  /** All by name. Throws `recovering` until they are all back. */
  list(): HeldSession[] {
    this.#requireRecovered();
    return this.held.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Those that are in memory now. */
  get held(): HeldSession[] {
    return [...this.#sessions.values()];
  }

  /** Creates a session; it is on the disk when this returns. Throws `session_exists`. */
  async create(name: string, wanted: NewSession): Promise<HeldSession> {
    return this.#alone(name, async () => {
      this.#requireRecovered();
      if (this.#sessions.has(name)) throw taken(name);
      if (this.#sessions.size >= sessionsMax) {
        throw new Problem('session_quota_exceeded', `at most ${sessionsMax} sessions can exist. Received: one more`, {
          headers: { 'retry-after': '60' },
        });
      }
      const release = this.#memory.reserve(wanted.bytes);
      let session: Session | undefined;
      try {
        session = new Session(name, new Date().toISOString(), await wanted.make(), 0, this.#threads);
        const held = await settle(this.#place(name), session);
        this.#sessions.set(name, held);
        this.#log.info({ session: name }, 'session created');
        return held;
      } catch (error) {
        session?.release();
        throw storageProblem(error);
      } finally {
        release();
      }
    });
  }

  /**
   * Creates the session `into` with the state of `name` as it stands, or stood at `iterations` as far as a checkpoint has it.
   * Throws `session_exists` and `iteration_unavailable`.
   */
  async fork(
    name: string,
    into: string,
    iterations: number | undefined,
    precondition: Precondition,
  ): Promise<HeldSession> {
    const held = this.session(name);
    return this.create(into, { bytes: held.bytes, make: () => held.copy(iterations, precondition) });
  }

  /** Deletes a session and, unless they are to be kept, its checkpoints. */
  async delete(name: string, keepCheckpoints: boolean, precondition: Precondition): Promise<void> {
    const held = this.session(name);
    const aside = join(this.#folder, 'trash', `${name}-${Date.now()}`);
    const path = keepCheckpoints ? join(this.#path(name), recordFile) : this.#path(name);
    await this.#alone(name, async () => {
      try {
        await held.delete(precondition, () => move(path, aside));
      } catch (error) {
        throw storageProblem(error);
      }
      this.#sessions.delete(name);
    });
    await rm(aside, { recursive: true, force: true }).catch((error) => {
      this.#log.warn({ session: name, error: String(error) }, 'what is in trash/ is removed at the next start');
    });
    this.#log.info({ session: name, keepCheckpoints }, 'session deleted');
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
    for (const [name, held] of this.#sessions) {
      try {
        await held.close();
      } catch (error) {
        this.#log.error({ session: name, error: String(error) }, 'the last checkpoint could not be written');
      }
    }
    await this.#threads.close();
    await this.#lock.release();
  }

  #path(name: string): string {
    return join(this.#folder, 'sessions', name);
  }

  /** The names of all that may be a session; a file among them is nobody's. */
  async #folders(): Promise<string[]> {
    const entries = await readdir(join(this.#folder, 'sessions'), { withFileTypes: true });
    return entries.flatMap((entry) => (entry.isFile() ? [] : [entry.name])).sort();
  }

  #place(name: string): SessionFolder {
    return {
      name,
      path: this.#path(name),
      aside: join(this.#folder, 'damaged', name),
      onDamage: (damage) => {
        this.#damage.push(damage);
        this.#log.error(damage, 'a damaged file was set aside');
      },
      onStep: () => this.#checkpointIfDue(name),
      executor: this.#threads,
    };
  }

  /** Runs a creation or deletion; a second one of the same name meanwhile is told that the name is taken. */
  async #alone<T>(name: string, task: () => Promise<T>): Promise<T> {
    if (this.#busy.has(name)) throw taken(name);
    this.#busy.add(name);
    try {
      return await task();
    } finally {
      this.#busy.delete(name);
    }
  }

  #requireRecovered(): void {
    if (this.#ready) return;
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
}

/** Moves a file or folder, durably or not at all. */
async function move(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await rename(from, to);
  try {
    await syncFolder(dirname(from));
  } catch (error) {
    await rename(to, from);
    throw error;
  }
}

function taken(name: string): Problem {
  return new Problem(
    'session_exists',
    `a new session must have a name that is free. Received: ${JSON.stringify(name)}`,
  );
}
