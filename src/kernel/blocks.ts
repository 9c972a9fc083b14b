/**
 * Bytes from outside into a bank's scratch and back, a block at a time: the one place where values are converted between
 * the dtype that they travel as and the variable's, and where a gradient is clipped.
 */
import { bytesPerElement, type FloatDtype, isVariableDtype, type VariableDtype } from '../tensor/dtype.ts';
import { Bank, blockElements } from './bank.ts';

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

/** Loads elements `first` to `first + n` into `bank.values` as `dtype`, clipped. At most one block. */
export function loadBlock(bank: Bank, from: Values, first: number, n: number, dtype: VariableDtype, clip: Clip): void {
  const size = bytesPerElement[from.dtype];
  const target = from.dtype === dtype ? bank.values : bank.wire;
  bank.bytes.set(from.bytes.subarray(first * size, (first + n) * size), target);
  finishBlock(bank, from.dtype, n, dtype, clip);
}

/** Converts (unless it is in place already) and clips what stands in scratch. */
export function finishBlock(bank: Bank, from: FloatDtype, n: number, dtype: VariableDtype, clip: Clip): void {
  if (from !== dtype) bank.convert(bank.wire, from, bank.values, dtype, n);
  const loops = bank.loops(dtype);
  if (clip.limit !== null) loops.clipValue(bank.values, n, clip.limit);
  if (clip.factor !== 1) loops.scale(bank.values, n, clip.factor);
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
  to.bytes.set(bank.bytes.subarray(source, source + n * size), first * size);
}

let scratch: Bank | undefined;

/** A bank with nothing but scratch, for work that concerns no session. */
export function scratchBank(): Bank {
  scratch ??= new Bank(0);
  return scratch;
}

/**
 * Looks over `count` values once. The sum of squares is taken block by block from the tensor's start and the blocks are
 * added in order, so it depends on nothing but the values.
 */
export function scanValues(values: Values, count: number, dtype: VariableDtype, limit: number | null): Scan {
  const bank = scratchBank();
  const loops = bank.loops(dtype);
  let sumSquares = 0;
  for (let first = 0; first < count; first += blockElements) {
    const n = Math.min(blockElements, count - first);
    loadBlock(bank, values, first, n, dtype, noClip);
    if (!loops.allFinite(bank.values, n)) return { dtype, finite: false, sumSquares: Number.NaN };
    if (limit !== null) loops.clipValue(bank.values, n, limit);
    sumSquares += loops.sumSquares(bank.values, n);
  }
  return { dtype, finite: true, sumSquares };
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
