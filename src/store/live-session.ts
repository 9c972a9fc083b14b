/**
 * A session with all that its changes go through: its turns, its journal and its idempotency keys. Nothing is applied before
 * its level of durability is met, and then it cannot fail any more, so memory and disk say the same.
 */
import { Problem } from '../errors.ts';
import type { ArrivedData } from '../journal/arrived-data.ts';
import type { Change } from '../journal/changes.ts';
import type { Progress } from '../kernel/threads.ts';
import { queuedRequestsMax } from '../limits.ts';
import { type CheckedGradient, extentOf, type Slices } from '../session/gradient.ts';
import type { Head, Position, Receive, Session } from '../session/session.ts';
import type { Durability } from '../session/settings.ts';
import type { Origin } from '../session/workers.ts';
import { Barrier } from './barrier.ts';
import type { ChangeLog } from './change-log.ts';
import type { CheckpointInfo } from './checkpoint-folder.ts';
import type { DiskSpace } from './disk-space.ts';
import type { Figures } from './figures.ts';
import { encodeEntry, type IdempotencyKeys, type KeyEntry, type RequestKey } from './idempotency.ts';
import type { MemoryBudget } from './memory-budget.ts';
import { applyStep } from './reported-step.ts';
import type { ChangeRequest, Precondition } from './requests.ts';
import type { Revisions } from './revisions.ts';
import { changeEvent, SessionEvents, stepEvent } from './session-events.ts';
import type { SessionFolder } from './session-folder.ts';
import { Turns } from './turns.ts';

/** A step to be admitted: gradients that have been checked, whose they are, and the requests that it answers. */
export interface StepInput {
  readonly gradients: ReadonlyMap<string, Slices>;
  readonly checked: readonly CheckedGradient[];
  readonly origin: Origin;
  readonly keys: readonly RequestKey[];
  readonly arrived?: ArrivedData | undefined;
  readonly receive: Receive;
}

/** A step whose record is on its way. */
export interface AdmittedStep {
  /** The level that it is acknowledged at. */
  readonly level: Durability;
  /** Resolves when it may be applied. */
  readonly acknowledged: Promise<void>;
  /** Settled when the memory of the gradients is not read any more. */
  readonly committed: Promise<void>;
  /** To be called in its turn. It cannot fail. */
  apply(progress?: Progress): Promise<Head>;
}

/** Puts the one change of a task where it survives; after it the task applies the change, and cannot fail. */
export type Commit = (change: Change, after: After) => Promise<void>;

/** Where a change takes the session, as far as it goes elsewhere, and what it makes. */
export interface After {
  readonly iterations?: number;
  readonly learningRate?: number;
  readonly removed?: string;
  readonly wrote?: CheckpointInfo;
}

