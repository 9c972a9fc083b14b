/**
 * Gradients, and whether they fit the session that they are for. Everything is checked before anything changes, so a
 * request that fails here has left no trace.
 */

import { Problem, type ProblemItem } from '../errors.ts';
import { type Scan, scanValues } from '../kernel/blocks.ts';
import type { RowGroups } from '../kernel/step.ts';
import { groupRows, readIndices } from '../optimizer/indexed-slices.ts';
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
  /** The rows that a sparse gradient touches, absent for a dense one. */
  readonly groups: RowGroups | undefined;
  readonly scan: Scan;
}

/** The variable of that name, or `unknown_variable` with the names that exist. */
export function findVariable(variables: ReadonlyMap<string, Variable>, name: string): Variable {
  const variable = variables.get(name);
  if (variable !== undefined) return variable;
  const known = [...variables.keys()].slice(0, 8).map((each) => JSON.stringify(each));
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

/** Holds every gradient against its variable; all that is wrong is told at once. */
export function checkGradients(
  variables: ReadonlyMap<string, Variable>,
  gradients: ReadonlyMap<string, Slices>,
  clipvalue: number | null,
): CheckedGradient[] {
  const problems: { problem: Problem; name: string }[] = [];
  const checked: CheckedGradient[] = [];
  for (const [name, gradient] of gradients) {
    try {
      checked.push(checkGradient(findVariable(variables, name), gradient, clipvalue));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      problems.push({ problem, name });
    }
  }
  const first = problems[0]?.problem;
  if (first === undefined) return checked;
  if (problems.length === 1) throw first;
  const errors: ProblemItem[] = problems.map(({ problem, name }) => ({
    pointer: `/gradients/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`,
    detail: problem.message,
  }));
  throw new Problem(first.code, `${first.message} (and ${problems.length - 1} more)`, { errors });
}

function checkGradient(variable: Variable, gradient: Slices, clipvalue: number | null): CheckedGradient {
  const { values, indices } = gradient;
  let groups: RowGroups | undefined;
  if (indices === undefined) checkShape(variable, variable.shape, values, 'gradient for');
  else {
    const rows = readIndices(indices);
    checkRows(variable, rows);
    checkRowValues(variable, rows.length, values, 'values of the sparse gradient for');
    groups = groupRows(rows);
  }
  const scan = scanValues(values, elementCount(values.shape), variable.dtype, clipvalue);
  if (!scan.finite) {
    throw new Problem(
      'gradient_not_finite',
      `gradient for ${quote(variable)} must be finite in ${variable.dtype}. Received: a NaN, an infinity, or a value beyond its range`,
    );
  }
  return { variable, values, groups, scan };
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

function quote(variable: VariableSpec): string {
  return JSON.stringify(variable.name);
}
