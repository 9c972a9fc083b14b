/**
 * The order in which a session's requests take effect. A step is admitted (checked, and put in the journal) in one turn and
 * applied in another, so that the steps behind it share its fsync; they are applied in the order in which they were admitted.
 * Whatever else changes the session has both turns to itself. Reads wait for what was admitted before them.
 */
import { Problem } from '../errors.ts';
import { Queue } from './queue.ts';

export class Turns {
  readonly #waitingMax: number;
  readonly #admission: Queue;
  readonly #application = new Queue(Number.POSITIVE_INFINITY);
  #ahead = 0;

  /** `waitingMax`: how many requests may wait. */
  constructor(waitingMax: number) {
    this.#waitingMax = waitingMax;
    this.#admission = new Queue(waitingMax);
  }

  /** Steps that are admitted and not applied. */
  get ahead(): number {
    return this.#ahead;
  }

  /** Requests that wait for a turn. */
  get waiting(): number {
    return this.#admission.waiting + this.#application.waiting;
  }

  /**
   * Runs `admit` when the session's next step may be admitted, and the task that it returns when that may be applied;
   * `undefined` where it returns none.
   */
  async step<T>(admit: () => Promise<(() => Promise<T>) | undefined>): Promise<T | undefined> {
    this.#requireRoom();
    const { applied } = await this.#admission.run(async () => {
      const apply = await admit();
      if (apply === undefined) return { applied: undefined };
      this.#ahead++;
      const over = () => {
        this.#ahead--;
      };
      return { applied: this.#application.run(() => apply().finally(over)) };
    });
    return applied;
  }

  /** Runs `task` when nothing else is under way, nor begins meanwhile. */
  async alone<T>(task: () => T | Promise<T>): Promise<T> {
    this.#requireRoom();
    return this.#admission.run(() => this.#application.run(task));
  }

  /** Runs `task` when all that was admitted before is applied; nothing is applied meanwhile. */
  async read<T>(task: () => T | Promise<T>): Promise<T> {
    this.#requireRoom();
    return this.#application.run(task);
  }

  #requireRoom(): void {
    if (this.waiting < this.#waitingMax) return;
    const rule = `at most ${this.#waitingMax} requests can wait for one session`;
    throw new Problem('overloaded', `${rule}. Received: one more`, { headers: { 'retry-after': '1' } });
  }
}
