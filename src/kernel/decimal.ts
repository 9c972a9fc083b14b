/**
 * F32 values as JSON text, each with the fewest digits that are read as the same F32 (assembly/decimal.ts). Whoever reads
 * them as float64 first, as JSON.parse does, and then rounds to F32 gets the same bits too.
 */
import { copyBytes } from '../tensor/buffer-pool.ts';
import { allocateBank, type Bank, blockElements, dataStart } from './bank.ts';
import { loadBlock, noClip, type Values } from './blocks.ts';

/** "-100000000000000000000" and a comma. */
export const decimalBytesMax = 23;

/** Values at a time. Their text, and 32 bytes to spare, fits into scratch for one block of F64. */
const valuesAtATime = blockElements / 4;

/** What assembly/decimal.ts wants to know: 10^-k for these k. */
const [kMin, kMax] = [-45, 31];

let writer: Bank | undefined;

/** A bank with the table of powers as its data. */
function newWriter(): Bank {
  const table = BigUint64Array.from({ length: kMax - kMin + 1 }, (_, index) => powerOfTen(-(kMin + index)));
  const bank = allocateBank(table.byteLength);
  copyBytes(new Uint8Array(table.buffer), bank.bytes, dataStart);
  return bank;
}

/** 10^exponent times a power of two that brings it to 2^63 to 2^64, rounded up to an integer. */
function powerOfTen(exponent: number): bigint {
  let [above, below] = exponent < 0 ? [1n, 10n ** BigInt(-exponent)] : [10n ** BigInt(exponent), 1n];
  while (above < below << 63n) above <<= 1n;
  while (above >= below << 64n) below <<= 1n;
  return (above + below - 1n) / below;
}

/**
 * Writes `count` values, rounded to F32, with commas between them to `to` from `at` on, and returns where it has come to.
 * There must be room for `decimalBytesMax` each. Throws what `refuse` makes of the first one that is not finite.
 */
export function writeDecimals(
  values: Values,
  count: number,
  to: Uint8Array,
  at: number,
  refuse: (value: number, element: number) => Error,
): number {
  writer ??= newWriter();
  const bank = writer;
  let next = at;
  for (let first = 0; first < count; first += valuesAtATime) {
    const n = Math.min(valuesAtATime, count - first);
    loadBlock(bank, values, first, n, 'F32', noClip);
    if (!bank.f32.allFinite(bank.values, n)) {
      const numbers = new Float32Array(bank.memory.buffer, bank.values, n);
      const element = numbers.findIndex((value) => !Number.isFinite(value));
      throw refuse(numbers[element] as number, first + element);
    }
    const end = bank.kernel.decimalsF32(bank.values, n, dataStart, bank.sums);
    copyBytes(bank.bytes.subarray(bank.sums, end), to, next);
    next += end - bank.sums;
  }
  return count > 0 ? next - 1 : next;
}
