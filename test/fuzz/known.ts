/**
 * What the requests know of the sessions that they meet: names, variables and their shapes, settings that make sense. It
 * steers a share of the requests to be valid by construction. Words between tildes stand for what is known only when the
 * request is sent (world.ts).
 */
import fc from 'fast-check';
import type { Known } from './arbitraries.ts';

export interface VariableKnown {
  readonly name: string;
  readonly dtype: 'F32' | 'F64';
  readonly shape: readonly number[];
}

export const variables: readonly VariableKnown[] = [
  { name: 'w', dtype: 'F32', shape: [3, 2] },
  { name: 'double', dtype: 'F64', shape: [2] },
  { name: 'table', dtype: 'F32', shape: [5, 3] },
  { name: 'scalar', dtype: 'F32', shape: [] },
  { name: 'dense/kernel', dtype: 'F32', shape: [2, 2] },
  { name: 'none', dtype: 'F32', shape: [0, 2] },
];

/** The first two are there when an episode begins. */
export const sessions = ['~alpha~', '~beta~', '~gamma~'] as const;

/** How the second session of an episode differs from the first, which has all defaults. */
export const settings: readonly object[] = [
  {},
  { durability: 'everysec', aggregation: { max_staleness: 1 } },
  { durability: 'checkpoint', aggregation: { staleness_policy: 'scale' } },
  { checkpointing: { every_steps: 1, keep: 1 }, aggregation: { quarantine_after: 2 } },
  { checkpointing: { every_steps: 2, keep: 2, keep_journal_steps: 1 } },
  { aggregation: { mode: 'sync', replicas_to_aggregate: 1, timeout_ms: 20 } },
  { aggregation: { mode: 'sync', replicas_to_aggregate: 2, reduction: 'sum', timeout_ms: 20, quarantine_after: 1 } },
  { aggregation: { mode: 'ssp', max_lead: 1, worker_timeout_ms: 50, timeout_ms: 20 } },
];

const elements = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

export const value = fc.oneof(
  { arbitrary: fc.double({ min: -10, max: 10, noNaN: true }), weight: 20 },
  { arbitrary: fc.constantFrom(0, -0, 1e-45, 1e30, -3e38), weight: 2 },
  { arbitrary: fc.constantFrom(1e39, -1e308), weight: 1 },
);

export const someVariables = fc.subarray([...variables], { minLength: 1 });

function valuesOf(shape: readonly number[]): fc.Arbitrary<unknown> {
  const count = elements(shape);
  if (shape.length === 0) return value;
  const flat = fc.array(value, { minLength: count, maxLength: count });
  const [rows, columns] = shape as [number, number];
  if (shape.length !== 2 || count === 0) return flat;
  return fc.oneof(
    flat,
    flat.map((all) => Array.from({ length: rows }, (_, row) => all.slice(row * columns, (row + 1) * columns))),
  );
}

/** Rows that it has, repeats among them. */
export function rowsOf({ shape }: VariableKnown): fc.Arbitrary<number[]> {
  return fc.array(fc.nat({ max: (shape[0] as number) - 1 }), { maxLength: 4 });
}

export const hasRows = ({ shape }: VariableKnown) => shape.length > 0 && shape[0] !== 0;

function slicesOf(variable: VariableKnown): fc.Arbitrary<object> {
  const { shape, dtype } = variable;
  const whole = fc.record(
    { values: valuesOf(shape), shape: fc.constant(shape), dtype: fc.constant(dtype) },
    { requiredKeys: ['values'] },
  );
  if (!hasRows(variable)) return whole;
  const rows = rowsOf(variable).chain((indices) =>
    valuesOf([indices.length, ...shape.slice(1)]).map((values) => ({ indices, values })),
  );
  return fc.oneof(whole, rows);
}

function byName(of: (variable: VariableKnown) => fc.Arbitrary<unknown>, among = variables): fc.Arbitrary<object> {
  return fc.subarray([...among], { minLength: 1 }).chain((chosen) => {
    return fc.record(Object.fromEntries(chosen.map((variable) => [variable.name, of(variable)])));
  });
}

const initializers = fc.oneof(
  fc.constantFrom('Zeros', 'Ones', 'GlorotUniform', 'HeNormal'),
  fc.record({
    class_name: fc.constantFrom('RandomUniform', 'TruncatedNormal', 'GlorotNormal', 'Constant'),
    config: fc.constantFrom({}, { seed: 7 }, { value: 2 }),
  }),
);

