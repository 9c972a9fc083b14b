/**
 * What is trained while servers crash: a few variables, and bodies for them, all drawn from seeds, so that every gradient
 * can be made again instead of being kept. Values are multiples of 1/64, which JSON and every dtype have exactly.
 */
import type { Tensor } from '../../src/tensor/tensor.ts';
import { type Call, encodeFile, i64 } from './api.ts';
import { encode, randomUnits } from './floats.ts';

export type Random = () => number;

/** Numbers in [0, 1), the same for the same path of numbers. */
export function stream(...path: readonly number[]): Random {
  let state = 0;
  for (const number of path) {
    state = Math.imul((state ^ number) + 0x9e3779b9, 0x85ebca6b);
    state = Math.imul(state ^ (state >>> 13), 0xc2b2ae35);
    state ^= state >>> 16;
  }
  return randomUnits(state);
}

export function below(random: Random, end: number): number {
  return Math.floor(random() * end);
}

export function pick<T>(random: Random, list: readonly T[]): T {
  return list[below(random, list.length)] as T;
}

export interface VariablePlan {
  readonly shape: readonly number[];
  readonly dtype: 'F32' | 'F64';
  /** Gradients for it come as rows, some of them more than once. */
  readonly sparse: boolean;
}

export interface Model {
  readonly format: 'json' | 'safetensors';
  readonly variables: Readonly<Record<string, VariablePlan>>;
}

const dense = (shape: readonly number[], dtype: 'F32' | 'F64' = 'F32') => ({ shape, dtype, sparse: false });
const sparse = (shape: readonly number[], dtype: 'F32' | 'F64' = 'F32') => ({ shape, dtype, sparse: true });

export const models = {
  small: { format: 'json', variables: { kernel: dense([6, 4]), bias: dense([4], 'F64') } },
  embedding: { format: 'json', variables: { rows: sparse([50, 8]), exact: sparse([20, 2], 'F64'), scale: dense([]) } },
  large: { format: 'safetensors', variables: { kernel: dense([600, 500]), rows: sparse([1000, 4]) } },
} satisfies Record<string, Model>;

export function randomModel(random: Random): Model {
  const count = 1 + below(random, 4);
  const entries = Array.from({ length: count }, (_, k): [string, VariablePlan] => {
    const rank = below(random, 4);
    // Half of them small, the others of up to some hundred thousand elements.
    const edge = random() < 0.5 ? 5 : 60;
    const shape = Array.from({ length: rank }, () => 1 + below(random, edge));
    return [`v${k}`, { shape, dtype: random() < 0.7 ? 'F32' : 'F64', sparse: rank > 0 && random() < 0.4 }];
  });
  return {
    format: elements(entries) > 2000 || random() < 0.3 ? 'safetensors' : 'json',
    variables: Object.fromEntries(entries),
  };
}

function elements(entries: readonly [string, VariablePlan][]): number {
  return entries.reduce((sum, [, { shape }]) => sum + size(shape), 0);
}

function size(shape: readonly number[]): number {
  return shape.reduce((product, edge) => product * edge, 1);
}

/** The `variables` of a creation. */
export function initialVariables({ variables }: Model, random: Random): object {
  const entries = Object.entries(variables).map(([name, { shape, dtype }]) => {
    const initializer = {
      class_name: 'RandomUniform',
      config: { minval: -1, maxval: 1, seed: below(random, 2 ** 31) },
    };
    return [name, { shape, dtype, initializer }];
  });
  return Object.fromEntries(entries);
}

/** Gradients or assignments for some of the variables, in the model's format. */
export function body(model: Model, member: 'gradients' | 'variables', random: Random): Call {
  const all = Object.entries(model.variables);
  const some = all.filter(() => random() < 0.7);
  const chosen = some.length > 0 ? some : [pick(random, all)];
  // Rows are assigned once each; those of gradients may come again, and are summed.
  const rowsMax = member === 'gradients' ? 8 : 1;
  const drawn = chosen.map(([name, plan]) => ({ name, ...drawSlices(plan, rowsMax, random) }));
  if (model.format === 'json') {
    const entries = drawn.map(({ name, indices, shape, values }) => {
      return [name, { ...(indices === undefined ? {} : { indices }), shape, values: [...values] }];
    });
    return { json: { [member]: Object.fromEntries(entries) } };
  }
  const tensors: Record<string, Tensor> = {};
  for (const { name, dtype, indices, shape, values } of drawn) {
    if (indices !== undefined) tensors[`${name}:indices`] = i64(indices);
    tensors[indices === undefined ? name : `${name}:values`] = { shape, ...encode(values, dtype) };
  }
  return { bytes: encodeFile(tensors) };
}

function drawSlices({ shape, dtype, sparse }: VariablePlan, rowsMax: number, random: Random) {
  if (!sparse) return { dtype, indices: undefined, shape, values: drawValues(shape, random) };
  const [rows = 1, ...row] = shape;
  const indices = Array.from({ length: 1 + below(random, rowsMax) }, () => below(random, rows));
  return { dtype, indices, shape: [indices.length, ...row], values: drawValues([indices.length, ...row], random) };
}

function drawValues(shape: readonly number[], random: Random): Float64Array {
  const values = new Float64Array(size(shape));
  for (let k = 0; k < values.length; k++) values[k] = (below(random, 129) - 64) / 64;
  return values;
}
