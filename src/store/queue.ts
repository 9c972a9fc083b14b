/**
 * A session's queue: tasks run one at a time, in arrival order, and only so many may wait. A task that throws fails its
 * own caller and nobody else.
 */
import { Problem } from '../errors.ts';

export class Queue {
  readonly #waitingMax: number;
  readonly #waiting: (() => void)[] = [];
  #busy = false;

  /** `waitingMax`: how many may wait, the one whose turn it is not counted. */
  constructor(waitingMax: number) {
    this.#waitingMax = waitingMax;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get busy(): boolean {
    return this.#busy;
  }

  /** Resolves when all that has come before is done. */
  async idle(): Promise<void> {
    if (this.#busy) await this.#turn();
    this.#next();
  }

  /** Runs `task` after all that came before. Throws `overloaded` at once where too many wait. */
  async run<T>(task: () => T | Promise<T>): Promise<T> {
    if (this.#waiting.length >= this.#waitingMax) throw tooMany(this.#waitingMax);
    if (this.#busy) await this.#turn();
    this.#busy = true;
    try {
      return await task();
    } finally {
      this.#next();
    }
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Hands the turn to the one who has waited longest. */
  #next(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#busy = false;
    else next();
  }
}

function tooMany(waitingMax: number): Problem {
  return new Problem('overloaded', `at most ${waitingMax} requests can wait for one session. Received: one more`, {
    headers: { 'retry-after': '1' },
  });
}
