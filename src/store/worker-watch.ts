/**
 * What is known of a session's workers since the server has it: when each was last heard of, how many of its pushes were
 * refused, and how stale steps were. The steps themselves are in the session's state.
 */
import { Histogram } from '../histogram.ts';
import { workersMax } from '../limits.ts';

export interface Watched {
  /** When it was last heard of, by `performance.now()`. */
  seen: number;
  /** Pushes that were refused. */
  rejected: number;
  /** Gradients in a row that were not finite. */
  bad: number;
  /** Pushes that wait for other workers. */
  waiting: number;
}

const stalenessBounds = [0, 1, 2, 4, 8, 16, 32, 64, 128];

export class WorkerWatch {
  /** Who was heard of last comes last. */
  readonly #watched = new Map<string, Watched>();
  /** Since then: by `performance.now()`. */
  readonly #since = performance.now();
  /** Of the gradients that steps were made of. */
  readonly staleness = new Histogram(stalenessBounds);
  /** Pushes that wait for other workers now. */
  waiting = 0;
  /** Pushes that were refused, of those too who are forgotten. */
  rejected = 0;

  get names(): IterableIterator<string> {
    return this.#watched.keys();
  }

  get(worker: string): Watched | undefined {
    return this.#watched.get(worker);
  }

  /** It is there now; of too many, the one that was silent for the longest is forgotten. */
  see(worker: string): Watched {
    const watched = this.#watched.get(worker) ?? { seen: 0, rejected: 0, bad: 0, waiting: 0 };
    watched.seen = performance.now();
    this.#watched.delete(worker);
    this.#watched.set(worker, watched);
    if (this.#watched.size > workersMax) this.#watched.delete(this.#watched.keys().next().value as string);
    return watched;
  }

  /** When it was last heard of. Nobody was silent before the server was there to hear. */
  heard(worker: string): number {
    return this.#watched.get(worker)?.seen ?? this.#since;
  }

  /** When it is to be taken for silent, if it says nothing before. */
  silentAt(worker: string, timeoutMs: number): number {
    const watched = this.#watched.get(worker);
    if (watched !== undefined && watched.waiting > 0) return Number.POSITIVE_INFINITY;
    return this.heard(worker) + timeoutMs;
  }
}
