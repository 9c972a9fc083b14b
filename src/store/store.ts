/**
 * The named sessions of one data folder: the only floor that knows both memory and disk. `state = checkpoint + what came
 * after it`; a folder `sessions/<name>` with a `session.json` is a session, and everything else about it is in its
 * checkpoints. Which body or reply carries what is left to the floors above.
 */
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Problem } from '../errors.ts';
import type { Part } from '../kernel/extent.ts';
import { sessionsMax } from '../limits.ts';
import type { Slices } from '../session/gradient.ts';
import {
  type Head,
  type Receive,
  type Selection,
  Session,
  type SessionContents,
  type SessionPatch,
} from '../session/session.ts';
import type { VariableSpec } from '../session/variable.ts';
import type { CheckpointInfo, Damage } from './checkpoint-folder.ts';
import { DataLock } from './data-lock.ts';
import { storageProblem, syncFolder } from './files.ts';
import { HeldSession, notFound, type Precondition } from './held-session.ts';
import { openCheckpoints, recoverSession, type SessionFolder } from './recovery.ts';
import { removeRecord, revisionsReserved, type SessionRecord, writeRecord } from './session-record.ts';

/** How the store tells what it does; pino's loggers fit. */
export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** A session as others see it. */
export interface SessionView {
  readonly session: Session;
  readonly lastCheckpoint: CheckpointInfo | undefined;
}

export class Store {
  readonly #folder: string;
  readonly #log: Log;
  readonly #lock: DataLock;
  readonly #sessions = new Map<string, HeldSession>();
  /** Names being created or deleted. */
  readonly #busy = new Set<string>();
  readonly #damage: Damage[] = [];
  readonly #timer: NodeJS.Timeout;
  #ready = false;
  #onCheckpoint: ((seconds: number, bytes: number) => void) | undefined;

  private constructor(folder: string, lock: DataLock, log: Log) {
    this.#folder = folder;
    this.#lock = lock;
    this.#log = log;
    this.#timer = setInterval(() => this.#checkpointByTime(), 1000).unref();
  }

  /** Makes the folder if need be and locks it. Nothing is read before `recover`. */
  static async open(folder: string, log: Log): Promise<Store> {
    await mkdir(join(folder, 'sessions'), { recursive: true });
    return new Store(folder, await DataLock.acquire(folder), log);
  }

