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
  checkEven(values, nested, 0, `${pointer}/values`);
  const flat = new Float64Array(elementCount(nested));
  flatten(values, nested.length, flat, 0, `${pointer}/values`);
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

/** Every list is as long as its depth's first one; so the values take no more memory than they came in. */
function checkEven(values: unknown, shape: readonly number[], depth: number, pointer: string): void {
  if (depth === shape.length) return;
  if (!Array.isArray(values) || values.length !== shape[depth]) {
    if (!Array.isArray(values) && typeof values !== 'number') throw notANumber(values, pointer);
    const rule = `values must be nested evenly: a list of ${shape[depth]} here`;
    const received = Array.isArray(values) ? `${values.length} items` : 'a number';
    throw new Problem('shape_mismatch', `${rule}. Received: ${received}`, { errors: [{ pointer, detail: rule }] });
  }
  if (depth === shape.length - 1) return;
  for (const [k, inner] of values.entries()) checkEven(inner, shape, depth + 1, `${pointer}/${k}`);
}

/** Writes the numbers below `values`, nested so deep, to `flat` from `at` on; returns where it has come to. */
function flatten(values: unknown, depth: number, flat: Float64Array, at: number, pointer: string): number {
  const list: readonly unknown[] = depth === 0 ? [values] : (values as unknown[]);
  let next = at;
  for (let k = 0; k < list.length; k++) {
    const value = list[k];
    if (depth > 1) next = flatten(value, depth - 1, flat, next, `${pointer}/${k}`);
    else if (typeof value === 'number') flat[next++] = value;
    else throw notANumber(value, depth === 0 ? pointer : `${pointer}/${k}`);
  }
  return next;
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
