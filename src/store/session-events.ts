/**
 * What happens to a session, told in order: the latest events, who listens, and what came behind a given one. Reads that wait
 * for a change listen here as well. How an event looks on the wire is left to schemas/event.ts, and how it gets to many
 * clients to plugins/event-stream.ts.
 *
 * The id of an event is the revision that the session had come to and, of a checkpoint that was written then, the checkpoint's.
 * Revisions never come back, so an id means the same after a restart, as far back as the log then reaches.
 */
import { Problem } from '../errors.ts';
import type { Change } from '../journal/changes.ts';
import { eventsKeptMax } from '../limits.ts';
import type { Head, Position } from '../session/session.ts';
import { type CheckpointInfo, numberOf } from './checkpoint-folder.ts';

/** What is told of a step beside where it led. */
export interface StepReport {
  /** The length of the gradients, all together, before they were clipped by a norm. */
  readonly gradientNorm: number;
  /** The length of what was added to the variables. */
  readonly updateNorm: number;
  /** Null where it did not say. */
  readonly worker: string | null;
  /** How many steps lay between the variables that the gradients were computed from and this step. */
  readonly staleness: number | null;
  /** Of a step that several have made. */
  readonly workers?: readonly string[] | undefined;
}

export interface StepEvent extends StepReport {
  readonly kind: 'step';
  readonly revision: number;
  readonly iterations: number;
  readonly learningRate: number;
}

export interface CheckpointEvent {
  readonly kind: 'checkpoint';
  /** That the checkpoint has, which steps may have gone on from meanwhile. */
  readonly revision: number;
  readonly info: CheckpointInfo;
}

export interface SessionChange {
  readonly kind: 'session';
  readonly revision: number;
  readonly iterations: number;
  readonly change: 'patched' | 'assigned' | 'restored' | 'quarantined' | 'released' | 'deleted' | 'events_lost';
  /** That is put aside, or taken back. */
  readonly worker?: string;
}

export type SessionEvent = StepEvent | CheckpointEvent | SessionChange;

/** An event as clients hear of it; without an id, nothing can come behind it. */
export interface Told {
  readonly id: string | undefined;
  readonly event: SessionEvent;
}

/** Told of each event; of `undefined` when it is to look whether there is any sense in listening on. */
export type Listener = (told: Told | undefined) => void;

/** Ids in their order: a checkpoint comes behind the revision that the session had come to, which is checkpoint 0. */
interface Place {
  readonly revision: number;
  readonly checkpoint: number;
}

interface Entry extends Place {
  /** None of what nobody is told of. */
  readonly told: Told | undefined;
}

export class SessionEvents {
  readonly #entries: Entry[] = [];
  readonly #listeners = new Set<Listener>();
  /** Behind this, all is in the log. */
  #start: Place & Position;
  #revision: number;
  #isOver = false;

  /** `start`: where the session stands. */
  constructor(start: Position) {
    this.#start = { ...start, checkpoint: 0 };
    this.#revision = start.revision;
  }

  /** Nobody is told anything any more. */
  get isOver(): boolean {
    return this.#isOver;
  }

