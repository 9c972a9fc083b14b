/**
 * Gradients, and whether they fit the session that they are for. Everything is checked before anything changes, so a
 * request that fails here has left no trace.
 */

import { Problem, type ProblemItem } from '../errors.ts';
import { blockElements } from '../kernel/bank.ts';
import { type Scan, scanOf, scanValues } from '../kernel/blocks.ts';
import type { SlicesByRow } from '../kernel/step.ts';
import { blocksHere, type Executor } from '../kernel/threads.ts';
import { problemItemsMax } from '../limits.ts';
import { groupByRow, readIndices } from '../optimizer/indexed-slices.ts';
import type { FloatDtype, IndexDtype, VariableDtype } from '../tensor/dtype.ts';
import { elementCount, sameShape, type Tensor } from '../tensor/tensor.ts';
import type { Variable, VariableSpec } from './variable.ts';

/** Values for all elements of a variable or, with `indices` (IndexedSlices), for rows of its first axis. */
export interface Slices {
  readonly values: Tensor<FloatDtype>;
  readonly indices?: Tensor<IndexDtype>;
}

export interface CheckedGradient {
  readonly variable: Variable;
  readonly values: Tensor<FloatDtype>;
  /** Of a sparse gradient, by the rows that it touches. */
  readonly slices: SlicesByRow | undefined;
  readonly scan: Scan;
}

/** Of the right shape and rows, its values not looked at yet. */
type Fitting = Omit<CheckedGradient, 'scan'>;

/** How much gradients come to: rows (dense ones have none), and bytes of values. */
export function extentOf(gradients: Iterable<Slices>): { rows: number; bytes: number } {
  let rows = 0;
  let bytes = 0;
  for (const { values, indices } of gradients) {
    bytes += values.bytes.length;
    rows += indices?.shape[0] ?? 0;
  }
  return { rows, bytes };
}

/** The variable of that name, or `unknown_variable` with the names that exist. */
export function findVariable(variables: ReadonlyMap<string, Variable>, name: string): Variable {
  const variable = variables.get(name);
  if (variable !== undefined) return variable;
  const known = firstOf(variables.keys(), 8).map((each) => JSON.stringify(each));
  const names = variables.size > known.length ? [...known, '…'] : known;
  throw new Problem(
    'unknown_variable',
    `a variable must be one of the session's: ${names.join(', ') || 'it has none'}. Received: ${JSON.stringify(name)}`,
  );
}

/**
 * Rows in range, of the variable's first axis. Throws `shape_mismatch` for a scalar and `index_out_of_range`.
 */
export function checkRows(variable: Variable, rows: ArrayLike<number>): void {
  if (variable.shape.length === 0) {
    throw new Problem('shape_mismatch', `${quote(variable)} must have rank 1 or more to have rows. Its shape is: []`);
  }
  const size = variable.shape[0] as number;
  for (let k = 0; k < rows.length; k++) {
    const row = rows[k] as number;
    if (!(row >= 0 && row < size)) {
      throw new Problem(
        'index_out_of_range',
        `an index of ${quote(variable)} must be at least 0 and less than ${size}. Received: ${row} (number ${k})`,
      );
    }
  }
}

/** The values of `rows` rows: shape `[rows, ...shape[1:]]`, exactly. */
export function checkRowValues(variable: Variable, rows: number, values: Tensor, what: string): void {
  checkShape(variable, [rows, ...variable.shape.slice(1)], values, what);
}

export function checkShape(variable: VariableSpec, shape: readonly number[], values: Tensor, what: string): void {
  if (sameShape(shape, values.shape)) return;
  throw new Problem(
    'shape_mismatch',
    `${what} ${quote(variable)} must have shape ${JSON.stringify(shape)}. Received: ${JSON.stringify(values.shape)}`,
  );
}

