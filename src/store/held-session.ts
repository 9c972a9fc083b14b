/**
 * A session as the store holds it, and as requests meet it: the state machine, the queue in front of it, the checkpoints
 * behind it, and the signal that wakes those who wait for a change. Everything that reads or changes it has its turn.
 */
import { EventEmitter, once } from 'node:events';
import type { Readable } from 'node:stream';
import { Problem } from '../errors.ts';
import type { Part } from '../kernel/extent.ts';
import type { Progress } from '../kernel/threads.ts';
import { queuedRequestsMax } from '../limits.ts';
import { extentOf, type Slices } from '../session/gradient.ts';
import type { Head, Receive, Selection, Session, SessionContents, SessionPatch } from '../session/session.ts';
import { takeSnapshot } from '../session/snapshot.ts';
import { stateBytes } from '../session/variable.ts';
import type { CheckpointInfo } from './checkpoint-folder.ts';
import type { Checkpointer, WrittenCheckpoint } from './checkpointer.ts';
import { storageProblem } from './files.ts';
import { Queue } from './queue.ts';
import type { Revisions } from './revisions.ts';
import { copyOf, fingerprintOf } from './whole-state.ts';

/** Decides whether a request applies, given the revision; `undefined`: it always does. */
export type Precondition = ((revision: number) => boolean) | undefined;

/** What a session document says, as it stands at one moment. */
export interface SessionView {
  readonly head: Head;
  readonly createdAt: string;
  readonly contents: SessionContents;
  readonly lastCheckpoint: CheckpointInfo | undefined;
}

export class HeldSession {
  readonly #session: Session;
  readonly #checkpointer: Checkpointer;
  readonly #revisions: Revisions;
  readonly #onStep: () => void;
  readonly #queue = new Queue(queuedRequestsMax);
  readonly #changes = new EventEmitter().setMaxListeners(0);
  #measured: { variables: SessionContents['variables']; bytes: number } | undefined;
  /** Since the server has it: steps, rows of sparse gradients, and bytes of gradients. */
  readonly applied = { steps: 0, rows: 0, bytes: 0 };
  #deleted = false;
  #waiting = true;

  /** `onStep` is called after every step, for whoever sees to checkpoints. */
  constructor(session: Session, checkpointer: Checkpointer, revisions: Revisions, onStep: () => void) {
    this.#session = session;
    this.#checkpointer = checkpointer;
    this.#revisions = revisions;
    this.#onStep = onStep;
  }

  get name(): string {
    return this.#session.name;
  }

  get revision(): number {
    return this.#session.revision;
  }

  get contents(): SessionContents {
    return this.#session.contents;
  }

  /** Of its variables and slots in memory. */
  get bytes(): number {
    const { variables } = this.#session.contents;
    if (this.#measured?.variables !== variables) this.#measured = { variables, bytes: stateBytes(variables.values()) };
    return this.#measured.bytes;
  }

  get view(): SessionView {
    const { head, createdAt, contents } = this.#session;
    return { head, createdAt, contents, lastCheckpoint: this.#checkpointer.folder.newest };
  }

  /**
   * One step by these gradients; `receive` gets the values right after it, and `progress` is told as they come. `base`, if
   * given, is the iteration that the gradients were computed from.
   */
  async applyGradients(
    gradients: ReadonlyMap<string, Slices>,
    base: number | undefined,
    precondition: Precondition,
    receive: Receive,
    progress?: Progress,
  ): Promise<Head> {
    const session = this.#session;
    const head = await this.#change(precondition, async () => {
      return session.apply(await session.check(gradients, base), receive, progress);
    });
    const { rows, bytes } = extentOf(gradients.values());
    this.applied.steps++;
    this.applied.rows += rows;
    this.applied.bytes += bytes;
    this.#onStep();
    return head;
  }

  read(part: Part, selections: readonly Selection[] | undefined, receive: Receive): Promise<Head> {
    return this.#turn(() => this.#session.read(part, selections, receive));
  }

  assign(part: Part, assignments: ReadonlyMap<string, Slices>, precondition: Precondition): Promise<Head> {
    return this.#change(precondition, () => this.#session.assign(part, assignments));
  }

