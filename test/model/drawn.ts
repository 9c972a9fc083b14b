/** What is drawn: gradients, rules and sessions. */
import fc from 'fast-check';
import type { GivenAggregation } from '../../src/session/aggregation.ts';
import type { Gradient, Gradients, Shapes } from './plain-reduction.ts';

export const workers = ['b', 'a', 'B-10', 'B-9'] as const;

export const shapesOf = (rows: 'F32' | 'F64') =>
  ({
    kernel: { dtype: 'F32', shape: [3] },
    exact: { dtype: 'F64', shape: [2] },
    rows: { dtype: rows, shape: [5, 2] },
  }) satisfies Shapes;

/** Sums of these depend on their order: 1e8 + 1 - 1e8 is 0 in F32 and 1 in F64, where 0.1 + 0.2 + 0.3 has its own. */
const value = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(1e8, -1e8, 1, -1, 0.1, 0.2, 0.3, 0.7, 1 / 3, 1e-30, 5, 0, -0) },
  { weight: 2, arbitrary: fc.double({ min: -4, max: 4, noNaN: true }) },
);

const dense = (count: number): fc.Arbitrary<Gradient> =>
  fc.array(value, { minLength: count, maxLength: count }).map((values) => ({ values }));

/** Rows, some of them more than once. */
const sparse: fc.Arbitrary<Gradient> = fc
  .array(fc.tuple(fc.nat(4), value, value), { minLength: 1, maxLength: 4 })
  .map((slices) => ({ indices: slices.map(([row]) => row), values: slices.flatMap(([, x, y]) => [x, y]) }));

/** A sum of two of them is infinite in F32; none is on its own, whatever came before. */
const huge: fc.Arbitrary<Gradient> = fc.constant({ values: [3e38, 0, 2] });

/** Which of the variables a gradient names, and how. */
export type Kind = 'any' | 'dense' | 'sparse';

export function gradients(kind: Kind = 'any'): fc.Arbitrary<Gradients> {
  const ofRows = { any: fc.oneof(sparse, dense(10)), dense: dense(10), sparse };
  const named = fc.record({ kernel: dense(3), exact: dense(2), rows: ofRows[kind] }, { requiredKeys: [] });
  if (kind !== 'any') return fc.record({ kernel: dense(3), exact: dense(2), rows: ofRows[kind] });
  return named.filter((each) => Object.keys(each).length > 0);
}

export const someGradients: fc.Arbitrary<Gradients> = fc.oneof(
  { weight: 12, arbitrary: gradients() },
  { weight: 1, arbitrary: fc.record({ kernel: huge, rows: sparse }) },
);

/** Infinite in F32, but a number of JSON. */
export const badGradients: fc.Arbitrary<Gradients> = fc.record({
  rows: sparse,
  kernel: fc.constantFrom({ values: [1, 1e39, 2] }, { values: [-1e300, 0, 0] }),
});

/** Nobody is silent, or waits for too long, before a command says so. */
export const timeout_ms = 600_000;
const quarantine_after = fc.constantFrom(null, null, 1, 2);

export const rules: fc.Arbitrary<GivenAggregation & { mode: 'async' | 'sync' | 'ssp' }> = fc.oneof(
  { weight: 1, arbitrary: fc.record({ mode: fc.constant('async' as const), quarantine_after }) },
  {
    weight: 2,
    arbitrary: fc.record({
      mode: fc.constant('async' as const),
      max_staleness: fc.constantFrom(null, 0, 1, 3),
      staleness_policy: fc.constantFrom('reject' as const, 'scale' as const),
      quarantine_after,
    }),
  },
  {
    weight: 6,
    arbitrary: fc
      .record({
        mode: fc.constant('sync' as const),
        replicas_to_aggregate: fc.constantFrom(1, 2, 2, 3, 3, 4),
        backups: fc.nat(2),
        reduction: fc.constantFrom('mean' as const, 'sum' as const),
        timeout_ms: fc.constant(timeout_ms),
        quarantine_after,
      })
      .map(({ backups, ...each }) => ({ ...each, total_num_replicas: each.replicas_to_aggregate + backups })),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      mode: fc.constant('ssp' as const),
      max_lead: fc.nat(2),
      worker_timeout_ms: fc.constant(timeout_ms),
      timeout_ms: fc.constant(timeout_ms),
      quarantine_after,
    }),
  },
);

export const sessions = fc.record({
  rowsDtype: fc.constantFrom('F32' as const, 'F64' as const),
  config: fc.record({
    learning_rate: fc.constantFrom(0.001, 0.5),
    beta_1: fc.constantFrom(0.9, 0),
    beta_2: fc.constantFrom(0.999, 0.5),
    epsilon: fc.constantFrom(1e-7, 0.01),
    decay: fc.constantFrom(0, 0.01),
  }),
  everySteps: fc.constantFrom(2, 5, null),
  given: rules,
});

export type DrawnSession = typeof sessions extends fc.Arbitrary<infer T> ? T : never;
