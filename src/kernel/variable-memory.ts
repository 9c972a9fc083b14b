/**
 * Where the elements of one variable and of its slots live: `w`, `m` and `v` side by side in one bank or, past a bank's
 * size, in several, cut between rows (within a row only if a single row is larger than a bank). Nothing above knows of cuts.
 */
import { bytesPerElement, type VariableDtype } from '../tensor/dtype.ts';
import { allocateBank, type Bank, bankBytesMax, blockElements, dataStart, takenBytes } from './bank.ts';
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

/** A cut with the addresses of its three parts; `B` is the bank, or its number. */
export interface Segment<B = Bank> extends Omit<Cut, 'bank'> {
  bank: B;
  w: number;
  m: number;
  v: number;
}

/** A variable's memory as another thread is told of it. */
export interface MemoryLayout extends Extent {
  readonly segments: readonly Segment<number>[];
}

/** `n` elements, the first of which is number `at` of those asked for, and number `offset` of its segment. */
interface Block {
  segment: Segment;
  at: number;
  n: number;
  offset: number;
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

  get layout(): MemoryLayout {
    const { dtype, rows, width, segments } = this;
    return { dtype, rows, width, segments: segments.map((segment) => ({ ...segment, bank: segment.bank.id })) };
  }

  /** From now on every change is preceded by a look at the snapshot, until `endSnapshot`. One at a time. */
  beginSnapshot(): VariableSnapshot {
    if (this.#snapshot !== undefined) throw new Error('a snapshot is under way');
    this.#snapshot = new VariableSnapshot(this);
    return this.#snapshot;
  }

  endSnapshot(): void {
    this.#snapshot?.end();
    this.#snapshot = undefined;
  }

  /** Whoever writes to a segment's memory calls this first, with the elements that will change. */
  willChange(first: number, count: number): void {
    this.#snapshot?.preserve(first, count);
  }

  /** As `willChange`, for rows `from` to `from + count` of a list. */
  willChangeRows(rows: ArrayLike<number>, from: number, count: number): void {
    if (this.#snapshot === undefined || this.width === 0) return;
    for (let k = from; k < from + count; k++) this.#snapshot.preserve((rows[k] as number) * this.width, this.width);
  }

  /** Copies elements `first` to `first + count` of a part to element `start` of `to` and on, converted to its dtype. */
  read(part: Part, first: number, count: number, to: Values, start = 0): void {
    for (const { segment, at, n, offset } of this.blocks(first, count)) {
      storeBlock(segment.bank, address(segment, part, this.dtype, offset), this.dtype, n, to, start + at);
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

  /** The bytes of a part themselves, in order, for a reader that fills fresh memory from a file. */
  bytesOf(part: Part): Buffer[] {
    const size = bytesPerElement[this.dtype];
    return this.segments.map((segment) =>
      segment.bank.bytes.subarray(segment[part], segment[part] + segment.rows * segment.columns * size),
    );
  }

  /**
   * Copies rows `first` to `first + count` of those asked for to `to`, which has room for all of them, in the order asked
   * for. Row numbers are in range.
   */
  readRows(part: Part, rows: ArrayLike<number>, to: Values, first = 0, count: number = rows.length): void {
    for (const batch of this.rowBatches(rows, first, first + count)) {
      this.selectRows(batch, rows);
      this.storeRows(part, batch, to);
    }
  }

  /** Overwrites the rows named with the rows of `from`. Row numbers are in range. */
  writeRows(part: Part, rows: ArrayLike<number>, from: Values): void {
    const size = bytesPerElement[this.dtype];
    this.willChangeRows(rows, 0, rows.length);
    for (const batch of this.rowBatches(rows)) {
      const { segment, count, columns } = batch;
      const { bank } = segment;
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

  /** The blocks of a range of elements, in order, counted from its first; one that lies in several segments is in pieces. */
  blocks(first: number, count: number): Block[] {
    const blocks: Block[] = [];
    for (let at = 0; at < count; ) {
      const segment = this.#segmentOf(first + at);
      const offset = first + at - this.#firstElement(segment);
      const n = Math.min(blockElements - (at % blockElements), count - at, segment.rows * segment.columns - offset);
      blocks.push({ segment, at, n, offset });
      at += n;
    }
    return blocks;
  }

  /** Cuts rows `first` to `last` (exclusive) of a list into blocks, counted from the first row, and these where segments end. */
  *rowBatches(rows: ArrayLike<number>, first = 0, last: number = rows.length): Generator<RowBatch> {
    if (this.width === 0) return;
    for (let from = first; from < last; ) {
      const row = rows[from] as number;
      const segment = this.#segmentOf(row * this.width);
      if (this.width > blockElements || segment.columns < this.width) {
        for (const { segment, at, n } of this.blocks(row * this.width, this.width)) {
          yield { segment, from, count: 1, column: at, columns: n };
        }
        from++;
        continue;
      }
      const perBlock = Math.floor(blockElements / this.width);
      const end = Math.min(last, from + perBlock - ((from - first) % perBlock));
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
  const banks = plan.used.map(allocateBank);
  const next = banks.map(() => dataStart);
  return extents.map((extent, index) => {
    const segments = (plan.cuts[index] as Cut[]).map((piece) => {
      const bytes = takenBytes(piece.rows * piece.columns * bytesPerElement[extent.dtype]);
      const w = next[piece.bank] as number;
      next[piece.bank] = w + 3 * bytes;
      return { ...piece, bank: banks[piece.bank] as Bank, w, m: w + bytes, v: w + 2 * bytes };
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
