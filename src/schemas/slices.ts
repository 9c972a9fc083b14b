/**
 * Gradients and assignments, dense or sparse, in both body formats, as the session takes them: by variable, values and
 * perhaps indices. In safetensors a sparse one of `w` is the pair `w:indices` and `w:values`.
 */
import { type Static, Type } from 'typebox';
import { Problem } from '../errors.ts';
import { scanValues } from '../kernel/blocks.ts';
import { jsonIndicesMax, variablesMax } from '../limits.ts';
import { writeIndices } from '../optimizer/indexed-slices.ts';
import type { Slices } from '../session/gradient.ts';
import type { VariableSpec } from '../session/variable.ts';
import { type IndexDtype, isFloatDtype, isIndexDtype } from '../tensor/dtype.ts';
import type { SafetensorsFile } from '../tensor/safetensors.ts';
import { elementCount, type Tensor } from '../tensor/tensor.ts';
import { variableNamePattern } from './common.ts';
import { decodeTensor, type TensorJson, tensorMembers } from './tensor.ts';

export const Indices = Type.Array(Type.Integer(), {
  maxItems: jsonIndicesMax,
  description: "Rows of the variable's first axis.",
  examples: [[4, 17, 4]],
});

/** Values for a variable, whole or (with `indices`) for rows of it. */
export const SlicesJson = Type.Object(
  { ...tensorMembers, indices: Type.Optional(Indices) },
  {
    $id: 'Slices',
    additionalProperties: false,
    description: 'A tensor for a whole variable; with `indices`, one row of values for each index.',
    examples: [
      { values: [[0.5, -1.25]] },
      {
        indices: [4, 17],
        values: [
          [1, 2],
          [3, 4],
        ],
      },
    ],
  },
);

export interface SlicesJson extends TensorJson {
  indices?: number[];
}

export const slicesByName = Type.Record(
  Type.String({ pattern: variableNamePattern }),
  Type.Unsafe<SlicesJson>(Type.Ref('Slices')),
  {
    additionalProperties: false,
    maxProperties: variablesMax,
    description: 'By variable name.',
  },
);

export const GradientsBody = Type.Object(
  { gradients: slicesByName },
  {
    $id: 'Gradients',
    additionalProperties: false,
    description: 'The gradients of one step; variables that are not named do not change.',
    examples: [
      {
        gradients: {
          w: { values: [0.1, 0.2, 0.3] },
          embedding: {
            indices: [4, 17, 4],
            values: [
              [1, 1],
              [2, 2],
              [3, 3],
            ],
          },
        },
      },
    ],
  },
);

export type GradientsBody = Static<typeof GradientsBody>;

export const AssignmentsBody = Type.Object(
  {
    variables: slicesByName,
    session: Type.Optional(Type.String()),
    revision: Type.Optional(Type.Integer()),
    iterations: Type.Optional(Type.Integer()),
    learning_rate: Type.Optional(Type.Number()),
  },
  {
    $id: 'Assignments',
    additionalProperties: false,
    description:
      'Values to assign. A reply can be sent as it came: its members besides `variables` describe it and change nothing.',
    examples: [{ variables: { w: { values: [1, 2, 3] } } }],
  },
);

export type AssignmentsBody = Static<typeof AssignmentsBody>;

/** JSON slices by variable, at `pointer` in the body. `specs` gives flat values their shape. */
export function decodeSlices(
  json: Record<string, SlicesJson>,
  specs: ReadonlyMap<string, VariableSpec>,
  pointer: string,
): Map<string, Slices> {
  const slices = new Map<string, Slices>();
  for (const [name, each] of Object.entries(json)) {
    const at = `${pointer}/${escapePointer(name)}`;
    const shape = specs.get(name)?.shape;
    if (each.indices === undefined) slices.set(name, { values: decodeTensor(each, shape, at) });
    else {
      const indices = encodeIndices(each.indices);
      const rows = shape && [each.indices.length, ...shape.slice(1)];
      slices.set(name, { indices, values: decodeTensor(each, rows, at) });
    }
  }
  return slices;
}

