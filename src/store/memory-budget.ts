/**
 * The memory that sessions and requests share: a session has its part for as long as it exists, a request for its body and
 * its reply until it is answered. What does not fit is refused before any of it is allocated.
 */
import { Problem } from '../errors.ts';

export class MemoryBudget {
  readonly max: number;
  readonly #held: () => number;
  #reserved = 0;
  #lent = 0;

  /** `max` bytes in all, of which sessions have as many as `held` says. */
  constructor(max: number, held: () => number) {
    this.max = max;
    this.#held = held;
  }

  /** What sessions have, those in the making too. */
  get held(): number {
    return this.#held() + this.#reserved;
  }

  /** What requests have now. */
  get lent(): number {
    return this.#lent;
  }

  /** Sets memory apart for a session in the making; returns how to give it back. Throws `insufficient_memory`. */
  reserve(bytes: number): () => void {
    const left = this.#left();
    if (bytes > left) {
      const rule = `a session must fit into the ${left} bytes of memory that are left`;
      throw new Problem('insufficient_memory', `${rule}. Received: ${bytes} bytes`);
    }
    this.#reserved += bytes;
    return once(() => {
      this.#reserved -= bytes;
    });
  }

  /**
   * Lends memory to a request; returns how to give it back. Throws `overloaded` where other requests have too much of it
   * now, and `insufficient_memory` where sessions have.
   */
  lend(bytes: number): () => void {
    const left = this.#left();
    if (bytes > left) {
      const rule = `a body or reply must fit into the ${left} bytes of memory that sessions leave`;
      throw new Problem('insufficient_memory', `${rule}. Received: ${bytes} bytes`);
    }
    if (bytes > left - this.#lent) {
      const rule = `the bodies and replies under way must fit into the ${left} bytes of memory that sessions leave`;
      const problem = `${rule}. Received: ${bytes} bytes beside ${this.#lent}`;
      throw new Problem('overloaded', problem, { headers: { 'retry-after': '1' } });
    }
    this.#lent += bytes;
    return once(() => {
      this.#lent -= bytes;
    });
  }

  #left(): number {
    return this.max - this.held;
  }
}

function once(task: () => void): () => void {
  let done = false;
  return () => {
    if (!done) task();
    done = true;
  };
}
