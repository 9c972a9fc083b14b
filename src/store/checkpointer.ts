/**
 * When a session's checkpoints are written, and by which rule: on demand, after so many steps or seconds, and at the end.
 * One is written at a time, beside the traffic.
 */
import { queuedRequestsMax } from '../limits.ts';
import type { Session } from '../session/session.ts';
import type { SessionSnapshot } from '../session/snapshot.ts';
import type { CheckpointFolder, CheckpointInfo } from './checkpoint-folder.ts';
import { storageProblem } from './files.ts';
import { Queue } from './queue.ts';

export interface WrittenCheckpoint {
  readonly info: CheckpointInfo;
  /** The session's revision that it holds. */
  readonly revision: number;
  readonly seconds: number;
}

export class Checkpointer {
  readonly folder: CheckpointFolder;
  readonly #session: Session;
  /** The number of the session's first checkpoint; older ones are of a former session and stay. */
  readonly #first: number;
  readonly #writing = new Queue(queuedRequestsMax);
  #saved: { revision: number; iterations: number; at: number };

  /** `savedRevision`: the one that the newest checkpoint has. */
  constructor(session: Session, folder: CheckpointFolder, first: number, savedRevision: number) {
    this.#session = session;
    this.folder = folder;
    this.#first = first;
    this.#saved = { revision: savedRevision, iterations: session.contents.iterations, at: Date.now() };
  }

  /** Whether the session is as the newest checkpoint has it. */
  get upToDate(): boolean {
    return this.#session.revision === this.#saved.revision;
  }

  /** Seconds since the last checkpoint, or since the start. `now` in milliseconds. */
  age(now: number): number {
    return (now - this.#saved.at) / 1000;
  }

  /** Whether the session's own rules ask for a checkpoint. */
  isDue(now: number): boolean {
    if (this.upToDate || this.#writing.busy) return false;
    const { iterations, settings } = this.#session.contents;
    const { every_steps, every_seconds } = settings.checkpointing;
    const steps = Math.abs(iterations - this.#saved.iterations);
    return (every_steps !== null && steps >= every_steps) || (every_seconds !== null && this.age(now) >= every_seconds);
  }

  /** After a failure the next attempt waits as long as if there had been none. */
  postpone(now: number): void {
    this.#saved = { ...this.#saved, at: now, iterations: this.#session.contents.iterations };
  }

  /** Writes what `take` gives when the turn has come. `giveUp` is asked on the way; the error it returns is thrown. */
  write(take: () => Promise<SessionSnapshot>, giveUp: () => Error | undefined): Promise<WrittenCheckpoint> {
    return this.#writing.run(async () => {
      const started = performance.now();
      const snapshot = await take();
      try {
        const now = new Date();
        const info = await this.folder.write(snapshot, now.toISOString(), giveUp);
        const { revision, iterations } = snapshot.head;
        this.#saved = { revision, iterations, at: now.getTime() };
        await this.#trim();
        return { info, revision, seconds: (performance.now() - started) / 1000 };
      } catch (error) {
        throw giveUp() ?? storageProblem(error);
      } finally {
        snapshot.end();
      }
    });
  }

  /** What cannot be removed now is tried again after the next checkpoint, and does not undo this one. */
  async #trim(): Promise<void> {
    const { keep } = this.#session.contents.settings.checkpointing;
    await this.folder.trim(keep, this.#first).catch(() => undefined);
  }

  /** Resolves when no checkpoint is being written. */
  idle(): Promise<void> {
    return this.#writing.idle();
  }
}
