/** So many a second, and at most so many at once: a token bucket, which is full at the beginning. */
export class Rate {
  readonly #perSecond: number;
  readonly #burst: number;
  #left: number;
  #at: number;

  /** At least one at once, so that rates below one a second let one through. `now` in milliseconds, of any clock that only grows. */
  constructor(perSecond: number, burst: number, now = performance.now()) {
    this.#perSecond = perSecond;
    this.#burst = Math.max(1, burst);
    this.#left = this.#burst;
    this.#at = now;
  }

  /** Takes one and returns 0 or, where there is none, takes nothing and returns the seconds until there is. */
  take(now = performance.now()): number {
    const wait = this.wait(now);
    if (wait === 0) this.#left--;
    return wait;
  }

  /** The seconds until there is one to take; 0 if there is now. */
  wait(now = performance.now()): number {
    this.#left = Math.min(this.#burst, this.#left + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
    return this.#left >= 1 ? 0 : (1 - this.#left) / this.#perSecond;
  }
}
