/**
 * The method: measured and reference run in alternation, A B A B …, so that whatever slows the machine down meets both
 * alike. Ratios are taken pair by pair; their median is quoted, their least and greatest are the spread.
 */

/** Does the work `times` times over and says how many seconds that took in all. */
export type Work = (times: number) => Promise<number>;

/** As often as asked, one after the other, by this process's clock. */
export function timed(task: () => unknown): Work {
  return async (times) => {
    const start = performance.now();
    for (let k = 0; k < times; k++) await task();
    return (performance.now() - start) / 1000;
  };
}

/** Two samples that were taken one right after the other. */
export interface Samples<T> {
  readonly measured: T;
  readonly reference: T;
}

/** Seconds for doing the work once. */
export type Pair = Samples<number>;

export interface Comparison {
  readonly unit: string;
  /** Medians, in `unit`. */
  readonly measured: number;
  readonly reference: number;
  /** Median, least and greatest of measured / reference, pair by pair. */
  readonly ratio: number;
  readonly spread: readonly [min: number, max: number];
  readonly pairs: number;
}

/** A sample lasts at least so long, whichever of the two is the faster. */
export const sampleSeconds = 0.2;
/** A comparison takes as many pairs as fit into this time, within the bounds below. */
export const comparisonSeconds = 6;
export const pairsMin = 5;
export const pairsMax = 31;

/** Runs both as often as their own speed asks for. The runs that find that out are the warm-up, and do not count. */
export async function comparePairs(measured: Work, reference: Work): Promise<Pair[]> {
  let times = 1;
  let pair = await takePair(measured, reference, times);
  for (;;) {
    const shortest = times * Math.min(pair.measured, pair.reference);
    if (shortest >= sampleSeconds) break;
    times = Math.ceil(times * Math.min(10, (1.2 * sampleSeconds) / shortest));
    pair = await takePair(measured, reference, times);
  }
  const fitting = Math.floor(comparisonSeconds / (times * (pair.measured + pair.reference)));
  const count = Math.min(pairsMax, Math.max(pairsMin, fitting));
  const pairs: Pair[] = [];
  while (pairs.length < count) pairs.push(await takePair(measured, reference, times));
  return pairs;
}

async function takePair(measured: Work, reference: Work, times: number): Promise<Pair> {
  return { measured: (await measured(times)) / times, reference: (await reference(times)) / times };
}

/** So many pairs of samples that say themselves what they are; a first pair is the warm-up, and does not count. */
export async function samplePairs<T>(
  count: number,
  measured: () => Promise<T>,
  reference: () => Promise<T>,
): Promise<Samples<T>[]> {
  const pairs: Samples<T>[] = [];
  while (pairs.length <= count) pairs.push({ measured: await measured(), reference: await reference() });
  return pairs.slice(1);
}

/** The pairs as milliseconds for doing the work once. A ratio below 1: faster than the reference. */
export function asMilliseconds(pairs: readonly Pair[]): Comparison {
  return compare(pairs, 'ms', (seconds) => seconds * 1000);
}

/** The pairs as so many `unit` per second, where doing the work once makes `amount`. A ratio above 1: faster. */
export function asRate(pairs: readonly Pair[], amount: number, unit: string): Comparison {
  return compare(pairs, `${unit}/s`, (seconds) => amount / seconds);
}

/** One measurement, beside a figure of the same unit. */
export function asMeasured(measured: number, reference: number, unit: string): Comparison {
  return compare([{ measured, reference }], unit, (value) => value);
}

/** What `figure` makes of each sample, in `unit`. */
export function compare<T>(pairs: readonly Samples<T>[], unit: string, figure: (sample: T) => number): Comparison {
  const ratios = pairs.map(({ measured, reference }) => figure(measured) / figure(reference));
  return {
    unit,
    measured: median(pairs.map((pair) => figure(pair.measured))),
    reference: median(pairs.map((pair) => figure(pair.reference))),
    ratio: median(ratios),
    spread: [Math.min(...ratios), Math.max(...ratios)],
    pairs: pairs.length,
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  if (low === undefined || high === undefined) throw new Error('a median must be of at least one value');
  return (low + high) / 2;
}
