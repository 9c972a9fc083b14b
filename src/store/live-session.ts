/**
 * A session with all that its changes go through: its turns, its journal and its idempotency keys. Nothing is applied before
 * its level of durability is met, and then it cannot fail any more, so memory and disk say the same.
 */
import { Problem } from '../errors.ts';
import type { Progress } from '../kernel/threads.ts';
import { queuedRequestsMax } from '../limits.ts';
import type { Slices } from '../session/gradient.ts';
import type { Head, Position, Receive, Session } from '../session/session.ts';
import type { Durability } from '../session/settings.ts';
import type { ArrivedData } from './arrived-data.ts';
import type { ChangeLog } from './change-log.ts';
import type { Change } from './changes.ts';
import type { CheckpointInfo } from './checkpoint-folder.ts';
import { encodeEntry, type IdempotencyKeys, type KeyEntry, type RequestKey } from './idempotency.ts';
import { applyStep } from './reported-step.ts';
import type { Revisions } from './revisions.ts';
import { changeEvent, SessionEvents, stepEvent } from './session-events.ts';
import { Turns } from './turns.ts';

/** Decides whether a request applies, given the revision; `undefined`: it always does. */
export type Precondition = ((revision: number) => boolean) | undefined;

/** What any request for a change may come with. */
export interface ChangeRequest {
  readonly precondition?: Precondition;
  readonly key?: RequestKey | undefined;
}

export interface StepRequest extends ChangeRequest {
  /** The iteration that the gradients were computed from. */
  readonly base?: number | undefined;
  /** Who pushes. */
  readonly worker?: string | undefined;
  /** What has been written of the gradients while they arrived. */
  readonly arrived?: ArrivedData | undefined;
  /** Told until when the memory of the gradients is read, which may be after the step has been acknowledged. */
  readonly hold?: (until: Promise<unknown>) => void;
}

/** Where the values after a step go, and who is told when. */
export interface StepReply {
  readonly receive: Receive;
  /** Nothing can fail any more, and the values are about to come; whether they answer a repeat, and what the step was acknowledged at. */
  readonly begin?: ((durability: Durability, replayed: boolean) => void) | undefined;
  readonly progress?: Progress | undefined;
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
  readonly turns = new Turns(queuedRequestsMax);
  /** What happens to it, for those who listen. */
  readonly events: SessionEvents;
  readonly #revisions: Revisions;
  /** Where the session will stand when what is admitted is applied, if anything is. */
  #admitted: Position = { revision: 0, iterations: 0 };
  #deleted = false;

  /** `events`: those that have been told, if there are any. */
  constructor(
    session: Session,
    log: ChangeLog,
    keys: IdempotencyKeys,
    revisions: Revisions,
    events = new SessionEvents(session.position),
  ) {
    this.session = session;
    this.log = log;
    this.keys = keys;
    this.#revisions = revisions;
    this.events = events;
  }

  get durability(): Durability {
    return this.session.contents.settings.durability;
  }

  /** One step. Its reply's values are those right after it. */
  step(gradients: ReadonlyMap<string, Slices>, request: StepRequest, reply: StepReply): Promise<Head> {
    return this.turns.step(async () => {
      const { session, turns } = this;
      const from = turns.ahead > 0 ? this.#admitted : session.position;
      await this.#admit(request.precondition, from.revision);
      const checked = await session.check(gradients, request.base, from);
      const step = session.prepare(checked, reply.receive, from);
      const entry = request.key && entryOf(request.key, step.head);
      const place = { previous: from.revision, revision: step.head.revision, iterations: step.head.iterations };
      const { acknowledged, committed, level } = await this.log.append(
        { kind: 'gradients', gradients },
        place,
        this.durability,
        entry,
        request.arrived,
      );
      request.hold?.(committed);
      this.#admitted = place;
      return async () => {
        await acknowledged;
        reply.begin?.(level, false);
        const norms = await applyStep(session, step, reply.progress);
        if (entry !== undefined) this.keys.remember(entry);
        const staleness = request.base === undefined ? null : from.iterations - request.base;
        this.events.publish(stepEvent(step.head, { ...norms, worker: request.worker ?? null, staleness }));
        return step.head;
      };
    });
  }

  /**
   * Runs `task` when nothing else is under way. It checks, calls `commit` once at most, and applies. Throws
   * `precondition_failed` and `session_not_found` before the task begins, and where the disk takes no changes, why.
   */
  change<T>({ precondition, key }: ChangeRequest, task: (commit: Commit) => T | Promise<T>): Promise<T> {
    return this.turns.alone(async () => {
      const { session } = this;
      const { revision, iterations } = session.position;
      await this.#admit(precondition, revision);
      let entry: KeyEntry | undefined;
      let kind = '';
      const result = await task(async (change, after) => {
        kind = change.kind;
        const place = { previous: revision, revision: revision + 1, iterations: after.iterations ?? iterations };
        if (key !== undefined) entry = { ...entryOf(key, { ...session.head, ...place }), ...after };
        await (await this.log.append(change, place, this.durability, entry)).acknowledged;
      });
      if (entry !== undefined) this.keys.remember(entry);
      if (session.revision !== revision) this.events.move(session.revision, changeEvent(kind, session.position));
      return result;
    });
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

  async #admit(precondition: Precondition, revision: number): Promise<void> {
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
