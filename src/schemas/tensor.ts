/**
 * Tensors in JSON: `{"dtype", "shape", "values"}`, values flat in row-major order or nested to the shape, numbers and
 * nothing else. Read to float64 unless a dtype is declared; the variable's own dtype is the kernel's business.
 */
import { Type } from 'typebox';
import { Problem } from '../errors.ts';
import { convertValues } from '../kernel/blocks.ts';
import { rankMax } from '../limits.ts';
import { type Dtype, type FloatDtype, isFloatDtype } from '../tensor/dtype.ts';
import { elementCount, sameShape, type Tensor } from '../tensor/tensor.ts';
import { brief } from './validate.ts';

export const Shape = Type.Array(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), {
  maxItems: rankMax,
  description: 'Sizes by axis; `[]` is a scalar.',
  examples: [[3, 2]],
});

export const DtypeName = Type.Enum(['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'U32'], {
  description: 'Spelled as safetensors spells it.',
});

/** A number, or arrays of numbers nested as deep as the shape. Only the outermost level is described: the rest is checked by hand. */
export const TensorValues = Type.Unsafe<unknown>({
  type: ['array', 'number'],
  description:
    'Flat in row-major order, or nested to the shape. JSON numbers only: no string, null or coerced value is accepted.',
  examples: [[0.5, -1.25]],
});

export const tensorMembers = {
  dtype: Type.Optional(DtypeName),
  shape: Type.Optional(Shape),
  values: TensorValues,
};

export interface TensorJson {
  dtype?: Dtype;
  shape?: number[];
  values: unknown;
}

/** The float dtype declared, or none. Throws `dtype_mismatch` for an integer one. */
export function declaredFloat(dtype: Dtype | undefined, pointer: string): FloatDtype | undefined {
  if (dtype === undefined || isFloatDtype(dtype)) return dtype;
  throw new Problem('dtype_mismatch', `values must have one of the dtypes F64, F32, F16, BF16. Received: ${dtype}`, {
    errors: [{ pointer: `${pointer}/dtype`, detail: 'must be F64, F32, F16 or BF16' }],
  });
}

/**
 * Reads a tensor. `known`: the shape that flat values have if the tensor does not say its own. Throws `shape_mismatch`,
 * `dtype_mismatch`, and `invalid_parameter` for a value that is no number, each with a pointer.
 */
export function decodeTensor(
  json: TensorJson,
  known: readonly number[] | undefined,
  pointer: string,
): Tensor<FloatDtype> {
  const { values } = json;
  const nested = nestedShape(values);
  const shape = json.shape ?? (nested.length === 1 && known !== undefined ? known : nested);
  const flat = flatten(values, nested, `${pointer}/values`);
  const isFlat = nested.length === 1 && flat.length === elementCount(shape);
  if (!isFlat && !sameShape(nested, shape)) {
    const received = nested.length === 1 ? `${flat.length} values` : `values nested as ${JSON.stringify(nested)}`;
    const rule = `values must have shape ${JSON.stringify(shape)}, flat (${elementCount(shape)} values) or nested`;
    throw new Problem('shape_mismatch', `${rule}. Received: ${received}`, {
      errors: [{ pointer: `${pointer}/values`, detail: rule }],
    });
  }
  const tensor = { dtype: 'F64' as const, bytes: new Uint8Array(flat.buffer) };
  return { shape, ...convertValues(tensor, flat.length, declaredFloat(json.dtype, pointer) ?? 'F64') };
}

/** The shape that the first element at each depth implies. */
function nestedShape(values: unknown): number[] {
  const shape: number[] = [];
  for (let level = values; Array.isArray(level); level = level[0]) {
    shape.push(level.length);
    if (shape.length > rankMax) {
      throw new Problem('shape_mismatch', `values must be nested at most ${rankMax} deep. Received: more`);
    }
  }
  return shape;
}

/** The numbers in row-major order. */
function flatten(values: unknown, shape: readonly number[], pointer: string): Float64Array<ArrayBuffer> {
  if (!Array.isArray(values)) {
    if (typeof values !== 'number') throw notANumber(values, pointer);
    return Float64Array.of(values);
  }
  const walk = new Walk(shape, pointer);
  walk.checkEven(values, 0);
  return walk.numbers(values);
}

/** Goes through lists nested as deep as `shape`. Pointers are made for errors only: to make one a list takes longer than all else. */
class Walk {
  readonly #shape: readonly number[];
  readonly #pointer: string;
  /** Where it is in the list at each depth. */
  readonly #at: number[] = [];

  constructor(shape: readonly number[], pointer: string) {
    this.#shape = shape;
    this.#pointer = pointer;
  }

  /** Every list is as long as its depth's first one; so the values take no more memory than they came in. */
  checkEven(values: unknown, depth: number): void {
    const size = this.#shape[depth] as number;
    if (!Array.isArray(values) || values.length !== size) throw uneven(values, size, this.#pointerTo(depth));
    if (depth === this.#shape.length - 1) return;
    for (let k = 0; k < size; k++) {
      this.#at[depth] = k;
      this.checkEven(values[k], depth + 1);
    }
  }

  numbers(values: readonly unknown[]): Float64Array<ArrayBuffer> {
    const flat = new Float64Array(elementCount(this.#shape));
    this.#copy(values, 0, flat, 0);
    return flat;
  }

  /** Writes the numbers below `list` to `flat` from `start` on; returns where it has come to. */
  #copy(list: readonly unknown[], depth: number, flat: Float64Array, start: number): number {
    let next = start;
    if (depth < this.#shape.length - 1) {
      for (let k = 0; k < list.length; k++) {
        this.#at[depth] = k;
        next = this.#copy(list[k] as unknown[], depth + 1, flat, next);
      }
      return next;
    }
    for (let k = 0; k < list.length; k++) {
      const value = list[k];
      if (typeof value !== 'number') {
        this.#at[depth] = k;
        throw notANumber(value, this.#pointerTo(depth + 1));
      }
      flat[next++] = value;
    }
    return next;
  }

  #pointerTo(depth: number): string {
    return [this.#pointer, ...this.#at.slice(0, depth)].join('/');
  }
}

function uneven(values: unknown, size: number, pointer: string): Problem {
  if (!Array.isArray(values) && typeof values !== 'number') return notANumber(values, pointer);
  const rule = `values must be nested evenly: a list of ${size} here`;
  const received = Array.isArray(values) ? `${values.length} items` : 'a number';
  return new Problem('shape_mismatch', `${rule}. Received: ${received}`, { errors: [{ pointer, detail: rule }] });
}

function notANumber(value: unknown, pointer: string): Problem {
  if (Array.isArray(value)) {
    const rule = 'values must be nested evenly: a number here';
    return new Problem('shape_mismatch', `${rule}. Received: a list`, { errors: [{ pointer, detail: rule }] });
  }
  const rule = 'a value must be a JSON number';
  return new Problem('invalid_parameter', `${rule}. Received: ${brief(value)}`, {
    errors: [{ pointer, detail: rule }],
  });
}
