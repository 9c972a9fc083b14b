/**
 * Bytes from outside into a bank's scratch and back, a block at a time: the one place where values are converted between
 * the dtype that they travel as and the variable's, and where a gradient is clipped.
 */
import { copyBytes } from '../tensor/buffer-pool.ts';
import { bytesPerElement, type FloatDtype, isVariableDtype, type VariableDtype } from '../tensor/dtype.ts';
import { allocateBank, type Bank, blockElements } from './bank.ts';

/** Values as they travel: row-major elements of `dtype` at any alignment. */
export interface Values {
  readonly dtype: FloatDtype;
  readonly bytes: Uint8Array;
}

/** Clipping in force for one gradient: first to ±`limit` (null: no limit), then times `factor` (1: as it is). */
export interface Clip {
  readonly limit: number | null;
  readonly factor: number;
}

export const noClip: Clip = { limit: null, factor: 1 };

/** What a check has to know of a gradient, after conversion to `dtype` and clipping by value. */
export interface Scan {
  readonly dtype: VariableDtype;
  readonly finite: boolean;
  readonly sumSquares: number;
}

/** Loads elements `first` to `first + n` as `dtype`, clipped, to `to`: the bank's `values` or `sums`. At most one block. */
export function loadBlock(
  bank: Bank,
  from: Values,
  first: number,
  n: number,
  dtype: VariableDtype,
  clip: Clip,
  to: number = bank.values,
): void {
  const size = bytesPerElement[from.dtype];
  const target = from.dtype === dtype ? to : bank.wire;
  copyBytes(from.bytes.subarray(first * size, (first + n) * size), bank.bytes, target);
  finishLoading(bank, target, from.dtype, n, dtype, clip, to);
}

/**
 * Loads the rows of `values` that the first `count` slots name, side by side, to the bank's `values`: of each, `columns` out of
 * `width` elements from element `column` on.
 */
export function loadRows(
  bank: Bank,
  from: Values,
  width: number,
  column: number,
  count: number,
  columns: number,
  dtype: VariableDtype,
  clip: Clip,
): void {
  const size = bytesPerElement[from.dtype];
  const target = from.dtype === dtype ? bank.values : bank.wire;
  const rowBytes = columns * size;
  const { buffer, byteOffset, length } = from.bytes;
  const inWords = (byteOffset | (width * size) | (column * size) | rowBytes) % 4 === 0;
  const words =
    inWords && rowBytes <= wordwiseBytesMax ? new Int32Array(buffer, byteOffset, Math.floor(length / 4)) : undefined;
  const { slots } = bank;
  for (let k = 0; k < count; ) {
    const row = slots[k] as number;
    const first = row * width + column;
    // Whole rows that follow one another are copied at once.
    let next = k + 1;
    if (columns === width) while (next < count && slots[next] === row + next - k) next++;
    const at = target + k * rowBytes;
    if (words !== undefined && next === k + 1) copyWords(words, (first * size) / 4, rowBytes / 4, bank.words, at / 4);
    else copyBytes(from.bytes.subarray(first * size, first * size + (next - k) * rowBytes), bank.bytes, at);
    k = next;
  }
  finishLoading(bank, target, from.dtype, count * columns, dtype, clip, bank.values);
}

/** Below that, a call of memcpy takes longer than a loop over words. */
const wordwiseBytesMax = 1024;

/** Four at a time, so that the loads of the next row begin while those of this one are under way. */
function copyWords(from: Int32Array, first: number, n: number, to: Int32Array, start: number): void {
  let k = 0;
  for (; k + 3 < n; k += 4) {
    const a = from[first + k] as number;
    const b = from[first + k + 1] as number;
    const c = from[first + k + 2] as number;
    const d = from[first + k + 3] as number;
    to[start + k] = a;
    to[start + k + 1] = b;
    to[start + k + 2] = c;
    to[start + k + 3] = d;
  }
  for (; k < n; k++) to[start + k] = from[first + k] as number;
}

