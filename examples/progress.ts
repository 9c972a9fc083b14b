// Shows how a training goes: a bar that redraws itself on a terminal, a plain line at every tenth of the way elsewhere.
// The loss shown is averaged over about the last hundred steps, since one batch's loss says little.

import type { Report } from './workers.ts';

const WIDTH = 30;
const REDRAW_MS = 100;

export class Progress {
  readonly #steps: number;
  #startedAt = 0;
  #reports = 0;
  #iterations = 0;
  #loss = 0;
  #staleness = 0;
  #drawnAt = 0;
  #tenths = 0;

  /** `steps`: the `iterations` at which the training ends. */
  constructor(steps: number) {
    this.#steps = steps;
  }

  update({ iterations, loss, staleness }: Report): void {
    const now = performance.now();
    if (this.#reports++ === 0) this.#startedAt = now; // the workers are up: their start is not the server's speed
    this.#iterations = Math.max(this.#iterations, iterations);
    this.#loss += (loss - this.#loss) / Math.min(this.#reports, 100);
    this.#staleness += staleness;

    const tenths = Math.floor((10 * iterations) / this.#steps);
    if (process.stdout.isTTY && now - this.#drawnAt > REDRAW_MS) {
      this.#drawnAt = now;
      process.stdout.write(`\r${this.#line()}`);
    } else if (!process.stdout.isTTY && tenths > this.#tenths) {
      this.#tenths = tenths;
      console.log(this.#line());
    }
  }

  /** Completes the bar and sums up. */
  finish(): void {
    if (process.stdout.isTTY) console.log(`\r${this.#line()}`);
    const seconds = (performance.now() - this.#startedAt) / 1000;
    const staleness = (this.#staleness / this.#reports).toFixed(1);
    console.log(`  ${this.#reports} steps in ${seconds.toFixed(1)} s, mean staleness ${staleness}`);
  }

  #line(): string {
    const part = Math.min(1, this.#iterations / this.#steps);
    const bar = '█'.repeat(Math.round(part * WIDTH)).padEnd(WIDTH, '░');
    const percent = String(Math.floor(100 * part)).padStart(3);
    const rate = (1000 * this.#reports) / (performance.now() - this.#startedAt);
    return `  ${bar} ${percent} %  loss ${this.#loss.toFixed(3)}  ${rate.toFixed(0).padStart(4)} steps/s`;
  }
}
