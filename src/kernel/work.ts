/**
 * Work on tensors as plain data: what is to be done, cut into blocks that any thread may do in any order. `M` is the
 * variable's memory, or what another thread is told of it. Who does which block is left to threads.ts.
 */

import type { VariableDtype } from '../tensor/dtype.ts';
import { blockElements } from './bank.ts';
import { scanBlocks, type Values } from './blocks.ts';
import type { Part } from './extent.ts';
import { isAllDense, type Reduction, reduceDense, reduceRows, slicesIn } from './reduce.ts';
import { type DenseStep, rowsPerBlock, type SparseStep, stepDense, stepSparse } from './step.ts';
import type { VariableMemory } from './variable-memory.ts';

/** Reads a part of a variable, whole. */
export interface Read<M = VariableMemory> {
  readonly memory: M;
  readonly part: Part;
  readonly to: Values;
}

/** Reads rows of a part, in the order given. Row numbers are in range. */
export interface ReadRows<M = VariableMemory> extends Read<M> {
  readonly rows: Float64Array;
}

/** Looks over `count` values; see `scanBlocks`. */
export interface Scanning {
  readonly values: Values;
  readonly count: number;
  readonly dtype: VariableDtype;
  readonly limit: number | null;
  /** One for each block. */
  readonly sums: Float64Array;
}

/** A step of one variable. */
export type Step<M = VariableMemory> =
  | ({ readonly kind: 'dense' } & DenseStep<M>)
  | ({ readonly kind: 'sparse' } & SparseStep<M>);

export type Work<M = VariableMemory> =
  | ({ readonly kind: 'scan' } & Scanning)
  | ({ readonly kind: 'reduce' } & Reduction)
  | Step<M>
  | ({ readonly kind: 'read' } & Read<M>)
  | ({ readonly kind: 'readRows' } & ReadRows<M>);

/** The elements or rows of the work, and how many of them make a block. */
function units(work: Work): { count: number; perBlock: number } {
  switch (work.kind) {
    case 'scan':
      return { count: work.count, perBlock: blockElements };
    case 'reduce':
      return isAllDense(work)
        ? { count: work.count * work.width, perBlock: blockElements }
        : { count: work.width === 0 ? 0 : work.count, perBlock: rowsPerBlock(work.width) };
    case 'sparse':
      return { count: work.slices.rows.length, perBlock: rowsPerBlock(work.memory.width) };
    case 'readRows':
      return { count: work.rows.length, perBlock: rowsPerBlock(work.memory.width) };
    default:
      return { count: work.memory.rows * work.memory.width, perBlock: blockElements };
  }
}

export function blocksOf(work: Work): number {
  const { count, perBlock } = units(work);
  return Math.ceil(count / perBlock);
}

/** What works cost together, in blocks' time. */
export function costOf(works: readonly Work[]): number {
  let cost = 0;
  for (const work of works) cost += blocksOf(work) * costPerBlock(work);
  return cost;
}

/** How many blocks' time one of its blocks takes: every further slice of a row is work as well, and every further input. */
export function costPerBlock(work: Work): number {
  if (work.kind === 'sparse') return work.slices.order.length / Math.max(1, work.slices.rows.length);
  return work.kind === 'reduce' ? Math.max(1, slicesIn(work) / Math.max(1, work.count)) : 1;
}

/** Whether other threads can write its results where they are to go; what they only read may be copied to them. */
export function canBeShared(work: Work): boolean {
  if (work.kind === 'scan') return isShared(work.sums);
  if (work.kind === 'dense' || work.kind === 'sparse') return isShared(work.updated?.bytes) && isShared(work.changes);
  return isShared(work.to.bytes);
}

function isShared(results: ArrayBufferView | undefined): boolean {
  return results === undefined || results.buffer instanceof SharedArrayBuffer;
}

/** Does blocks `first` to `last` (exclusive). */
export function perform(work: Work, first: number, last: number): void {
  if (work.kind === 'scan') {
    scanBlocks(work.values, work.count, work.dtype, work.limit, work.sums, first, last);
    return;
  }
  const { count, perBlock } = units(work);
  const from = first * perBlock;
  const n = Math.min(count, last * perBlock) - from;
  if (work.kind === 'dense') stepDense(work, from, n);
  else if (work.kind === 'reduce') (isAllDense(work) ? reduceDense : reduceRows)(work, from, n);
  else if (work.kind === 'read') work.memory.read(work.part, from, n, work.to, from);
  else if (work.kind === 'readRows') work.memory.readRows(work.part, work.rows, work.to, from, n);
  else stepSparse(work, from, n);
}

/** To be called in the main thread before blocks `first` to `last` are done: a snapshot keeps what they will change. */
export function announce(work: Work, first: number, last: number): void {
  const { count, perBlock } = units(work);
  const from = first * perBlock;
  const n = Math.min(count, last * perBlock) - from;
  if (work.kind === 'dense') work.memory.willChange(from, n);
  else if (work.kind === 'sparse') work.memory.willChangeRows(work.slices.rows, from, n);
}
