/**
 * The method: measured and reference run in alternation, A B A B …, so that whatever slows the machine down meets both
 * alike. Ratios are taken pair by pair; their median is quoted, their least and greatest are the spread.
 */

/** Does the work `times` times over and says how many seconds that took in all. */
export type Work = (times: number) => Promise<number>;

/** Seconds for doing the work once, of two samples that were taken one right after the other. */
export interface Pair {
  readonly measured: number;
  readonly reference: number;
}

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

/** The pairs as milliseconds for doing the work once. A ratio below 1: faster than the reference. */
export function asMilliseconds(pairs: readonly Pair[]): Comparison {
  return compare(pairs, 'ms', (seconds) => seconds * 1000);
}

/** The pairs as so many `unit` per second, where doing the work once makes `amount`. A ratio above 1: faster. */
export function asRate(pairs: readonly Pair[], amount: number, unit: string): Comparison {
  return compare(pairs, `${unit}/s`, (seconds) => amount / seconds);
}

function compare(pairs: readonly Pair[], unit: string, figure: (seconds: number) => number): Comparison {
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
