/**
 * What a session knows of the workers that made its steps: how many each made, how stale they were, and who is put aside. It
 * is part of the state, so it survives with it; when a worker was last seen is not, and is left to the store.
 */
import { workersMax } from '../limits.ts';

/** One worker's part in a step. */
export interface Contributor {
  /** `undefined` where it did not say. */
  readonly worker: string | undefined;
  /** Steps that others had made since the variables were read that its gradient is of; `undefined` where it did not say. */
  readonly staleness: number | undefined;
  /** Where the step brings it among the others, in mode `ssp`. */
  readonly clock: number | undefined;
}

/** Whose gradients a step is of, and what its learning rate is divided by. */
export interface Origin {
  readonly by: readonly Contributor[];
  readonly rateDivisor: number;
}

export const noOrigin: Origin = { by: [], rateDivisor: 1 };

export interface WorkerProgress {
  /** That it had a part in. */
  readonly steps: number;
  /** Of the steps whose staleness is known: how many, the sum, and the last. */
  readonly known: number;
  readonly staleness: number;
  readonly last: number | undefined;
  readonly clock: number | undefined;
  readonly quarantined: boolean;
}

/** As a checkpoint has them: name, steps, known, staleness, last, clock, quarantined. */
type WorkerEntry = [string, number, number, number, number | null, number | null, boolean];

const nothing: WorkerProgress = {
  steps: 0,
  known: 0,
  staleness: 0,
  last: undefined,
  clock: undefined,
  quarantined: false,
};

function isEntry(entry: unknown): entry is WorkerEntry {
  if (!Array.isArray(entry) || entry.length !== 7) return false;
  const [worker, steps, known, staleness, last, clock, quarantined] = entry;
  const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
  return (
    typeof worker === 'string' &&
    [steps, known, staleness].every(isCount) &&
    [last, clock].every((value) => value === null || isCount(value)) &&
    typeof quarantined === 'boolean'
  );
}

export class Workers {
  /** Who made a step last comes last. */
  readonly #progress: Map<string, WorkerProgress>;

  constructor(progress: Iterable<[string, WorkerProgress]> = []) {
    this.#progress = new Map(progress);
  }

  get(worker: string): WorkerProgress | undefined {
    return this.#progress.get(worker);
  }

  entries(): IterableIterator<[string, WorkerProgress]> {
    return this.#progress.entries();
  }

  /** As it is now; later steps do not show in it. */
  copy(): Workers {
    return new Workers(this.#progress);
  }

  /** A step is made. Of too many workers, the one whose last step is the oldest is forgotten. */
  note({ worker, staleness, clock }: Contributor): void {
    if (worker === undefined) return;
    const before = this.#progress.get(worker) ?? nothing;
    this.#progress.delete(worker);
    this.#progress.set(worker, {
      steps: before.steps + 1,
      known: before.known + (staleness === undefined ? 0 : 1),
      staleness: before.staleness + (staleness ?? 0),
      last: staleness ?? before.last,
      clock: clock ?? before.clock,
      quarantined: before.quarantined,
    });
    this.#forgetOldest();
  }

  /** Puts a worker aside, or takes it back. Nobody waits for one that is aside; when it is back, it begins as a new one does. */
  setQuarantined(worker: string, quarantined: boolean): void {
    this.#progress.set(worker, { ...(this.#progress.get(worker) ?? nothing), clock: undefined, quarantined });
    this.#forgetOldest();
  }

  /** They count from anew, when the mode is another. */
  forgetClocks(): void {
    for (const [worker, progress] of this.#progress) this.#progress.set(worker, { ...progress, clock: undefined });
  }

  toJSON(): WorkerEntry[] {
    return [...this.#progress].map(([worker, { steps, known, staleness, last, clock, quarantined }]) => {
      return [worker, steps, known, staleness, last ?? null, clock ?? null, quarantined];
    });
  }

  /** Out of what `toJSON` gives. Throws an error for anything else. */
  static of(entries: unknown): Workers {
    if (!Array.isArray(entries) || !entries.every(isEntry)) throw new Error('workers must be a list of their entries');
    return new Workers(
      entries.map(([worker, steps, known, staleness, last, clock, quarantined]) => {
        return [worker, { steps, known, staleness, last: last ?? undefined, clock: clock ?? undefined, quarantined }];
      }),
    );
  }

  /** Who is put aside stays known. */
  #forgetOldest(): void {
    if (this.#progress.size <= workersMax) return;
    for (const [worker, { quarantined }] of this.#progress) {
      if (quarantined) continue;
      this.#progress.delete(worker);
      return;
    }
  }
}
