/** Values that are to take the place of variables or slots, whole or by rows, held against what there is. */
import { Problem } from '../errors.ts';
import type { Part } from '../kernel/extent.ts';
import { readIndices } from '../optimizer/indexed-slices.ts';
import { checkRange, checkRows, checkRowValues, checkShape, findVariable, type Slices } from './gradient.ts';
import type { Variable } from './variable.ts';

export interface CheckedAssignments {
  readonly part: Part;
  readonly values: readonly {
    readonly variable: Variable;
    readonly values: Slices['values'];
    readonly rows: Float64Array | undefined;
  }[];
}

/** Changes nothing; throws for assignments that do not fit. */
export function checkAssignments(
  variables: ReadonlyMap<string, Variable>,
  part: Part,
  assignments: ReadonlyMap<string, Slices>,
): CheckedAssignments {
  const values = [...assignments].map(([name, slices]) => {
    const variable = findVariable(variables, name);
    return { variable, values: slices.values, rows: checkAssignment(variable, slices) };
  });
  return { part, values };
}

/** Shape, range and values of one assignment; the rows that it names, if it does. */
function checkAssignment(variable: Variable, { values, indices }: Slices): Float64Array | undefined {
  const rows = indices && readIndices(indices);
  if (rows === undefined) checkShape(variable, variable.shape, values, 'the values for');
  else {
    checkRows(variable, rows);
    checkRowValues(variable, rows.length, values, 'the rows for');
    if (new Set(rows).size < rows.length) {
      throw new Problem(
        'invalid_argument',
        `the rows assigned to "${variable.name}" must be named once each. Received: a repeated index`,
      );
    }
  }
  checkRange(variable.name, variable.dtype, values);
  return rows;
}
