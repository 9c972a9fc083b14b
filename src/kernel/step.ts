/**
 * One Adamax step over a variable's memory, a block at a time: gradient in, m, v and w, updated values out while they are
 * in the cache. A step can be taken block by block, in any order and by several threads: the bits are the same, since
 * every element (or row) is worked out on its own.
 */
import { bytesPerElement } from '../tensor/dtype.ts';
import { type Bank, blockElements } from './bank.ts';
import { type Clip, loadBlock, storeBlock, type Values } from './blocks.ts';
import type { Segment, VariableMemory } from './variable-memory.ts';

/** The step's scalars, rounded to the variable's dtype. */
export interface StepScalars {
  readonly alpha: number;
  readonly beta1: number;
  readonly omb1: number;
  readonly beta2: number;
  readonly eps: number;
}

/** Which rows the slices of a sparse gradient are for, each row once. */
export interface SliceRows {
  /** Of each slice: the row that it is for, if it is the first one for that row; else -1. */
  readonly rows: Float64Array;
  /** The later ones: slice `later[k]` is for the row of slice `firsts[k]`. By `firsts`, then by `later`, both ascending. */
  readonly firsts: Uint32Array;
  readonly later: Uint32Array;
}

/** A step that a dense gradient takes; `updated`, if given, receives the new values. */
export interface DenseStep<M = VariableMemory> {
  readonly memory: M;
  readonly gradient: Values;
  readonly clip: Clip;
  readonly scalars: StepScalars;
  readonly updated: Values | undefined;
}

/** A step that a sparse gradient takes on the rows that it names. */
export interface SparseStep<M = VariableMemory> {
  readonly memory: M;
  readonly gradient: Values;
  readonly slices: SliceRows;
  readonly clip: Clip;
  readonly scalars: StepScalars;
}

/** Updates `count` elements from element `from` on. */
export function stepDense(step: DenseStep, from: number, count: number): void {
  const { memory, gradient, clip, scalars, updated } = step;
  const { alpha, omb1, beta2, eps } = scalars;
  const size = bytesPerElement[memory.dtype];
  for (const { segment, at, n, offset } of memory.blocks(from, count)) {
    const { bank, w, m, v } = segment;
    const bytes = offset * size;
    loadBlock(bank, gradient, from + at, n, memory.dtype, clip);
    bank.loops(memory.dtype).dense(w + bytes, m + bytes, v + bytes, bank.values, n, alpha, omb1, beta2, eps);
    if (updated !== undefined) storeBlock(bank, w + bytes, memory.dtype, n, updated, from + at);
  }
}

/** How many slices make a block. */
export function slicesPerBlock(width: number): number {
  return Math.max(1, Math.floor(blockElements / Math.max(1, width)));
}

/** Updates the rows whose first slices are `from` to `from + count`, at most one block. */
export function stepSparse(step: SparseStep, from: number, count: number): void {
  const { memory, slices } = step;
  if (memory.width === 0) return;
  if (memory.hasShortRows) {
    for (const segment of memory.segments) stepRows(step, segment, from, count, 0, memory.width);
    return;
  }
  for (let slice = from; slice < from + count; slice++) {
    const row = slices.rows[slice] as number;
    if (row < 0) continue;
    for (const { segment, at, n } of memory.blocks(row * memory.width, memory.width)) {
      stepRows(step, segment, slice, 1, at, n);
    }
  }
}

/** Updates `columns` elements from element `column` on of those rows of the slices' that lie in the segment. */
function stepRows(
  step: SparseStep,
  segment: Segment,
  from: number,
  count: number,
  column: number,
  columns: number,
): void {
  const { memory, gradient, slices, clip, scalars } = step;
  const { alpha, beta1, omb1, beta2, eps } = scalars;
  const { bank } = segment;
  const { dtype, width } = memory;
  if (!selectRows(bank, segment, slices.rows, from, count)) return;
  loadBlock(bank, gradient, from * width + column, count * columns, dtype, clip);
  addLaterSlices(step, bank, from, count, column, columns);
  bank
    .loops(dtype)
    .sparse(
      memory.rowAddress(segment, 'w', column),
      memory.rowAddress(segment, 'm', column),
      memory.rowAddress(segment, 'v', column),
      bank.rowsAt,
      bank.values,
      count,
      columns,
      segment.columns,
      alpha,
      beta1,
      omb1,
      beta2,
      eps,
    );
}

/** Puts the slices' rows into scratch, counted from the segment's first, and -1 for those elsewhere. Whether any is here. */
function selectRows(bank: Bank, segment: Segment, rows: Float64Array, from: number, count: number): boolean {
  const { firstRow } = segment;
  let any = false;
  for (let k = 0; k < count; k++) {
    const row = (rows[from + k] as number) - firstRow;
    const here = row >= 0 && row < segment.rows;
    bank.rows[k] = here ? row : -1;
    any ||= here;
  }
  return any;
}

/** Adds to the slices in scratch, from `from` on, the later ones of the same rows, one by one in the order given. */
function addLaterSlices(
  step: SparseStep,
  bank: Bank,
  from: number,
  count: number,
  column: number,
  columns: number,
): void {
  const { memory, gradient, slices, clip } = step;
  const { firsts, later } = slices;
  const end = lowerBound(firsts, from + count);
  for (let k = lowerBound(firsts, from); k < end; k++) {
    bank.slots[0] = (firsts[k] as number) - from;
    const element = (later[k] as number) * memory.width + column;
    loadBlock(bank, gradient, element, columns, memory.dtype, clip, bank.sums);
    bank.loops(memory.dtype).addRows(bank.sums, bank.slotsAt, 1, columns, bank.values);
  }
}

/** The first place of a sorted list whose value is not below `value`. */
function lowerBound(sorted: Uint32Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