function newVariable({ dtype, shape }: VariableKnown): fc.Arbitrary<object> {
  const given = valuesOf(shape).map((values) => ({ dtype, shape, values }));
  const initialized = fc.record(
    { dtype: fc.constant(dtype), shape: fc.constant(shape), initializer: initializers },
    { requiredKeys: ['dtype', 'shape'] },
  );
  return fc.oneof(given, initialized);
}

const schedule = fc.constantFrom(
  { class_name: 'ExponentialDecay', config: { initial_learning_rate: 0.1, decay_steps: 10, decay_rate: 0.5 } },
  { class_name: 'PiecewiseConstantDecay', config: { boundaries: [2, 4], values: [1, 0.5, 0.25] } },
  { class_name: 'CosineDecay', config: { initial_learning_rate: 0.1, decay_steps: 10 } },
);

const config = fc.record(
  {
    learning_rate: fc.oneof(fc.constantFrom(0, 0.001, 1, 1e30), schedule),
    beta_1: fc.constantFrom(0, 0.9, 0.999),
    beta_2: fc.constantFrom(0, 0.5, 0.999),
    epsilon: fc.constantFrom(1e-7, 1),
    decay: fc.constantFrom(0, 0.5),
    clipnorm: fc.constantFrom(null, 1),
    name: fc.constant('Adamax'),
  },
  { requiredKeys: [] },
);

const optimizer = fc.record({ class_name: fc.constant('Adamax'), config }, { requiredKeys: ['class_name'] });

const gradients = byName(slicesOf);

/** Mostly well within what the session does; waits are short, so that a request that may wait is answered soon. */
export const known: Known = {
  names: fc.oneof(
    fc.constantFrom(...variables.map(({ name }) => name), 'other', '__proto__', 'constructor', 'toString', '0'),
    fc.string({ unit: 'grapheme', maxLength: 8 }),
  ),
  components: {
    Gradients: gradients.map((each) => ({ gradients: each })),
    Assignments: gradients.map((each) => ({ variables: each })),
    Lookup: byName((variable) => rowsOf(variable).map((indices) => ({ indices })), variables.filter(hasRows)).map(
      (each) => ({ variables: each }),
    ),
    NewSession: fc
      .tuple(byName(newVariable), fc.constantFrom(...settings), fc.record({ optimizer }, { requiredKeys: [] }))
      .map(([each, rules, others]) => ({ variables: each, ...rules, ...others })),
    SessionPatch: fc.oneof(
      fc.constantFrom(...settings, { metadata: { owner: 'me' } }, { metadata: null }, { iterations: 3 }),
      config.map((members) => ({ optimizer: { config: members } })),
    ),
    Fork: fc.record(
      { name: fc.constantFrom('~gamma~', '~delta~'), iterations: fc.nat({ max: 4 }) },
      { requiredKeys: ['name'] },
    ),
  },
  members: {
    session: fc.constantFrom(...sessions, ...sessions.slice(0, 2), '~alpha~', '~alpha~', '~beta~'),
    variable: fc.constantFrom(...variables.map(({ name }) => name)),
    name: fc.constantFrom(...variables.map(({ name }) => name)),
    id: fc.constantFrom('~checkpoint~', '~oldest~', '~oldest~', '~oldest~', 'latest'),
    worker: fc.constantFrom('one', 'two', 'three/ä'),
    base: fc.constantFrom('~iterations~', '~iterations~', '~iterations~', 0),
    since: fc.constantFrom('~revision~', 0, 1, 2),
    rows: fc.constantFrom('0', '1,0,1', '4', '5'),
    after: fc.constantFrom('~alpha~', 'a', 'z'),
    initializer: initializers,
    optimizer,
    timeout_ms: fc.integer({ min: 1, max: 30 }),
    'if-match': fc.constantFrom(
      '"~revision~"',
      '"~revision~"',
      '"~revision~"',
      '*',
      '*',
      '"0", "~revision~"',
      '"0"',
      'W/"~revision~"',
    ),
    'if-none-match': fc.constantFrom('"~revision~"', '*', '"0"', 'W/"~revision~"'),
    'idempotency-key': fc.nat({ max: 5 }).map((nth) => `~episode~-${nth}`),
    prefer: fc.constantFrom(
      'return=minimal',
      'wait=0',
      'wait=0.01',
      'respond-async',
      'return=representation, wait=0.01',
    ),
    range: fc.constantFrom('bytes=0-9', 'bytes=-5', 'bytes=100-', 'bytes=0-0,5-6', 'bytes=9999999-', 'rows=1-2'),
    'last-event-id': fc.constantFrom('~revision~', '0', '~revision~+~checkpoint~', '1'),
  },
};