  patch(patch: SessionPatch, precondition: Precondition): Promise<SessionView> {
    return this.#change(precondition, () => {
      this.#session.patch(patch);
      return this.view;
    });
  }

  /**
   * Waits until the revision is another one, for so long, or until `signal` is aborted or `endWaits` is called. Throws
   * `session_not_found` if the session was deleted meanwhile.
   */
  async waitForChange(revision: number, milliseconds: number, signal: AbortSignal): Promise<void> {
    if (!this.#waiting || this.#session.revision !== revision || signal.aborted) return;
    // No `AbortSignal.any` with one of `timeout`, which Node 20 may collect as garbage before its time.
    const enough = new AbortController();
    const end = () => enough.abort();
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener('abort', end);
    await once(this.#changes, 'change', { signal: enough.signal }).catch(() => undefined);
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
    this.#assertLive();
  }

  /** Nobody waits for a change any more, neither who does now nor who would. */
  endWaits(): void {
    this.#waiting = false;
    this.#changes.emit('change');
  }

  /**
   * The SHA-256, in hexadecimal, of the state's canonical bytes, and where the session then stood. Changes wait meanwhile;
   * other sessions do not.
   */
  fingerprint(): Promise<{ head: Head; sha256: string }> {
    return this.#turn(async () => ({ head: this.#session.head, sha256: await fingerprintOf(this.contents) }));
  }

  /**
   * The state in memory of its own: as it stands or, if `iterations` is another than now, as the newest checkpoint with
   * that counter has it. Throws `iteration_unavailable` where there is none.
   */
  copy(iterations: number | undefined, precondition: Precondition): Promise<SessionContents> {
    const { folder } = this.#checkpointer;
    return this.#change(precondition, async () => {
      if (iterations === undefined || iterations === this.contents.iterations) return copyOf(this.contents);
      const info = this.checkpoints.find((each) => each.iterations === iterations);
      if (info !== undefined) return (await folder.load(info.id).catch(rethrow)).contents;
      const known = [this.contents.iterations, ...this.checkpoints.map((each) => each.iterations)];
      const rule = `iterations must be the session's or a checkpoint's: ${[...new Set(known)].slice(0, 8).join(', ')}`;
      throw new Problem('iteration_unavailable', `${rule}. Received: ${iterations}`);
    });
  }

  /** Newest first. */
  get checkpoints(): CheckpointInfo[] {
    return this.#checkpointer.folder.list();
  }

  /** By id, or `latest`. Throws `checkpoint_not_found`. */
  findCheckpoint(id: string): CheckpointInfo {
    return this.#checkpointer.folder.find(id);
  }

  /** The bytes `start` to `end` (inclusive) of a checkpoint's file. */
  readCheckpoint(id: string, range: { start: number; end: number }): Promise<Readable> {
    return this.#checkpointer.folder.read(id, range);
  }

  /** Writes a checkpoint of the session as it stands when its turn comes, while steps go on. */
  checkpoint(precondition?: Precondition): Promise<WrittenCheckpoint> {
    const take = () => this.#change(precondition, () => takeSnapshot(this.#session));
    return this.#checkpointer.write(take, () => this.#gone());
  }

  /** Throws `checkpoint_in_use` for the newest one, which a restart needs. */
  deleteCheckpoint(id: string, precondition: Precondition): Promise<void> {
    const { folder } = this.#checkpointer;
    return this.#change(precondition, async () => {
      const info = folder.find(id);
      if (info.id === folder.newest?.id) {
        const rule = 'the newest checkpoint must stay, since a restart needs it';
        throw new Problem('checkpoint_in_use', `${rule}. Received: ${info.id}`);
      }
      await folder.remove(info.id).catch(rethrow);
    });
  }

  /** Puts the session back to a checkpoint, with its optimizer and settings; the revision goes on. */
  restore(id: string, precondition: Precondition): Promise<SessionView> {
    const { folder } = this.#checkpointer;
    return this.#change(precondition, async () => {
      const { contents } = await folder.load(folder.find(id).id).catch(rethrow);
      this.#session.replace(contents);
      return this.view;
    });
  }

  /** Seconds since the last checkpoint, or since the start. `now` in milliseconds. */
  checkpointAge(now: number): number {
    return this.#checkpointer.age(now);
  }

  /** Writes a checkpoint if the session's rules ask for one; `undefined` if they do not. */
  checkpointIfDue(now: number): Promise<WrittenCheckpoint> | undefined {
    if (!this.#checkpointer.isDue(now)) return undefined;
    this.#checkpointer.postpone(now);
    return this.checkpoint();
  }

  /** A last checkpoint if there was a change, and a note that nothing came after it. */
  async close(): Promise<void> {
    if (!this.#checkpointer.upToDate) await this.checkpoint();
    await this.#turn(async () => {
      if (this.#checkpointer.upToDate) await this.#revisions.settle(this.#session.revision);
    });
  }

  /** Runs `remove` in its turn; what waits behind it finds no session. A checkpoint under way is given up. */
  async delete(precondition: Precondition, remove: () => Promise<void>): Promise<void> {
    await this.#change(precondition, async () => {
      await remove();
      this.#deleted = true;
      this.endWaits();
    });
    await this.#checkpointer.idle();
    this.#session.release();
  }

  /** Runs a task in its turn. Throws `session_not_found` if the session has been deleted by then. */
  #turn<T>(task: () => T | Promise<T>): Promise<T> {
    return this.#queue.run(() => {
      this.#assertLive();
      return task();
    });
  }

  /** As `#turn`, for a task that changes the session. Throws `precondition_failed` as well, before the task begins. */
  #change<T>(precondition: Precondition, task: () => T | Promise<T>): Promise<T> {
    return this.#turn(async () => {
      const { revision } = this.#session;
      if (precondition !== undefined && !precondition(revision)) {
        const rule = `If-Match must name the session's revision, "${revision}"`;
        throw new Problem('precondition_failed', `${rule}. Received: another`);
      }
      await this.#revisions.reserve(revision);
      const result = await task();
      if (this.#session.revision !== revision) this.#changes.emit('change');
      return result;
    });
  }

  #assertLive(): void {
    const problem = this.#gone();
    if (problem !== undefined) throw problem;
  }

  #gone(): Problem | undefined {
    return this.#deleted ? notFound(this.name) : undefined;
  }
}

export function notFound(name: string): Problem {
  return new Problem('session_not_found', `a session must exist to be used. Received: ${JSON.stringify(name)}`);
}

function rethrow(error: unknown): never {
  throw storageProblem(error);
}
