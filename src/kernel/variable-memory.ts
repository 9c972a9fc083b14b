/**
 * Where the elements of one variable and of its slots live: `w`, `m` and `v` side by side in one bank or, past a bank's
 * size, in several, cut between rows (within a row only if a single row is larger than a bank). Nothing above knows of cuts.
 */
import { bytesPerElement, type VariableDtype } from '../tensor/dtype.ts';
import { Bank, bankBytesMax, blockElements, takenBytes } from './bank.ts';
import { loadBlock, noClip, storeBlock, type Values } from './blocks.ts';
import type { Extent, Part } from './extent.ts';
import { type BlockReader, VariableSnapshot } from './snapshot.ts';

/** `rows` whole rows from `firstRow` on; or, `rows` being 1, the `columns` elements of a row from `firstColumn` on. */
interface Cut {
  bank: number;
  firstRow: number;
  rows: number;
  firstColumn: number;
  columns: number;
}

export interface Segment extends Omit<Cut, 'bank'> {
  bank: Bank;
  w: number;
  m: number;
  v: number;
}

/** Rows `from` to `from + count` of a list of rows, of which `columns` elements from `column` on lie in one segment. */
export interface RowBatch {
  segment: Segment;
  from: number;
  count: number;
  column: number;
  columns: number;
}

export class VariableMemory implements BlockReader {
  readonly dtype: VariableDtype;
  readonly rows: number;
  readonly width: number;
  readonly segments: readonly Segment[];
  #snapshot: VariableSnapshot | undefined;

  constructor(extent: Extent, segments: readonly Segment[]) {
    this.dtype = extent.dtype;
    this.rows = extent.rows;
    this.width = extent.width;
    this.segments = segments;
  }

  /** From now on every change is preceded by a look at the snapshot, until `endSnapshot`. One at a time. */
  beginSnapshot(): VariableSnapshot {
    if (this.#snapshot !== undefined) throw new Error('a snapshot is under way');
    this.#snapshot = new VariableSnapshot(this);
    return this.#snapshot;
  }

  endSnapshot(): void {
    this.#snapshot = undefined;
  }

  /** Whoever writes to a segment's memory calls this first, with the elements that will change. */
  willChange(first: number, count: number): void {
    this.#snapshot?.preserve(first, count);
  }

  /** As `willChange`, for the rows of a batch. */
  willChangeRows({ from, count, column, columns }: RowBatch, rows: ArrayLike<number>): void {
    if (this.#snapshot === undefined) return;
    for (let k = from; k < from + count; k++) {
      this.#snapshot.preserve((rows[k] as number) * this.width + column, columns);
    }
  }

  /** Copies elements `first` to `first + count` of a part to the start of `to`, converted to its dtype. */
  read(part: Part, first: number, count: number, to: Values): void {
    for (const { segment, at, n, offset } of this.blocks(first, count)) {
      storeBlock(segment.bank, address(segment, part, this.dtype, offset), this.dtype, n, to, at);
    }
  }

  /** Overwrites elements `first` to `first + count` of a part with the first values of `from`, converted. */
  write(part: Part, first: number, count: number, from: Values): void {
    for (const { segment, at, n, offset } of this.blocks(first, count)) {
      const { bank } = segment;
      this.willChange(first + at, n);
      loadBlock(bank, from, at, n, this.dtype, noClip);
      bank.convert(bank.values, this.dtype, address(segment, part, this.dtype, offset), this.dtype, n);
    }
  }

  /** Copies the rows asked for, in the order asked for, to the start of `to`. Row numbers are in range. */
  readRows(part: Part, rows: ArrayLike<number>, to: Values): void {
    for (const batch of this.rowBatches(rows)) {
      this.selectRows(batch, rows);
      this.storeRows(part, batch, to);
    }
  }

  /** Overwrites the rows named with the rows of `from`. Row numbers are in range. */
  writeRows(part: Part, rows: ArrayLike<number>, from: Values): void {
    const size = bytesPerElement[this.dtype];
    for (const batch of this.rowBatches(rows)) {
      const { segment, count, columns } = batch;
      const { bank } = segment;
      this.willChangeRows(batch, rows);
      this.selectRows(batch, rows);
      loadBlock(bank, from, batch.from * this.width + batch.column, count * columns, this.dtype, noClip);
      const to = this.rowAddress(segment, part, batch.column);
      bank.kernel.scatterRows(to, bank.rowsAt, count, columns * size, segment.columns * size, bank.values);
    }
  }

  /** Puts a batch's row numbers, counted from its segment's first row, into the bank's scratch. */
  selectRows({ segment, from, count }: RowBatch, rows: ArrayLike<number>): void {
    for (let k = 0; k < count; k++) segment.bank.rows[k] = (rows[from + k] as number) - segment.firstRow;
  }

  /** Stores the rows selected last into `to`, which holds one row for each of the whole list. */
  storeRows(part: Part, { segment, from, count, column, columns }: RowBatch, to: Values): void {
    const { bank } = segment;
    const size = bytesPerElement[this.dtype];
    const source = this.rowAddress(segment, part, column);
    bank.kernel.gatherRows(source, bank.rowsAt, count, columns * size, segment.columns * size, bank.values);
    storeBlock(bank, bank.values, this.dtype, count * columns, to, from * this.width + column);
  }

  /** The address of element `column` (of the whole row) of a segment's first row. */
  rowAddress(segment: Segment, part: Part, column: number): number {
    return address(segment, part, this.dtype, column - segment.firstColumn);
  }

  /** The blocks of a range of elements, each within one segment: element `first + at` stands `offset` into the segment. */
  *blocks(first: number, count: number): Generator<{ segment: Segment; at: number; n: number; offset: number }> {
    for (let at = 0; at < count; ) {
      const segment = this.#segmentOf(first + at);
      const offset = first + at - this.#firstElement(segment);
      const n = Math.min(blockElements, count - at, segment.rows * segment.columns - offset);
      yield { segment, at, n, offset };
      at += n;
    }
  }

  /** Cuts a list of rows into batches of at most one block, each within one segment. */
  *rowBatches(rows: ArrayLike<number>): Generator<RowBatch> {
    if (this.width === 0) return;
    for (let from = 0; from < rows.length; ) {
      const row = rows[from] as number;
      const segment = this.#segmentOf(row * this.width);
      if (this.width > blockElements || segment.columns < this.width) {
        for (const { segment, at, n } of this.blocks(row * this.width, this.width)) {
          yield { segment, from, count: 1, column: at, columns: n };
        }
        from++;
        continue;
      }
      const end = Math.min(rows.length, from + Math.floor(blockElements / this.width));
      let next = from + 1;
      while (next < end && contains(segment, rows[next] as number)) next++;
      yield { segment, from, count: next - from, column: 0, columns: this.width };
      from = next;
    }
  }

  #firstElement(segment: Segment): number {
    return segment.firstRow * this.width + segment.firstColumn;
  }

  #segmentOf(element: number): Segment {
    let low = 0;
    let high = this.segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#firstElement(this.segments[middle] as Segment) <= element) low = middle;
      else high = middle - 1;
    }
    return this.segments[low] as Segment;
  }
}

