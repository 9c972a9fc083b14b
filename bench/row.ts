/**
 * What a benchmark yields: rows, each one claim held against a reference that is measured in the same run. Nearly
 * everything is a ratio, since absolute figures say more about the machine than about the code; where a promise is made in
 * milliseconds or bytes, the figure itself is bounded. How pairs become figures: pairs.ts.
 */
import type { Children } from './children.ts';
import type { Comparison } from './pairs.ts';

/**
 * What the ratio measured / reference is meant to be or, with a unit, the measured figure itself or how far it exceeds the
 * reference.
 */
export type Target =
  | { readonly atLeast: number }
  | { readonly atMost: number; readonly unit?: string }
  | { readonly atMostMore: number; readonly unit: string };

export interface Row {
  readonly what: string;
  /** The reference. */
  readonly against: string;
  readonly target?: Target;
  /** The figures or, where this machine cannot give them, the reason. */
  readonly result: Comparison | string;
}

/** One module of the benchmark; run.ts has the list of them. */
export interface Benchmark {
  readonly name: string;
  /** How it measures, for RESULTS.md: one paragraph each. */
  readonly notes: readonly string[];
  /** Yields each row as soon as it is measured. Whatever `children` starts is stopped behind the last one. */
  rows(children: Children): AsyncIterable<Row>;
}
