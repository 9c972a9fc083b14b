/**
 * What several workers' gradients of one variable come to: their sum, or the sum divided by a number, as TensorFlow's
 * SyncReplicasOptimizer has it. The order of additions is fixed for every element by itself, so the bits depend neither on
 * how the work is cut nor on who does it.
 *
 * Dense gradients are added as they are, beginning with the first one. Where one of them has slices, all count as one
 * sequence of slices: every row starts at +0, and what is for it is added to it in turn.
 */
import { bytesPerElement, type VariableDtype } from '../tensor/dtype.ts';
import { type Bank, blockElements } from './bank.ts';
import { loadBlock, loadRows, noClip, scratchBank, storeBlock, type Values } from './blocks.ts';
import { rowsPerBlock, type SlicesByRow } from './step.ts';

/** One worker's gradient: values of the whole variable or, with `slices`, of rows. */
export interface ReductionInput {
  readonly values: Values;
  readonly slices: SlicesByRow | undefined;
}

/** What several workers have of one variable, in the order in which it is summed. */
export interface Reduction {
  /** Of the variable. Every input is converted to it, and every addition rounded to it. */
  readonly dtype: VariableDtype;
  /** Elements of a row. */
  readonly width: number;
  /** The rows that are asked for, ascending, each once; undefined, as it must be with a dense input: all of them. */
  readonly rows: Float64Array | undefined;
  /** How many rows are asked for. */
  readonly count: number;
  readonly inputs: readonly ReductionInput[];
  /** Each sum is divided by it, both in `dtype`; 1: the sums themselves. */
  readonly divisor: number;
  /** Receives the rows in order; its dtype is `dtype`. */
  readonly to: Values;
}

/** Rows number `from` to `from + count` of those asked for and of these, `columns` elements from `column` on: at most a block. */
interface Piece {
  readonly from: number;
  readonly count: number;
  readonly column: number;
  readonly columns: number;
}

/** Whether it is taken element by element, by `reduceDense`; else it is taken by rows. */
export function isAllDense({ inputs }: Reduction): boolean {
  return inputs.length > 0 && inputs.every(({ slices }) => slices === undefined);
}

/** How many rows of values are added up in all. */
export function slicesIn({ inputs, count }: Reduction): number {
  return inputs.reduce((sum, { slices }) => sum + (slices?.order.length ?? count), 0);
}

/** Sums `count` elements from element `from` on. */
export function reduceDense(reduction: Reduction, from: number, count: number): void {
  const { dtype, inputs } = reduction;
  const bank = scratchBank();
  for (let at = from; at < from + count; at += blockElements) {
    const n = Math.min(blockElements, from + count - at);
    inputs.forEach(({ values }, index) => {
      if (index === 0) loadBlock(bank, values, at, n, dtype, noClip, bank.sums);
      else addBlock(bank, reduction, values, at, n);
    });
    finish(bank, reduction, at, n);
  }
}

/** Sums rows number `from` to `from + count` of those asked for. */
export function reduceRows(reduction: Reduction, from: number, count: number): void {
  const { dtype, width, inputs } = reduction;
  const bank = scratchBank();
  for (const piece of pieces(width, from, count)) {
    const n = piece.count * piece.columns;
    bank.bytes.fill(0, bank.sums, bank.sums + n * bytesPerElement[dtype]);
    for (const { values, slices } of inputs) {
      if (slices === undefined) addBlock(bank, reduction, values, piece.from * width + piece.column, n);
      else addSlices(bank, reduction, values, slices, piece);
    }
    finish(bank, reduction, piece.from * width + piece.column, n);
  }
}

/** As many whole rows at a time as make a block, or a row that is longer than a block piece by piece. */
function* pieces(width: number, from: number, count: number): Generator<Piece> {
  const most = rowsPerBlock(width);
  for (let row = from; row < from + count; row += most) {
    for (let column = 0; column < width; column += blockElements) {
      const columns = Math.min(blockElements, width - column);
      yield { from: row, count: Math.min(most, from + count - row), column, columns };
    }
  }
}

/** Adds elements `first` to `first + n` of a dense input to the sums, as if they were one row. */
function addBlock(bank: Bank, { dtype }: Reduction, values: Values, first: number, n: number): void {
  loadBlock(bank, values, first, n, dtype, noClip);
  bank.slots[0] = 0;
  bank.loops(dtype).addRows(bank.values, bank.slotsAt, 1, n, bank.sums);
}

/** Adds the slices for a piece's rows to their sums, in the order given, as many at a time as fit into a block. */
function addSlices(bank: Bank, reduction: Reduction, values: Values, slices: SlicesByRow, piece: Piece): void {
  const { rows: named, order, starts } = slices;
  const rowOf = (k: number): number => (reduction.rows === undefined ? k : (reduction.rows[k] as number));
  const end = piece.from + piece.count;
  const room = Math.floor(blockElements / piece.columns);
  let place = piece.from;
  let used = 0;
  const last = firstAtLeast(named, rowOf(end - 1) + 1);
  for (let k = firstAtLeast(named, rowOf(piece.from)); k < last; k++) {
    const row = named[k] as number;
    if (reduction.rows === undefined) place = row;
    else while (rowOf(place) < row) place++;
    if (rowOf(place) !== row) continue;
    for (let slice = starts[k] as number; slice < (starts[k + 1] as number); slice++) {
      bank.slots[used] = order[slice] as number;
      bank.rows[used++] = place - piece.from;
      if (used < room) continue;
      addSelected(bank, reduction, values, piece, used);
      used = 0;
    }
  }
  if (used > 0) addSelected(bank, reduction, values, piece, used);
}

/** Adds the first `count` slices that `slots` has, each to the sum whose number is at its place in the bank's `rows`. */
function addSelected(bank: Bank, { dtype, width }: Reduction, values: Values, piece: Piece, count: number): void {
  const { column, columns } = piece;
  loadRows(bank, values, width, column, count, columns, dtype, noClip);
  bank.loops(dtype).addRows(bank.values, bank.rowsAt, count, columns, bank.sums);
}

/** Divides the first `n` sums, if that is asked for, and puts them to element `first` of the result and on. */
function finish(bank: Bank, { dtype, divisor, to }: Reduction, first: number, n: number): void {
  if (divisor !== 1) bank.loops(dtype).divide(bank.sums, n, divisor);
  storeBlock(bank, bank.sums, dtype, n, to, first);
}

/** The place of the first of ascending `rows` that is not below `row`. */
function firstAtLeast(rows: Float64Array, row: number): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rows[middle] as number) < row) low = middle + 1;
    else high = middle;
  }
  return low;
}