export class LiveSession {
  readonly session: Session;
  readonly log: ChangeLog;
  readonly keys: IdempotencyKeys;
  readonly memory: MemoryBudget;
  /** What it is all written to. */
  readonly disk: DiskSpace;
  readonly turns = new Turns(queuedRequestsMax);
  /** Since the server has it: steps, rows of sparse gradients, and bytes of gradients. */
  readonly applied = { steps: 0, rows: 0, bytes: 0 };
  /** Those who wait for other workers to make a step with. */
  readonly barrier = new Barrier();
  /** What happens to it, for those who listen. */
  readonly events: SessionEvents;
  readonly figures: Figures;
  /** After a crash: the revision of the state that came back, and the one that it went on at. */
  resumed: { readonly from: number; readonly to: number } | undefined;
  readonly #revisions: Revisions;
  readonly #onFault: (error: unknown) => void;
  readonly #fault = (error: unknown): never => {
    this.#onFault(error);
    throw error;
  };
  /** Where the session will stand when what is admitted is applied, if anything is. */
  #admitted: Position = { revision: 0, iterations: 0 };
  #deleted = false;

  /** `events`: those that have been told, if there are any. */
  constructor(
    session: Session,
    log: ChangeLog,
    { keys, memory, disk, figures, onFault }: SessionFolder,
    revisions: Revisions,
    events = new SessionEvents(session.position),
  ) {
    this.session = session;
    this.log = log;
    this.keys = keys;
    this.memory = memory;
    this.disk = disk;
    this.figures = figures;
    this.#revisions = revisions;
    this.#onFault = onFault;
    this.events = events;
  }

  get durability(): Durability {
    return this.session.contents.settings.durability;
  }

  /** Where the session will stand when what is admitted is applied. */
  get next(): Position {
    return this.turns.ahead > 0 ? this.#admitted : this.session.position;
  }

  /** In its turn of admission: puts a step that is to be applied at `from` into the journal. */
  async admit(input: StepInput, from: Position): Promise<AdmittedStep> {
    const { session } = this;
    const { gradients, origin, keys, arrived } = input;
    const step = session.prepare(input.checked, input.receive, from, origin);
    const entries = keys.map((key) => entryOf(key, step.head));
    const place = { previous: from.revision, revision: step.head.revision, iterations: step.head.iterations };
    const change = { kind: 'gradients', gradients, origin } as const;
    const { stages } = this.figures;
    const checked = performance.now();
    const { acknowledged, committed, level } = await this.log.append(change, place, this.durability, entries, arrived);
    this.#admitted = place;
    const apply = async (progress?: Progress): Promise<Head> => {
      const begun = performance.now();
      const report = await applyStep(session, step, progress).catch(this.#fault);
      stages.journal.observe((begun - checked) / 1000);
      stages.apply.observe((performance.now() - begun) / 1000);
      for (const entry of entries) this.keys.remember(entry);
      const { rows, bytes } = extentOf(gradients.values());
      this.applied.steps++;
      this.applied.rows += rows;
      this.applied.bytes += bytes;
      this.events.publish(stepEvent(step.head, report));
      return step.head;
    };
    return { level, acknowledged, committed, apply };
  }

  /**
   * Runs `task` when nothing else is under way. It checks, calls `commit` once at most, and applies. Throws
   * `precondition_failed` and `session_not_found` before the task begins, and where the disk takes no changes, why. Those who
   * wait for other workers find out what the change means for them.
   */
  change<T>({ precondition, key }: ChangeRequest, task: (commit: Commit) => T | Promise<T>): Promise<T> {
    return this.turns.alone(async () => {
      const { session } = this;
      const { revision, iterations } = session.position;
      await this.requireChangeable(precondition, revision);
      let entry: KeyEntry | undefined;
      let committed: Change | undefined;
      const commit: Commit = async (change, after) => {
        const place = { previous: revision, revision: revision + 1, iterations: after.iterations ?? iterations };
        if (key !== undefined) entry = { ...entryOf(key, { ...session.head, ...place }), ...after };
        await (await this.log.append(change, place, this.durability, entry === undefined ? [] : [entry])).acknowledged;
        committed = change;
      };
      let result: T;
      try {
        result = await task(commit);
      } catch (error) {
        if (committed !== undefined) this.#onFault(error);
        throw error;
      }
      if (entry !== undefined) this.keys.remember(entry);
      if (committed !== undefined) this.events.move(session.revision, changeEvent(committed, session.position));
      this.barrier.disperse();
      return result;
    });
  }

  /**
   * Sees to room on the disk for a change of so many bytes, unless it has been set aside. Throws `insufficient_storage`. Under
   * `checkpoint` a change takes none.
   */
  takeRoom({ hasRoom = false }: ChangeRequest, bytes: number): void {
    if (!hasRoom && this.log.isOn) this.disk.take('change', bytes);
  }

  /** Remembers the key of a request that has left the session as it was; it is on the disk when this returns. */
  async note(key: RequestKey, after: After): Promise<void> {
    const entry = { ...entryOf(key, this.session.head), ...after };
    await this.log.journal.appendKey(encodeEntry(entry));
    this.keys.remember(entry);
  }

  /** Runs `task` when all that came before is applied. Throws `session_not_found` if the session has been deleted by then. */
  read<T>(task: () => T | Promise<T>): Promise<T> {
    return this.turns.read(() => {
      this.assertLive();
      return task();
    });
  }

  /** Nothing finds the session any more. */
  markDeleted(): void {
    this.#deleted = true;
  }

  assertLive(): void {
    const problem = this.gone();
    if (problem !== undefined) throw problem;
  }

  gone(): Problem | undefined {
    return this.#deleted ? notFound(this.session.name) : undefined;
  }

  /** Throws where the session is gone, or at another revision. */
  requireFit(precondition: Precondition, revision = this.session.revision): void {
    this.assertLive();
    if (precondition === undefined || precondition(revision)) return;
    const rule = `If-Match must name the session's revision, "${revision}"`;
    throw new Problem('precondition_failed', `${rule}. Received: another`);
  }

  /** As `requireFit`; throws too where the disk takes no changes, why. */
  async requireChangeable(precondition: Precondition, revision: number): Promise<void> {
    this.requireFit(precondition, revision);
    this.log.journal.requireWritable();
    const reserving = this.#revisions.reserve(revision);
    if (reserving !== undefined) await reserving;
  }
}

function entryOf(request: RequestKey, { revision, iterations, learningRate }: Head): KeyEntry {
  return { key: request.key, digest: request.digest, revision, iterations, learningRate };
}

export function notFound(name: string): Problem {
  return new Problem('session_not_found', `a session must exist to be used. Received: ${JSON.stringify(name)}`);
}
