/**
 * How values are spread: counted by classes whose upper bounds are fixed. To observe one takes some comparisons and no memory, so
 * that it can be done on every request; what the counts are called, and where they are told, is left to plugins/figures/.
 */
export class Histogram {
  /** Upper bounds, included, ascending; the last class has none. */
  readonly bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;
  #last: number | undefined;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds } = this;
    let k = 0;
    while (k < bounds.length && value > (bounds[k] as number)) k++;
    (this.#counts[k] as number)++;
    this.#sum += value;
    this.#last = value;
  }

  /** By class. */
  get counts(): readonly number[] {
    return [...this.#counts];
  }

  get count(): number {
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  get sum(): number {
    return this.#sum;
  }

  /** The value that was observed last. */
  get last(): number | undefined {
    return this.#last;
  }
}

/** Classes for what takes from some 10 µs to half a minute, in seconds. */
export const secondsBounds = [
  0.000025, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30,
] as const;
