/**
 * Where the gradients of one step of mode `sync` wait for each other, one of each worker. A worker that hangs up leaves; when
 * the first of them has waited for as long as it may, all of them are told so, and nothing is applied.
 */
import { Problem } from '../errors.ts';
import type { CheckedGradient } from '../session/gradient.ts';
import type { Head } from '../session/session.ts';
import type { StepReply, StepRequest } from './requests.ts';

/** What a push is answered with: where the step led, and the reply that has its values, which may be another worker's. */
export interface Applied {
  readonly head: Head;
  readonly reply: StepReply;
}

export interface Waiting {
  readonly worker: string;
  readonly request: StepRequest;
  readonly reply: StepReply;
  readonly checked: readonly CheckedGradient[];
  /** When it has waited for long enough, by `performance.now()`. */
  readonly deadline: number;
}

interface Place extends Waiting {
  readonly answer: (applied: Applied | undefined) => void;
  readonly fail: (error: unknown) => void;
}

export class Barrier {
  readonly #places = new Map<string, Place>();
  #timer: NodeJS.Timeout | undefined;

  get size(): number {
    return this.#places.size;
  }

  has(worker: string): boolean {
    return this.#places.has(worker);
  }

  /** Resolves when its step has been applied or, to `undefined`, when it is to ask again what it waits for. */
  join(waiting: Waiting): Promise<Applied | undefined> {
    const { worker } = waiting;
    const gone = waiting.request.gone?.();
    return new Promise<Applied | undefined>((resolve, reject) => {
      const leave = () => {
        if (this.#places.get(worker) !== place) return;
        this.#remove(place);
        reject(hungUp());
      };
      const over = <T>(tell: (what: T) => void) => {
        return (what: T): void => {
          gone?.removeEventListener('abort', leave);
          tell(what);
        };
      };
      const place: Place = { ...waiting, answer: over(resolve), fail: over(reject) };
      this.#places.set(worker, place);
      gone?.addEventListener('abort', leave);
      if (gone?.aborted) leave();
      else this.#watch();
    });
  }

  /** Those who wait, by the workers' names; from now on they are the caller's to answer. */
  take(): readonly Place[] {
    const places = [...this.#places.values()].sort((a, b) => (a.worker < b.worker ? -1 : 1));
    this.#places.clear();
    this.#watch();
    return places;
  }

  /** All ask again what they wait for, in the order in which they came. */
  disperse(): void {
    const places = [...this.#places.values()];
    this.#places.clear();
    this.#watch();
    for (const { answer } of places) answer(undefined);
  }

  fail(error: unknown): void {
    for (const { fail } of this.take()) fail(error);
  }

  #remove({ worker }: Place): void {
    this.#places.delete(worker);
    this.#watch();
  }

  /** Sets the timer for the one whose time is over first. */
  #watch(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#places.size === 0) return;
    const first = Math.min(...[...this.#places.values()].map(({ deadline }) => deadline));
    const end = () => this.fail(timedOut(`${this.#places.size} of the gradients that make the step`));
    this.#timer = setTimeout(end, Math.max(0, first - performance.now()));
  }
}

/** `came`: what there was when the time was over. */
export function timedOut(came: string): Problem {
  const rule = 'the other workers must come within timeout_ms';
  return new Problem('aggregation_timeout', `${rule}. Received: ${came}`, { headers: { 'retry-after': '1' } });
}

/** To a client that is not there any more. */
export function hungUp(): Error {
  return Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
}
