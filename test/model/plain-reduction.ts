/**
 * What the gradients of one step come to, written down as plainly as the rule is: element by element, in the order given, each
 * operation rounded to the variable's dtype. It shares no code with the server.
 */
import type { VariableDtype } from '../../src/tensor/dtype.ts';
import { rounding } from '../support/reference-adamax.ts';

/** Values for the whole variable or, with `indices`, for rows of it; flat. */
export interface Gradient {
  readonly values: readonly number[];
  readonly indices?: readonly number[];
}

export type Gradients = Readonly<Record<string, Gradient>>;

export interface VariableShape {
  readonly dtype: VariableDtype;
  readonly shape: readonly number[];
}

export type Shapes = Readonly<Record<string, VariableShape>>;

/** By variable, of those that are named; `divisor` is 1 for a sum, and for a mean how many gradients there are. */
export function reducePlainly(gradients: readonly Gradients[], shapes: Shapes, divisor: number): Gradients {
  const reduced: Record<string, Gradient> = {};
  for (const [name, variable] of Object.entries(shapes)) {
    const group = gradients.flatMap((each) => each[name] ?? []);
    if (group.length > 0) reduced[name] = reduceOne(group, variable, divisor);
  }
  return reduced;
}

function reduceOne(group: readonly Gradient[], variable: VariableShape, divisor: number): Gradient {
  const f = rounding(variable.dtype);
  const round = ({ values }: Gradient) => values.map(f);
  const divided = (sum: readonly number[]) => sum.map((x) => (divisor === 1 ? x : f(x / divisor)));
  if (group.every(({ indices }) => indices === undefined)) {
    const [first = [], ...others] = group.map(round);
    return { values: divided(others.reduce((sum, values) => sum.map((x, i) => f(x + (values[i] as number))), first)) };
  }
  const rows = sumOfRows(group, variable);
  if (group.some(({ indices }) => indices === undefined)) return { values: divided([...rows.values()].flat()) };
  return { indices: [...rows.keys()], values: divided([...rows.values()].flat()) };
}

/** The rows that any of them has, ascending, each summed from +0 on. */
function sumOfRows(group: readonly Gradient[], { dtype, shape }: VariableShape): Map<number, number[]> {
  const f = rounding(dtype);
  const [rows = 0] = shape;
  const width = widthOf(shape);
  const sums = new Map<number, number[]>();
  for (const { values, indices = Array.from({ length: rows }, (_, row) => row) } of group) {
    indices.forEach((row, k) => {
      const sum = sums.get(row) ?? new Array<number>(width).fill(0);
      sums.set(
        row,
        sum.map((x, column) => f(x + f(values[k * width + column] as number))),
      );
    });
  }
  return new Map([...sums].sort(([a], [b]) => a - b));
}

export function widthOf(shape: readonly number[]): number {
  return shape.slice(1).reduce((product, edge) => product * edge, 1);
}

export function areFinite(gradients: Gradients, shapes: Shapes): boolean {
  return Object.entries(gradients).every(([name, { values }]) => {
    const f = rounding((shapes[name] as VariableShape).dtype);
    return values.every((x) => Number.isFinite(f(x)));
  });
}
