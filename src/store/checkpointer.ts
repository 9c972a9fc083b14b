/**
 * When a session's checkpoints are written, and by which rule: on demand, after so many steps or seconds, where the journal
 * needs one to lead on from, and at the end. One is written at a time, beside the traffic; what it makes needless of older
 * checkpoints and of the journal goes after it.
 */

import { storageProblem } from '../journal/files.ts';
import { queuedRequestsMax } from '../limits.ts';
import type { Position } from '../session/session.ts';
import type { SessionSnapshot } from '../session/snapshot.ts';
import { takeSnapshot } from '../session/snapshot.ts';
import type { CheckpointFolder, CheckpointInfo } from './checkpoint-folder.ts';
import type { LiveSession } from './live-session.ts';
import { Queue } from './queue.ts';
import type { Precondition } from './requests.ts';

export interface WrittenCheckpoint {
  readonly info: CheckpointInfo;
  /** The session's revision that it holds. */
  readonly revision: number;
}

/** What a checkpoint holds, and when it was written, by `Date.now()`. */
export interface SavedState extends Position {
  readonly at: number;
}

/** One that the journal needs is tried again after so long. */
const urgentEveryMs = 10_000;

export class Checkpointer {
  readonly folder: CheckpointFolder;
  /** The number of the session's first checkpoint; older ones are of a former session and stay. */
  readonly first: number;
  readonly #live: LiveSession;
  readonly #writing = new Queue(queuedRequestsMax);
  #saved: SavedState;
  /** What the session's rules count from: the last checkpoint, the last attempt, or the start. */
  #counted: { iterations: number; at: number };
  #triedAt = 0;
  #failures = 0;
  /** The checkpoint that a restore in the journal, behind the newest checkpoint, went back to. */
  #restored: { readonly id: string; readonly revision: number } | undefined;

  /** `savedRevision`: the one that the newest checkpoint has. */
  constructor(live: LiveSession, folder: CheckpointFolder, first: number, savedRevision: number) {
    this.#live = live;
    this.folder = folder;
    this.first = first;
    const { iterations } = live.session.contents;
    const [newest] = folder.since(first);
    const at = newest === undefined ? Date.now() : Date.parse(newest.created_at);
    this.#saved = { revision: savedRevision, iterations: newest?.iterations ?? iterations, at };
    this.#counted = { iterations, at: Date.now() };
  }

  /** Whether the session is as the newest checkpoint has it. */
  get upToDate(): boolean {
    return this.#live.session.revision === this.#saved.revision;
  }

  /** What the newest checkpoint has. */
  get saved(): SavedState {
    return this.#saved;
  }

  /** How many could not be written since the server was started. */
  get failures(): number {
    return this.#failures;
  }

  /** Whether the session's own rules ask for a checkpoint, or its journal does. */
  isDue(now: number): boolean {
    if (this.#writing.busy) return false;
    if (this.#isUrgent && now - this.#triedAt >= urgentEveryMs) return true;
    if (this.upToDate) return false;
    const { iterations, settings } = this.#live.session.contents;
    const { every_steps, every_seconds } = settings.checkpointing;
    const steps = Math.abs(iterations - this.#counted.iterations);
    const seconds = (now - this.#counted.at) / 1000;
    return (every_steps !== null && steps >= every_steps) || (every_seconds !== null && seconds >= every_seconds);
  }

  /** After a failure the next attempt waits as long as if there had been none. */
  postpone(now: number): void {
    this.#counted = { iterations: this.#live.session.contents.iterations, at: now };
    this.#triedAt = now;
  }

  /** Notes that the journal goes back to a checkpoint, which it needs until there is a newer one. */
  restoredFrom(id: string, revision: number): void {
    this.#restored = { id, revision };
  }

  /** Whether a restart needs it. */
  isNeeded(id: string): boolean {
    return id === this.folder.newest?.id || id === this.#restored?.id;
  }

  /** Writes one of the session as it stands when its turn comes, while steps go on. */
  async write(precondition?: Precondition): Promise<WrittenCheckpoint> {
    const written = await this.#writing.run(async () => {
      const started = performance.now();
      const snapshot = await this.#snapshot(precondition);
      try {
        const info = await this.#save(snapshot);
        const { revision } = snapshot.head;
        this.#live.events.publish({ kind: 'checkpoint', revision, info });
        this.#live.figures.checkpoints.observe((performance.now() - started) / 1000);
        return { info, revision };
      } catch (error) {
        this.#live.log.checkpointOver(false);
        const gone = this.#live.gone();
        if (gone === undefined) this.#failures++;
        throw gone ?? storageProblem(error);
      } finally {
        snapshot.end();
      }
    });
    this.trim();
    return written;
  }

  /** Removes what the session's settings do not keep, after what is being written. */
  trim(): void {
    this.#writing.run(() => this.#trim()).catch(() => undefined);
  }

  /** Runs `task` while no checkpoint is written and nothing is removed. */
  undisturbed<T>(task: () => Promise<T>): Promise<T> {
    return this.#writing.run(task);
  }

  /** Resolves when no checkpoint is being written, nor anything removed. */
  idle(): Promise<void> {
    return this.#writing.idle();
  }

  get #isUrgent(): boolean {
    return this.#restored !== undefined || this.#live.log.lacksCheckpoint(this.#live.durability);
  }

  #snapshot(precondition: Precondition): Promise<SessionSnapshot> {
    const live = this.#live;
    return live.turns.alone(() => {
      live.requireFit(precondition);
      live.log.snapshotTaken(live.durability, live.session.revision);
      return takeSnapshot(live.session);
    });
  }

  async #save(snapshot: SessionSnapshot): Promise<CheckpointInfo> {
    const now = new Date();
    await this.#live.log.keysWritten();
    // So that the journal has a record of every step before a checkpoint, from which an older one leads on.
    await this.#live.log.journal.flush();
    const note = { savedAt: now.toISOString(), journal: this.#live.log.journal.id.toString('hex') };
    const info = await this.folder.write(snapshot, note, () => this.#live.gone());
    const { revision, iterations } = snapshot.head;
    this.#saved = { revision, iterations, at: now.getTime() };
    this.#counted = { iterations, at: now.getTime() };
    if (this.#restored !== undefined && this.#restored.revision <= revision) this.#restored = undefined;
    this.#live.log.checkpointOver(true);
    return info;
  }

  /** What cannot be removed now is tried again after the next checkpoint, and does not undo this one. */
  async #trim(): Promise<void> {
    const { keep } = this.#live.session.contents.settings.checkpointing;
    await this.folder.trim(keep, this.first, this.#restored?.id);
    await this.#live.log.journal.trim(this.#historyStart());
  }

  /** The revision up to which the journal is not needed: by a restart, or by the history that is to be kept. */
  #historyStart(): number {
    const { contents, revision } = this.#live.session;
    const { keep_journal_steps } = contents.settings.checkpointing;
    const revisions = this.folder.since(this.first).map((each) => each.revision);
    const oldest = revisions.at(-1) ?? 0;
    if (keep_journal_steps === null) return oldest;
    return revisions.find((each) => each <= revision - keep_journal_steps) ?? oldest;
  }
}
