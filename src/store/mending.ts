/**
 * Coming back after a failure of the disk: tried time after time, and what fails is logged. As long as it is the disk that fails,
 * there is no end to that, since it may be freed or mended any time. An error that is not the disk's, though, is a fault of this
 * program, and if it stays only a restart helps.
 */
import { Problem } from '../errors.ts';
import type { Log } from './log.ts';

/** Attempts in a row, one a second, that end in an error that is not the disk's. */
export const unexplainedMax = 60;

export class Mending {
  readonly #mend: () => Promise<void>;
  readonly #log: Log;
  readonly #onFault: (error: unknown) => void;
  #underWay: Promise<void> | undefined;
  #unexplained = 0;

  /** `mend` throws a Problem where the disk still fails. */
  constructor(mend: () => Promise<void>, log: Log, onFault: (error: unknown) => void) {
    this.#mend = mend;
    this.#log = log;
    this.#onFault = onFault;
  }

  /** Tries once, if it is not being tried. */
  begin(): void {
    this.#underWay ??= this.#try().finally(() => {
      this.#underWay = undefined;
    });
  }

  /** Resolves when it is not being tried. */
  async idle(): Promise<void> {
    await this.#underWay;
  }

  async #try(): Promise<void> {
    try {
      await this.#mend();
      this.#unexplained = 0;
      this.#log.warn({}, 'the disk takes changes again');
    } catch (error) {
      this.#log.error({ error: String(error) }, 'no changes are taken: the disk fails');
      this.#unexplained = error instanceof Problem ? 0 : this.#unexplained + 1;
      if (this.#unexplained === unexplainedMax) this.#onFault(error);
    }
  }
}
