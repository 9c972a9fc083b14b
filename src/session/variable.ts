/** A named variable of a session: its shape and dtype, and the memory that holds it and its slots. */
import type { Extent } from '../kernel/extent.ts';
import { allocate, type VariableMemory } from '../kernel/variable-memory.ts';
import type { VariableDtype } from '../tensor/dtype.ts';
import { byteLength, elementCount } from '../tensor/tensor.ts';

export interface VariableSpec {
  readonly name: string;
  readonly dtype: VariableDtype;
  readonly shape: readonly number[];
}

export interface Variable extends VariableSpec {
  readonly memory: VariableMemory;
}

/** A shape's first axis, and the product of the others. */
function extentOf(shape: readonly number[], dtype: VariableDtype): Extent {
  return shape.length === 0
    ? { dtype, rows: 1, width: 1 }
    : { dtype, rows: shape[0] as number, width: elementCount(shape.slice(1)) };
}

/** Variables of these names and shapes, they and their slots all zeros. */
export function allocateVariables(specs: readonly VariableSpec[]): Map<string, Variable> {
  const memories = allocate(specs.map(({ shape, dtype }) => extentOf(shape, dtype)));
  return new Map(
    specs.map(({ name, dtype, shape }, index) => {
      return [name, { name, dtype, shape, memory: memories[index] as VariableMemory }];
    }),
  );
}

/** What variables of these shapes take up with their slots, in bytes. */
export function stateBytes(specs: Iterable<VariableSpec>): number {
  let bytes = 0;
  for (const { shape, dtype } of specs) bytes += 3 * byteLength(dtype, shape);
  return bytes;
}