  publish(event: SessionEvent): void {
    const checkpoint = event.kind === 'checkpoint' ? numberOf(event.info.id) : 0;
    if (checkpoint === 0) this.#revision = event.revision;
    const told = { id: this.#idOf(event), event };
    this.#keep({ revision: this.#revision, checkpoint, told });
    if (!this.#isOver) for (const listener of this.#listeners) listener(told);
  }

  /** The session has come to a revision by this event or, without one, by what nobody is told of. */
  move(revision: number, event: SessionEvent | undefined): void {
    if (event !== undefined) {
      this.publish(event);
      return;
    }
    if (revision === this.#revision) return;
    this.#revision = revision;
    this.#keep({ revision, checkpoint: 0, told: undefined });
    this.wake();
  }

  /** Returns how to stop. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** Everybody is to look whether there is any sense in listening on. */
  wake(): void {
    for (const listener of this.#listeners) listener(undefined);
  }

  /** Nobody is told anything from now on. */
  end(): void {
    this.#isOver = true;
    this.wake();
  }

  /** Waits until `isOver`, for so long at most, or until `signal` is aborted. */
  async until(isOver: () => boolean, milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
    if (isOver() || signal?.aborted) return;
    await new Promise<void>((resolve) => {
      const end = () => {
        stop();
        clearTimeout(timer);
        signal?.removeEventListener('abort', end);
        resolve();
      };
      const stop = this.listen(() => {
        if (isOver()) end();
      });
      const timer = setTimeout(end, milliseconds);
      signal?.addEventListener('abort', end);
    });
  }

  /**
   * What came behind the event of that id. Where that cannot be told, first that events are lost, and then all that are kept.
   * Throws `invalid_parameter` for what cannot be an id.
   */
  after(id: string): Told[] {
    const place = placeOf(id);
    return this.#knows(place) ? toldAmong(this.#entries.filter((entry) => isBehind(entry, place))) : this.afterLoss();
  }

  /** That events are lost, and all that are kept. */
  afterLoss(): Told[] {
    const { revision, iterations } = this.#start;
    const lost = { kind: 'session', revision, iterations, change: 'events_lost' } as const;
    return [{ id: undefined, event: lost }, ...toldAmong(this.#entries)];
  }

  /** Whether the session has been there, or where it began, and all that came behind is in the log. */
  #knows(place: Place): boolean {
    if (isBehind(this.#start, place)) return false;
    return place.revision === this.#start.revision || this.#entries.some(({ revision }) => revision === place.revision);
  }

  #keep(entry: Entry): void {
    this.#entries.push(entry);
    if (this.#entries.length <= eventsKeptMax) return;
    const { revision, checkpoint, told } = this.#entries.shift() as Entry;
    const iterations = told === undefined ? this.#start.iterations : iterationsAfter(told.event, this.#start);
    this.#start = { revision, checkpoint, iterations };
  }

  #idOf(event: SessionEvent): string | undefined {
    if (event.kind === 'checkpoint') return `${this.#revision}+${event.info.id}`;
    return event.kind === 'session' && event.change === 'deleted' ? undefined : String(event.revision);
  }
}

export function stepEvent({ revision, iterations, learningRate }: Head, report: StepReport): StepEvent {
  const { gradientNorm, updateNorm, worker, staleness, workers } = report;
  // Spelled out, since this is made of every step, and spreading into an object that is begun is slow.
  return {
    kind: 'step',
    revision,
    iterations,
    learningRate,
    gradientNorm,
    updateNorm,
    worker,
    staleness,
    workers,
  };
}

/** How changes are told. */
const changes = { assign: 'assigned', patch: 'patched', restore: 'restored' } as const;

/** `undefined` for a change that is told in another way, or not at all. */
export function changeEvent(change: Change, { revision, iterations }: Position): SessionChange | undefined {
  const about = { kind: 'session', revision, iterations } as const;
  switch (change.kind) {
    case 'assign':
    case 'patch':
    case 'restore':
      return { ...about, change: changes[change.kind] };
    case 'worker':
      return { ...about, change: change.quarantined ? 'quarantined' : 'released', worker: change.worker };
    default:
      return undefined;
  }
}

function toldAmong(entries: readonly Entry[]): Told[] {
  return entries.flatMap(({ told }) => told ?? []);
}

function isBehind(a: Place, b: Place): boolean {
  return a.revision > b.revision || (a.revision === b.revision && a.checkpoint > b.checkpoint);
}

/** A checkpoint leaves the session's counter where it is. */
function iterationsAfter(event: SessionEvent, { iterations }: Position): number {
  return event.kind === 'checkpoint' ? iterations : event.iterations;
}

function placeOf(id: string): Place {
  const [, revision, checkpoint] = /^(0|[1-9]\d{0,15})(?:\+(ckpt-\d{6,15}))?$/.exec(id) ?? [];
  if (revision !== undefined && Number.isSafeInteger(Number(revision))) {
    return { revision: Number(revision), checkpoint: checkpoint === undefined ? 0 : numberOf(checkpoint) };
  }
  const rule = 'Last-Event-ID must be the id of an event, like 1201 or 1201+ckpt-000007';
  throw new Problem('invalid_parameter', `${rule}. Received: ${JSON.stringify(id.slice(0, 60))}`);
}
