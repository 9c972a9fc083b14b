/** The way back after a failure of the disk: attempts, one at a time, and what is said of them. How it is done is left to whole-journal.ts. */
import type { Log } from './log.ts';

export class Mending {
  readonly #mend: () => Promise<void>;
  readonly #log: Log;
  #attempt: Promise<void> | undefined;

  constructor(mend: () => Promise<void>, log: Log) {
    this.#mend = mend;
    this.#log = log;
  }

  /** The attempt that is under way, if one is. It does not fail. */
  get attempt(): Promise<void> | undefined {
    return this.#attempt;
  }

  /** Begins one, unless one is under way. */
  begin(): void {
    this.#attempt ??= this.#mend()
      .then(
        () => this.#log.warn({}, 'the disk takes changes again'),
        (error) => this.#log.error({ error: String(error) }, 'no changes are taken: the disk fails'),
      )
      .finally(() => {
        this.#attempt = undefined;
      });
  }
}