/** From what travelled to what the kernel works on. */
function finishLoading(
  bank: Bank,
  at: number,
  from: FloatDtype,
  n: number,
  dtype: VariableDtype,
  clip: Clip,
  to: number,
): void {
  if (at !== to) bank.convert(at, from, to, dtype, n);
  const loops = bank.loops(dtype);
  if (clip.limit !== null) loops.clipValue(to, n, clip.limit);
  if (clip.factor !== 1) loops.scale(to, n, clip.factor);
}

/** Stores `n` elements of `dtype` at `address` into `to` from its element `first` on. At most one block. */
export function storeBlock(
  bank: Bank,
  address: number,
  dtype: VariableDtype,
  n: number,
  to: Values,
  first: number,
): void {
  const size = bytesPerElement[to.dtype];
  let source = address;
  if (to.dtype !== dtype) {
    source = bank.wire;
    bank.convert(address, dtype, source, to.dtype, n);
  }
  copyBytes(bank.bytes.subarray(source, source + n * size), to.bytes, first * size);
}

let scratch: Bank | undefined;

/** This thread's bank with nothing but scratch, for work that concerns no session. */
export function scratchBank(): Bank {
  scratch ??= allocateBank(0);
  return scratch;
}

/**
 * Looks over blocks `first` to `last` (exclusive) of `count` values, counted from the tensor's start, and puts into `sums`
 * each one's sum of squares, as a float64, or NaN where a value is not finite in `dtype`.
 */
export function scanBlocks(
  values: Values,
  count: number,
  dtype: VariableDtype,
  limit: number | null,
  sums: Float64Array,
  first: number,
  last: number,
): void {
  for (let block = first; block < last; block++) sums[block] = scanBlock(values, count, dtype, limit, block);
}

/** One block's sum of squares after clipping; NaN where a value is not finite. */
function scanBlock(values: Values, count: number, dtype: VariableDtype, limit: number | null, block: number): number {
  const bank = scratchBank();
  const loops = bank.loops(dtype);
  const n = Math.min(blockElements, count - block * blockElements);
  loadBlock(bank, values, block * blockElements, n, dtype, noClip);
  if (limit !== null) {
    // Clipping would make an infinity finite.
    if (!loops.allFinite(bank.values, n)) return Number.NaN;
    loops.clipValue(bank.values, n, limit);
  }
  const sum = loops.sumSquares(bank.values, n);
  // A sum that is finite has no other values; one that is not may also be of large F64.
  return Number.isFinite(sum) || loops.allFinite(bank.values, n) ? sum : Number.NaN;
}

/** Adds up what `scanBlocks` has found, in the blocks' order, so that the sum depends on nothing but the values. */
export function scanOf(sums: Float64Array, dtype: VariableDtype): Scan {
  let sumSquares = 0;
  for (const sum of sums) sumSquares += sum;
  return { dtype, finite: !Number.isNaN(sumSquares), sumSquares };
}

/** Looks over `count` values at once. */
export function scanValues(values: Values, count: number, dtype: VariableDtype, limit: number | null): Scan {
  let sumSquares = 0;
  for (let block = 0; block * blockElements < count; block++)
    sumSquares += scanBlock(values, count, dtype, limit, block);
  return { dtype, finite: !Number.isNaN(sumSquares), sumSquares };
}

/** `count` values as another dtype, rounded once. One of the two dtypes is F32 or F64. */
export function convertValues<D extends FloatDtype>(values: Values, count: number, dtype: D): Values & { dtype: D } {
  if (values.dtype === dtype) return { dtype, bytes: values.bytes };
  const converted = { dtype, bytes: new Uint8Array(count * bytesPerElement[dtype]) };
  const held = isVariableDtype(dtype) ? dtype : values.dtype === 'F64' ? 'F64' : 'F32';
  const bank = scratchBank();
  for (let first = 0; first < count; first += blockElements) {
    const n = Math.min(blockElements, count - first);
    loadBlock(bank, values, first, n, held, noClip);
    storeBlock(bank, bank.values, held, n, converted, first);
  }
  return converted;
}
