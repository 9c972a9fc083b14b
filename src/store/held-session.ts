/**
 * A session that the store holds: the state machine, the queue in front of it, the checkpoints behind it, and the signal
 * that wakes those who wait for a change. Everything that changes the session runs in its queue.
 */
import { EventEmitter, once } from 'node:events';
import { Problem } from '../errors.ts';
import { queuedRequestsMax } from '../limits.ts';
import type { Session } from '../session/session.ts';
import { takeSnapshot } from '../session/snapshot.ts';
import type { CheckpointFolder, CheckpointInfo } from './checkpoint-folder.ts';
import { storageProblem } from './files.ts';
import { Queue } from './queue.ts';
import { revisionsReserved, type SessionRecord, writeRecord } from './session-record.ts';

/** Decides whether a request applies, given the revision; `undefined`: it always does. */
export type Precondition = ((revision: number) => boolean) | undefined;

export class HeldSession {
  readonly session: Session;
  readonly checkpoints: CheckpointFolder;
  readonly #folder: string;
  readonly #queue = new Queue(queuedRequestsMax);
  /** One checkpoint is written at a time. */
  readonly #writing = new Queue(queuedRequestsMax);
  #record: SessionRecord;
  #reserving: Promise<void> | undefined;
  #deleted = false;
  #saved: { revision: number; iterations: number; at: number };
  readonly #changes = new EventEmitter().setMaxListeners(0);

  constructor(session: Session, checkpoints: CheckpointFolder, folder: string, record: SessionRecord) {
    this.session = session;
    this.checkpoints = checkpoints;
    this.#folder = folder;
    this.#record = record;
    this.#saved = { revision: session.revision, iterations: session.contents.iterations, at: Date.now() };
  }

  /** Runs a task that reads, in its turn. Throws `session_not_found` if the session has been deleted by then. */
  read<T>(task: () => T | Promise<T>): Promise<T> {
    return this.#queue.run(() => {
      this.#assertLive();
      return task();
    });
  }

  /** Runs a task that changes the session, in its turn. Throws `precondition_failed` as well, before the task begins. */
  change<T>(precondition: Precondition, task: () => T | Promise<T>): Promise<T> {
    return this.read(async () => {
      const { revision } = this.session;
      if (precondition !== undefined && !precondition(revision)) {
        throw new Problem(
          'precondition_failed',
          `If-Match must name the session's revision, "${revision}". Received: another`,
        );
      }
      await this.#reserve();
      const result = await task();
      if (this.session.revision !== revision) this.wake();
      return result;
    });
  }

  /** Resolves when the revision is another one, after `milliseconds`, or when `signal` is aborted. */
  async waitForChange(revision: number, milliseconds: number, signal: AbortSignal): Promise<void> {
    if (this.session.revision !== revision || signal.aborted) return;
    const either = AbortSignal.any([signal, AbortSignal.timeout(milliseconds)]);
    await once(this.#changes, 'change', { signal: either }).catch(() => undefined);
  }

  /** Wakes all who wait for a change. */
  wake(): void {
    this.#changes.emit('change');
  }

  /** Whether a checkpoint is due by the session's own rules. `now` in milliseconds. */
  isDue(now: number): boolean {
    const { revision, contents } = this.session;
    const { every_steps, every_seconds } = contents.settings.checkpointing;
    if (revision === this.#saved.revision || this.#writing.busy) return false;
    const steps = Math.abs(contents.iterations - this.#saved.iterations);
    return (
      (every_steps !== null && steps >= every_steps) ||
      (every_seconds !== null && now - this.#saved.at >= every_seconds * 1000)
    );
  }

  /** Writes a checkpoint of the session as it stands when its turn comes, while steps go on. */
  checkpoint(precondition?: Precondition): Promise<{ info: CheckpointInfo; revision: number }> {
    return this.#writing.run(async () => {
      const snapshot = await this.change(precondition, () => takeSnapshot(this.session));
      try {
        const now = new Date();
        const info = await this.checkpoints.write(snapshot, now.toISOString(), () => this.#gone());
        this.#saved = { revision: snapshot.head.revision, iterations: snapshot.head.iterations, at: now.getTime() };
        await this.checkpoints.trim(this.session.contents.settings.checkpointing.keep, this.#record.first_checkpoint);
        return { info, revision: snapshot.head.revision };
      } catch (error) {
        throw this.#gone() ?? storageProblem(error);
      } finally {
        snapshot.end();
      }
    });
  }

  /** A last checkpoint if there was a change, and a record that says that nothing came after it. */
  async close(): Promise<void> {
    if (this.session.revision !== this.#saved.revision) await this.checkpoint();
    await this.read(async () => {
      if (this.session.revision !== this.#saved.revision) return;
      await writeRecord(this.#folder, { ...this.#record, revision_limit: this.session.revision });
    });
  }

  /** Runs `remove` in its turn; what waits behind it finds no session. A checkpoint under way is given up. */
  async delete(precondition: Precondition, remove: () => Promise<void>): Promise<void> {
    await this.change(precondition, async () => {
      await remove();
      this.#deleted = true;
      this.wake();
    });
    await this.#writing.run(() => undefined);
  }

  /** Seconds since the last checkpoint, or since the start. */
  checkpointAge(now: number): number {
    return (now - this.#saved.at) / 1000;
  }

  /** Called when a checkpoint by rule has failed: the next attempt waits as if there had been one. */
  postpone(now: number): void {
    this.#saved = { ...this.#saved, at: now, iterations: this.session.contents.iterations };
  }

  #gone(): Problem | undefined {
    return this.#deleted ? notFound(this.session.name) : undefined;
  }

  #assertLive(): void {
    const problem = this.#gone();
    if (problem !== undefined) throw problem;
  }

  /** Revisions are reserved ahead; only if that should lag behind does anything wait for it. */
  async #reserve(): Promise<void> {
    const left = this.#record.revision_limit - this.session.revision;
    if (left > revisionsReserved / 2) return;
    this.#reserving ??= this.#extend().finally(() => {
      this.#reserving = undefined;
    });
    if (left < 1) await this.#reserving;
    else this.#reserving.catch(() => undefined);
  }

  async #extend(): Promise<void> {
    const record = { ...this.#record, revision_limit: this.session.revision + revisionsReserved };
    try {
      await writeRecord(this.#folder, record);
    } catch (error) {
      throw storageProblem(error);
    }
    this.#record = record;
  }
}

export function notFound(name: string): Problem {
  return new Problem('session_not_found', `a session must exist to be used. Received: ${JSON.stringify(name)}`);
}
