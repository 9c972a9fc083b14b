/**
 * One Adamax step over a variable's memory, a block at a time: gradient in, m, v and w, updated values out while they are
 * in the cache. The bits do not depend on how the memory is cut, since every element (or row) is worked out on its own.
 */
import { bytesPerElement } from '../tensor/dtype.ts';
import { type Clip, finishBlock, loadBlock, storeBlock, type Values } from './blocks.ts';
import type { RowBatch, VariableMemory } from './variable-memory.ts';

/** The step's scalars, rounded to the variable's dtype. */
export interface StepScalars {
  readonly alpha: number;
  readonly beta1: number;
  readonly omb1: number;
  readonly beta2: number;
  readonly eps: number;
}

/** The rows of a sparse gradient in ascending order; row `rows[k]` sums values `order[starts[k]]` to `order[starts[k+1]-1]`. */
export interface RowGroups {
  readonly rows: Float64Array;
  readonly starts: Uint32Array;
  readonly order: Uint32Array;
}

/** Updates all elements by a gradient of as many values; `updated`, if given, receives them all. */
export function stepDense(
  memory: VariableMemory,
  gradient: Values,
  clip: Clip,
  scalars: StepScalars,
  updated: Values | undefined,
): void {
  const { alpha, omb1, beta2, eps } = scalars;
  const size = bytesPerElement[memory.dtype];
  for (const { segment, at, n, offset } of memory.blocks(0, memory.rows * memory.width)) {
    const { bank } = segment;
    const bytes = offset * size;
    memory.willChange(at, n);
    loadBlock(bank, gradient, at, n, memory.dtype, clip);
    bank
      .loops(memory.dtype)
      .dense(segment.w + bytes, segment.m + bytes, segment.v + bytes, bank.values, n, alpha, omb1, beta2, eps);
    if (updated !== undefined) storeBlock(bank, segment.w + bytes, memory.dtype, n, updated, at);
  }
}

/** Updates the grouped rows only; `updated`, if given, receives them in the groups' order. */
export function stepSparse(
  memory: VariableMemory,
  gradient: Values,
  groups: RowGroups,
  clip: Clip,
  scalars: StepScalars,
  updated: Values | undefined,
): void {
  const { alpha, beta1, omb1, beta2, eps } = scalars;
  for (const batch of memory.rowBatches(groups.rows)) {
    const { segment, count, column, columns } = batch;
    const { bank } = segment;
    sumRows(memory, gradient, groups, batch, clip);
    memory.willChangeRows(batch, groups.rows);
    memory.selectRows(batch, groups.rows);
    const [w, m, v] = [
      memory.rowAddress(segment, 'w', column),
      memory.rowAddress(segment, 'm', column),
      memory.rowAddress(segment, 'v', column),
    ];
    const loops = bank.loops(memory.dtype);
    loops.sparse(w, m, v, bank.rowsAt, bank.sums, count, columns, segment.columns, alpha, beta1, omb1, beta2, eps);
    if (updated !== undefined) memory.storeRows('w', batch, updated);
  }
}

/** Sums the values of a batch's rows into `bank.sums`, each from +0 on and in the order given. */
function sumRows(memory: VariableMemory, gradient: Values, groups: RowGroups, batch: RowBatch, clip: Clip): void {
  const { segment, from, count, columns } = batch;
  const { bank } = segment;
  const { starts, order } = groups;
  const loops = bank.loops(memory.dtype);
  bank.bytes.fill(0, bank.sums, bank.sums + count * columns * bytesPerElement[memory.dtype]);
  const perLoad = Math.max(1, Math.floor(bank.slots.length / columns));
  let slot = 0;
  const end = starts[from + count] as number;
  for (let next = starts[from] as number; next < end; next += perLoad) {
    const n = Math.min(perLoad, end - next);
    for (let k = 0; k < n; k++) {
      while (next + k >= (starts[from + slot + 1] as number)) slot++;
      bank.slots[k] = slot;
    }
    collectRows(memory, gradient, order.subarray(next, next + n), batch);
    finishBlock(bank, gradient.dtype, n * columns, memory.dtype, clip);
    loops.addRows(bank.values, bank.slotsAt, n, columns, bank.sums);
  }
}

/** Copies the batch's columns of the gradient's rows `positions` into scratch; neighbours go in one copy. */
function collectRows(memory: VariableMemory, gradient: Values, positions: Uint32Array, batch: RowBatch): void {
  const { bank } = batch.segment;
  const size = bytesPerElement[gradient.dtype];
  let target = gradient.dtype === memory.dtype ? bank.values : bank.wire;
  for (let k = 0; k < positions.length; ) {
    let next = k + 1;
    if (batch.columns === memory.width) {
      while (next < positions.length && positions[next] === (positions[next - 1] as number) + 1) next++;
    }
    const start = ((positions[k] as number) * memory.width + batch.column) * size;
    const bytes = (next - k) * batch.columns * size;
    bank.bytes.set(gradient.bytes.subarray(start, start + bytes), target);
    target += bytes;
    k = next;
  }
}