  /** Brings every session back from its newest good checkpoint. */
  async recover(): Promise<void> {
    const started = Date.now();
    await rm(join(this.#folder, 'trash'), { recursive: true, force: true });
    for (const name of (await readdir(join(this.#folder, 'sessions'))).sort()) {
      const held = await recoverSession(this.#place(name));
      if (held === undefined) continue;
      this.#sessions.set(name, held);
      this.#log.info({ session: name, iterations: held.session.contents.iterations }, 'session recovered');
    }
    this.#ready = true;
    this.#log.info({ sessions: this.#sessions.size, milliseconds: Date.now() - started }, 'sessions recovered');
  }

  /** Whether recovery is over, and what was found damaged. */
  get status(): { ready: boolean; sessions: number; damaged: readonly Damage[] } {
    return { ready: this.#ready, sessions: this.#sessions.size, damaged: this.#damage };
  }

  /** Tells of every checkpoint written: how long it took, how large it is. */
  set onCheckpoint(listener: (seconds: number, bytes: number) => void) {
    this.#onCheckpoint = listener;
  }

  /** Throws if the data folder cannot be written to. */
  async probe(): Promise<void> {
    const path = join(this.#folder, 'probe.tmp');
    await writeFile(path, 'probe');
    await rm(path);
  }

  /** All sessions by name, with what `/metrics` needs of them. */
  *views(): Generator<SessionView & { checkpointAge: number }> {
    const now = Date.now();
    for (const [, held] of [...this.#sessions].sort(([a], [b]) => (a < b ? -1 : 1))) {
      yield { ...view(held), checkpointAge: held.checkpointAge(now) };
    }
  }

  get(name: string): SessionView {
    return view(this.#held(name));
  }

  /** Names, shapes and dtypes of a session's variables. */
  variables(name: string): ReadonlyMap<string, VariableSpec> {
    return this.#held(name).session.contents.variables;
  }

  /** Creates a session; it is on the disk when this returns. Throws `session_exists`. */
  async create(name: string, contents: () => SessionContents): Promise<SessionView> {
    return this.#alone(name, async () => {
      if (this.#sessions.has(name)) {
        throw new Problem(
          'session_exists',
          `a new session must have a name that is free. Received: ${JSON.stringify(name)}`,
        );
      }
      if (this.#sessions.size >= sessionsMax) {
        throw new Problem('session_quota_exceeded', `at most ${sessionsMax} sessions can exist. Received: one more`, {
          headers: { 'retry-after': '60' },
        });
      }
      const session = new Session(name, new Date().toISOString(), contents(), 0);
      const checkpoints = await openCheckpoints(this.#place(name));
      const record: SessionRecord = {
        format: 1,
        first_checkpoint: checkpoints.next,
        revision_limit: revisionsReserved,
      };
      const held = new HeldSession(session, checkpoints, this.#path(name), record);
      try {
        await held.checkpoint();
        await writeRecord(this.#path(name), record);
        await syncFolder(join(this.#folder, 'sessions'));
      } catch (error) {
        await checkpoints.trim(0, record.first_checkpoint).catch(() => undefined);
        throw storageProblem(error);
      }
      this.#sessions.set(name, held);
      this.#log.info({ session: name }, 'session created');
      return view(held);
    });
  }

  /** Deletes a session and, unless they are to be kept, its checkpoints. */
  async delete(name: string, keepCheckpoints: boolean, precondition: Precondition): Promise<void> {
    const held = this.#held(name);
    await this.#alone(name, async () => {
      try {
        await held.delete(precondition, async () => {
          if (keepCheckpoints) return removeRecord(this.#path(name));
          await this.#moveToTrash(name);
        });
        this.#sessions.delete(name);
      } catch (error) {
        throw storageProblem(error);
      }
    });
    await rm(join(this.#folder, 'trash'), { recursive: true, force: true }).catch((error) => {
      this.#log.warn({ session: name, error: String(error) }, 'what is in trash/ is removed at the next start');
    });
    this.#log.info({ session: name, keepCheckpoints }, 'session deleted');
  }

  patch(name: string, patch: SessionPatch, precondition: Precondition): Promise<SessionView> {
    const held = this.#held(name);
    return held.change(precondition, () => {
      held.session.patch(patch);
      return view(held);
    });
  }

  /**
   * One step by these gradients; `receive` gets the values right after it. `base`, if given, is the iteration that the
   * gradients were computed from.
   */
  async applyGradients(
    name: string,
    gradients: ReadonlyMap<string, Slices>,
    base: number | undefined,
    precondition: Precondition,
    receive: Receive,
  ): Promise<Head> {
    const held = this.#held(name);
    const head = await held.change(precondition, () =>
      held.session.apply(held.session.check(gradients, base), receive),
    );
    this.#checkpointIfDue(held);
    return head;
  }

  read(name: string, part: Part, selections: readonly Selection[] | undefined, receive: Receive): Promise<Head> {
    const held = this.#held(name);
    return held.read(() => held.session.read(part, selections, receive));
  }

  assign(
    name: string,
    part: Part,
    assignments: ReadonlyMap<string, Slices>,
    precondition: Precondition,
  ): Promise<Head> {
    const held = this.#held(name);
    return held.change(precondition, () => held.session.assign(part, assignments));
  }

  /** Waits until the session is at another revision than this one, or for so long, or until `signal` is aborted. */
  async waitForChange(name: string, revision: number, milliseconds: number, signal: AbortSignal): Promise<void> {
    await this.#held(name).waitForChange(revision, milliseconds, signal);
  }

  checkpoints(name: string): CheckpointInfo[] {
    return this.#held(name).checkpoints.list();
  }

  /** Also tells the revision that the checkpoint has. */
  writeCheckpoint(name: string, precondition: Precondition): Promise<{ info: CheckpointInfo; revision: number }> {
    return this.#timedCheckpoint(this.#held(name), precondition);
  }

  findCheckpoint(name: string, id: string): CheckpointInfo {
    return this.#held(name).checkpoints.find(id);
  }

  async readCheckpoint(name: string, id: string, range: { start: number; end: number }): Promise<Readable> {
    return this.#held(name).checkpoints.read(id, range);
  }

  /** Throws `checkpoint_in_use` for the newest one, which a restart needs. */
  async deleteCheckpoint(name: string, id: string, precondition: Precondition): Promise<void> {
    const held = this.#held(name);
    await held.change(precondition, async () => {
      const info = held.checkpoints.find(id);
      if (info.id === held.checkpoints.newest?.id) {
        throw new Problem(
          'checkpoint_in_use',
          `the newest checkpoint must stay, since a restart needs it. Received: ${info.id}`,
        );
      }
      await held.checkpoints.remove(info.id);
    });
  }

  /** Puts the session back to a checkpoint, with its optimizer and settings; the revision goes on. */
  async restore(name: string, id: string, precondition: Precondition): Promise<SessionView> {
    const held = this.#held(name);
    return held.change(precondition, async () => {
      const { contents } = await held.checkpoints.load(held.checkpoints.find(id).id);
      held.session.replace(contents);
      return view(held);
    });
  }

  /** Wakes all who wait for a change, so that they answer with what there is. */
  wakeAll(): void {
    for (const held of this.#sessions.values()) held.wake();
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
    await this.#lock.release();
  }

  #path(name: string): string {
    return join(this.#folder, 'sessions', name);
  }

  #held(name: string): HeldSession {
    const held = this.#sessions.get(name);
    if (held !== undefined) return held;
    if (this.#ready) throw notFound(name);
    throw new Problem('recovering', 'the server must have recovered its sessions first. It is still reading them', {
      headers: { 'retry-after': '1' },
    });
  }

  /** Runs a creation or deletion; a second one of the same name meanwhile is told that the name is taken. */
  async #alone<T>(name: string, task: () => Promise<T>): Promise<T> {
    if (this.#busy.has(name)) {
      throw new Problem(
        'session_exists',
        `a session must not be created or deleted twice at once. Received: ${JSON.stringify(name)}`,
      );
    }
    this.#busy.add(name);
    try {
      return await task();
    } finally {
      this.#busy.delete(name);
    }
  }

  #place(name: string): SessionFolder {
    const onDamage = (damage: Damage): void => {
      this.#damage.push(damage);
      this.#log.error(damage, 'a damaged file was set aside');
    };
    return { name, path: this.#path(name), aside: join(this.#folder, 'damaged', name), onDamage };
  }

  async #moveToTrash(name: string): Promise<void> {
    const trash = join(this.#folder, 'trash');
    await mkdir(trash, { recursive: true });
    await rename(this.#path(name), join(trash, `${name}-${Date.now()}`));
    await syncFolder(join(this.#folder, 'sessions'));
  }

  async #timedCheckpoint(held: HeldSession, precondition?: Precondition) {
    const started = performance.now();
    const written = await held.checkpoint(precondition);
    this.#onCheckpoint?.((performance.now() - started) / 1000, written.info.bytes);
    return written;
  }

  #checkpointByTime(): void {
    for (const held of this.#sessions.values()) this.#checkpointIfDue(held);
  }

  /** Starts a checkpoint beside the traffic if the session's rules ask for one. */
  #checkpointIfDue(held: HeldSession): void {
    const now = Date.now();
    if (!held.isDue(now)) return;
    held.postpone(now);
    this.#timedCheckpoint(held).catch((error) => {
      this.#log.error({ session: held.session.name, error: String(error) }, 'a checkpoint could not be written');
    });
  }
}

function view(held: HeldSession): SessionView {
  return { session: held.session, lastCheckpoint: held.checkpoints.newest };
}