/** Holds every gradient against its variable; all that is wrong is told at once, or as much of it as fits a reply. */
export async function checkGradients(
  variables: ReadonlyMap<string, Variable>,
  gradients: ReadonlyMap<string, Slices>,
  clipvalue: number | null,
  executor: Executor,
): Promise<CheckedGradient[]> {
  const problems = new Map<string, Problem>();
  const fitting: Fitting[] = [];
  for (const [name, gradient] of gradients) {
    try {
      fitting.push(fit(findVariable(variables, name), gradient));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      problems.set(name, problem);
      if (problems.size === problemItemsMax) throw inOne([...problems.keys()], problems);
    }
  }
  const scans = await scanAll(fitting, clipvalue, executor);
  const checked = fitting.map(({ variable, values, slices }, k) => {
    const scan = scans[k] as Scan;
    if (!scan.finite && problems.size < problemItemsMax) problems.set(variable.name, notFinite(variable));
    return { variable, values, slices, scan };
  });
  if (problems.size > 0) throw inOne([...gradients.keys()], problems);
  return checked;
}

/** Looks over several gradients: is each finite in its variable's dtype, and how long is it after clipping by value. */
async function scanAll(gradients: readonly Fitting[], limit: number | null, executor: Executor): Promise<Scan[]> {
  let blocks = 0;
  for (const { values } of gradients) blocks += blocksOf(values);
  if (blocks <= blocksHere) {
    return gradients.map(({ variable: { dtype }, values }) =>
      scanValues(values, elementCount(values.shape), dtype, limit),
    );
  }
  // Where other threads can write.
  const memory = new SharedArrayBuffer(blocks * Float64Array.BYTES_PER_ELEMENT);
  let at = 0;
  const works = gradients.map(({ variable: { dtype }, values }) => {
    const sums = new Float64Array(memory, at, blocksOf(values));
    at += sums.byteLength;
    return { kind: 'scan' as const, values, count: elementCount(values.shape), dtype, limit, sums };
  });
  await executor.run(works);
  return works.map(({ sums, dtype }) => scanOf(sums, dtype));
}

function blocksOf({ shape }: Tensor): number {
  return Math.ceil(elementCount(shape) / blockElements);
}

/** Shape and rows of a gradient against its variable; its values are not looked at. */
function fit(variable: Variable, { values, indices }: Slices): Fitting {
  if (indices === undefined) {
    checkShape(variable, variable.shape, values, 'gradient for');
    return { variable, values, slices: undefined };
  }
  const rows = readIndices(indices);
  checkRows(variable, rows);
  checkRowValues(variable, rows.length, values, 'values of the sparse gradient for');
  return { variable, values, slices: groupByRow(rows) };
}

function notFinite(variable: Variable): Problem {
  return new Problem(
    'gradient_not_finite',
    `gradient for ${quote(variable)} must be finite in ${variable.dtype}. Received: a NaN, an infinity, or a value beyond its range`,
  );
}

/** One problem that tells of all, the first of which gives it its code. */
function inOne(names: readonly string[], problems: ReadonlyMap<string, Problem>): Problem {
  const wrong = names.filter((name) => problems.has(name));
  const [first] = wrong.map((name) => problems.get(name) as Problem);
  if (first === undefined) throw new Error('there is no problem');
  if (wrong.length === 1) return first;
  const errors: ProblemItem[] = wrong.map((name) => ({
    pointer: `/gradients/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`,
    detail: (problems.get(name) as Problem).message,
  }));
  const more = wrong.length === problemItemsMax ? `at least ${wrong.length - 1}` : wrong.length - 1;
  return new Problem(first.code, `${first.message} (and ${more} more)`, { errors });
}

/** Values of F64 that are finite must stay so in a variable of F32. Throws `invalid_argument`. */
export function checkRange(name: string, dtype: VariableDtype, values: Tensor<FloatDtype>): void {
  const { bytes, shape } = values;
  const count = elementCount(shape);
  if (values.dtype !== 'F64' || dtype === 'F64' || scanValues(values, count, dtype, null).finite) return;
  const numbers = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let k = 0; k < count; k++) {
    const value = numbers.getFloat64(k * 8, true);
    if (!Number.isFinite(value) || Number.isFinite(Math.fround(value))) continue;
    throw new Problem(
      'invalid_argument',
      `the values for ${JSON.stringify(name)} must be in the range of F32. Received: ${value}`,
    );
  }
}

function firstOf<T>(values: Iterator<T>, count: number): T[] {
  const first: T[] = [];
  for (let next = values.next(); !next.done && first.length < count; next = values.next()) first.push(next.value);
  return first;
}

function quote(variable: VariableSpec): string {
  return JSON.stringify(variable.name);
}