/** Values that a client names outright (not gradients) must be finite in their dtype: `1e39` as F32 is not. */
export function requireFinite(slices: ReadonlyMap<string, Slices>): void {
  for (const [name, { values }] of slices) {
    const { dtype, shape } = values;
    if (scanValues(values, elementCount(shape), dtype === 'F64' ? 'F64' : 'F32', null).finite) continue;
    throw new Problem(
      'invalid_argument',
      `the values for ${JSON.stringify(name)} must be finite in ${dtype}. Received: one beyond its range`,
    );
  }
}

/** The tensors of a safetensors body by variable. Throws `invalid_parameter` for names that do not make pairs. */
export function decodeSlicesFile(file: SafetensorsFile): Map<string, Slices> {
  const slices = new Map<string, Slices>();
  for (const [name, tensor] of file.tensors) {
    const [variable, part] = splitPart(name);
    if (slices.has(variable)) {
      if (part === undefined || file.tensors.has(variable)) {
        throw new Problem(
          'invalid_parameter',
          `${JSON.stringify(variable)} must be given once, dense or sparse. Received: both`,
        );
      }
      continue;
    }
    if (part === undefined) slices.set(variable, { values: floatTensor(name, tensor) });
    else {
      const indices = file.tensors.get(`${variable}:indices`);
      const values = file.tensors.get(`${variable}:values`);
      if (indices === undefined || values === undefined) {
        const rule = `a sparse tensor must be the pair "${variable}:indices" and "${variable}:values"`;
        throw new Problem('invalid_parameter', `${rule}. Received: only ${JSON.stringify(name)}`);
      }
      slices.set(variable, {
        indices: indexTensor(`${variable}:indices`, indices),
        values: floatTensor(`${variable}:values`, values),
      });
    }
  }
  return slices;
}

function splitPart(name: string): [variable: string, part: 'indices' | 'values' | undefined] {
  const colon = name.lastIndexOf(':');
  if (colon < 0) return [name, undefined];
  const part = name.slice(colon + 1);
  if (part === 'indices' || part === 'values') return [name.slice(0, colon), part];
  const rule = 'a tensor must be named after a variable, or that and ":indices" or ":values"';
  throw new Problem('invalid_parameter', `${rule}. Received: ${JSON.stringify(name)}`);
}

function floatTensor(name: string, { dtype, shape, bytes }: Tensor): Slices['values'] {
  if (isFloatDtype(dtype)) return { dtype, shape, bytes };
  throw new Problem(
    'dtype_mismatch',
    `tensor ${JSON.stringify(name)} must be F64, F32, F16 or BF16. Received: ${dtype}`,
  );
}

/** An index tensor of shape `[k]`. Throws `dtype_mismatch` and `shape_mismatch`. */
export function indexTensor(name: string, { dtype, shape, bytes }: Tensor): Tensor<IndexDtype> {
  if (!isIndexDtype(dtype)) {
    throw new Problem('dtype_mismatch', `tensor ${JSON.stringify(name)} must be I64, I32 or U32. Received: ${dtype}`);
  }
  if (shape.length !== 1) {
    throw new Problem(
      'shape_mismatch',
      `tensor ${JSON.stringify(name)} must have shape [k]. Received: ${JSON.stringify(shape)}`,
    );
  }
  return { dtype, shape, bytes };
}

/** JSON indices as a tensor. Integers that no I64 holds are refused here, since no variable has such a row. */
export function encodeIndices(indices: readonly number[]): Tensor<'I64'> {
  for (let k = 0; k < indices.length; k++) {
    const index = indices[k] as number;
    if (!Number.isSafeInteger(index)) {
      throw new Problem(
        'index_out_of_range',
        `an index must be at least 0 and less than 2^53. Received: ${index} (number ${k})`,
      );
    }
  }
  return writeIndices(indices);
}

export function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}