function contains(segment: Segment, row: number): boolean {
  return row >= segment.firstRow && row < segment.firstRow + segment.rows;
}

function address(segment: Segment, part: Part, dtype: VariableDtype, element: number): number {
  return segment[part] + element * bytesPerElement[dtype];
}

/** Zeroed memory for all variables of a session. `bankBytes` bounds one bank; tests make it small to see the cuts. */
export function allocate(extents: readonly Extent[], bankBytes: number = bankBytesMax): VariableMemory[] {
  const plan = cut(extents, bankBytes);
  const banks = plan.used.map((bytes) => new Bank(bytes));
  return extents.map((extent, index) => {
    const segments = (plan.cuts[index] as Cut[]).map((piece) => {
      const bank = banks[piece.bank] as Bank;
      const bytes = piece.rows * piece.columns * bytesPerElement[extent.dtype];
      return { ...piece, bank, w: bank.take(bytes), m: bank.take(bytes), v: bank.take(bytes) };
    });
    return new VariableMemory(extent, segments);
  });
}

/** Fills one bank after the other: as many whole rows as fit, and pieces of a row only where a row fits no bank. */
function cut(extents: readonly Extent[], bankBytes: number): { cuts: Cut[][]; used: number[] } {
  const used = [0];
  const cuts = extents.map(({ dtype, rows, width }) => {
    const size = bytesPerElement[dtype];
    const pieces: Cut[] = [];
    let row = 0;
    let column = 0;
    while (row < rows && width > 0) {
      const bank = used.length - 1;
      const taken = used[bank] as number;
      const capacity = Math.max(0, Math.floor((bankBytes - taken - 3 * takenBytes(1)) / (3 * size)));
      const wholeRows = column === 0 ? Math.min(rows - row, Math.floor(capacity / width)) : 0;
      if (wholeRows === 0 && taken > 0) {
        used.push(0);
        continue;
      }
      const piece =
        wholeRows > 0 ? { rows: wholeRows, columns: width } : { rows: 1, columns: Math.min(capacity, width - column) };
      if (piece.columns === 0) throw new Error('a bank must hold at least one element');
      pieces.push({ bank, firstRow: row, firstColumn: column, ...piece });
      used[bank] = taken + 3 * takenBytes(piece.rows * piece.columns * size);
      column += piece.columns;
      if (column === width) {
        row += piece.rows;
        column = 0;
      }
    }
    return pieces;
  });
  return { cuts, used };
}
