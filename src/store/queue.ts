/**
 * A session's queue: tasks run one at a time, in arrival order, and only so many may wait. A task that throws fails its
 * own caller and nobody else.
 */
import { Problem } from '../errors.ts';

export class Queue {
  readonly #waitingMax: number;
  #waiting = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(waitingMax: number) {
    this.#waitingMax = waitingMax;
  }

  get busy(): boolean {
    return this.#waiting > 0;
  }

  /** Resolves when all that has come before is done. */
  async idle(): Promise<void> {
    await this.#last;
  }

  /** Runs `task` after all that came before. Throws `overloaded` at once where too many wait. */
  run<T>(task: () => T | Promise<T>): Promise<T> {
    if (this.#waiting >= this.#waitingMax) {
      throw new Problem(
        'overloaded',
        `at most ${this.#waitingMax} requests can wait for one session. Received: one more`,
        {
          headers: { 'retry-after': '1' },
        },
      );
    }
    this.#waiting++;
    const result = this.#last.then(task).finally(() => {
      this.#waiting--;
    });
    this.#last = result.catch(() => undefined);
    return result;
  }
}
