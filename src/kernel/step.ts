/**
 * One Adamax step over a variable's memory, a block at a time: gradient in, m, v and w, updated values out while they are
 * in the cache. A step can be taken block by block, in any order and by several threads: the bits are the same, since
 * every element (or row) is worked out on its own.
 */
import { bytesPerElement } from '../tensor/dtype.ts';
import { blockElements } from './bank.ts';
import { type Clip, loadBlock, loadRows, storeBlock, type Values } from './blocks.ts';
import type { RowBatch, VariableMemory } from './variable-memory.ts';

/** The step's scalars, rounded to the variable's dtype. */
export interface StepScalars {
  readonly alpha: number;
  readonly beta1: number;
  readonly omb1: number;
  readonly beta2: number;
  readonly eps: number;
}

/** The slices of a sparse gradient, by the rows that they are for. */
export interface SlicesByRow {
  /** Each row once, ascending. */
  readonly rows: Float64Array;
  /** Slices `order[starts[k]]` up to `order[starts[k + 1]]` (exclusive), in the order given, are for row `rows[k]`. */
  readonly order: Uint32Array;
  readonly starts: Uint32Array;
}

/** A step that a dense gradient takes; `updated`, if given, receives the new values. */
export interface DenseStep<M = VariableMemory> {
  readonly memory: M;
  readonly gradient: Values;
  readonly clip: Clip;
  readonly scalars: StepScalars;
  readonly updated: Values | undefined;
  /**
   * Zeros, one for each block of the work, to which the block's sum of squares of the change of w is added; undefined: nobody
   * wants it. Set last, since how many blocks there are follows from the rest.
   */
  changes: Float64Array | undefined;
}

/** A step that a sparse gradient takes on the rows that it names; `updated`, if given, receives their new values, ascending. */
export interface SparseStep<M = VariableMemory> extends DenseStep<M> {
  readonly slices: SlicesByRow;
}

/** Updates `count` elements from element `from` on. */
export function stepDense(step: DenseStep, from: number, count: number): void {
  const { memory, gradient, clip, scalars, updated, changes } = step;
  const { alpha, omb1, beta2, eps } = scalars;
  const size = bytesPerElement[memory.dtype];
  for (const { segment, at, n, offset } of memory.blocks(from, count)) {
    const { bank, w, m, v } = segment;
    const bytes = offset * size;
    loadBlock(bank, gradient, from + at, n, memory.dtype, clip);
    const { dense } = bank.loops(memory.dtype);
    const squares = dense(w + bytes, m + bytes, v + bytes, bank.values, n, alpha, omb1, beta2, eps);
    if (changes !== undefined) addTo(changes, Math.floor((from + at) / blockElements), squares);
    if (updated !== undefined) storeBlock(bank, w + bytes, memory.dtype, n, updated, from + at);
  }
}

function addTo(sums: Float64Array, block: number, squares: number): void {
  sums[block] = (sums[block] as number) + squares;
}

/** How many rows make a block. */
export function rowsPerBlock(width: number): number {
  return Math.max(1, Math.floor(blockElements / Math.max(1, width)));
}

/** Updates rows `from` to `from + count` of those that the gradient names. */
export function stepSparse(step: SparseStep, from: number, count: number): void {
  const { memory, slices, scalars, updated, changes } = step;
  const { alpha, beta1, omb1, beta2, eps } = scalars;
  const perBlock = rowsPerBlock(memory.width);
  for (const batch of memory.rowBatches(slices.rows, from, from + count)) {
    const { segment, column, columns } = batch;
    const { bank } = segment;
    memory.selectRows(batch, slices.rows);
    loadSums(step, batch);
    const [w, m, v] = [
      memory.rowAddress(segment, 'w', column),
      memory.rowAddress(segment, 'm', column),
      memory.rowAddress(segment, 'v', column),
    ];
    const { sparse } = bank.loops(memory.dtype);
    const [rows, sums, n, stride] = [bank.rowsAt, bank.values, batch.count, segment.columns];
    const squares = sparse(w, m, v, rows, sums, n, columns, stride, alpha, beta1, omb1, beta2, eps);
    if (changes !== undefined) addTo(changes, Math.floor(batch.from / perBlock), squares);
    if (updated !== undefined) memory.storeRows('w', batch, updated);
  }
}

/** Puts the sums of a batch's slices into scratch, row by row: the first slice, and the later ones added in the order given. */
function loadSums({ memory, gradient, slices, clip }: SparseStep, batch: RowBatch): void {
  const { order, starts } = slices;
  const { dtype, width } = memory;
  const { from, count, column, columns } = batch;
  const { bank } = batch.segment;
  for (let k = 0; k < count; k++) bank.slots[k] = order[starts[from + k] as number] as number;
  loadRows(bank, gradient, width, column, count, columns, dtype, clip);
  for (let k = 0; k < count; k++) {
    const end = starts[from + k + 1] as number;
    for (let place = (starts[from + k] as number) + 1; place < end; place++) {
      bank.slots[0] = k;
      loadBlock(bank, gradient, (order[place] as number) * width + column, columns, dtype, clip, bank.sums);
      bank.loops(dtype).addRows(bank.sums, bank.slotsAt, 1, columns, bank.values);
    }
  }
}
