/**
 * Numbers as bytes, and bytes as numbers, in the dtypes that values travel as: plain arithmetic and DataView, nothing of the
 * kernel's, so that the kernel can be held against it. Also random numbers that lean towards the edges of a dtype.
 */
import assert from 'node:assert/strict';
import { getFloat16, setFloat16 } from '@petamoriken/float16';
import type { Values } from '../../src/kernel/blocks.ts';
import { bytesPerElement, type FloatDtype } from '../../src/tensor/dtype.ts';

export const floatDtypes: readonly FloatDtype[] = ['F16', 'BF16', 'F32', 'F64'];

/** IEEE 754's parameters: bits of the fraction, the smallest normal exponent, the largest finite value. */
const formats = {
  F16: { fraction: 10, exponentMin: -14, max: 65_504 },
  BF16: { fraction: 7, exponentMin: -126, max: (2 - 2 ** -7) * 2 ** 127 },
  F32: { fraction: 23, exponentMin: -126, max: (2 - 2 ** -23) * 2 ** 127 },
  F64: { fraction: 52, exponentMin: -1022, max: Number.MAX_VALUE },
} as const;

export const maxOf = (dtype: FloatDtype): number => formats[dtype].max;
/** The smallest number above 0. */
export const minOf = (dtype: FloatDtype): number => 2 ** (formats[dtype].exponentMin - formats[dtype].fraction);

/**
 * `x` to the nearest number of `dtype`, ties to even. For the short dtypes |x| is taken as a multiple of its last place there,
 * which is exact, as its rest is.
 */
export function roundTo(x: number, dtype: FloatDtype): number {
  if (dtype === 'F64' || !Number.isFinite(x) || x === 0) return x;
  if (dtype === 'F32') return Math.fround(x);
  const { fraction, exponentMin, max } = formats[dtype];
  const lastPlace = 2 ** (Math.max(exponentOf(x), exponentMin) - fraction);
  const multiple = Math.abs(x) / lastPlace;
  let whole = Math.floor(multiple);
  const rest = multiple - whole;
  if (rest > 0.5 || (rest === 0.5 && whole % 2 === 1)) whole++;
  const rounded = whole * lastPlace;
  return (x < 0 ? -1 : 1) * (rounded > max ? Number.POSITIVE_INFINITY : rounded);
}

const eightBytes = new DataView(new ArrayBuffer(8));

/** floor(log2 |x|), or less than any exponent but F64's where |x| is below its normal numbers. */
function exponentOf(x: number): number {
  eightBytes.setFloat64(0, x);
  return ((eightBytes.getUint16(0) >> 4) & 0x7ff) - 1023;
}

/** The values rounded to `dtype`, their first byte `misalignment` bytes into its buffer. */
export function encode<D extends FloatDtype>(
  values: ArrayLike<number>,
  dtype: D,
  misalignment = 0,
): Values & { dtype: D } {
  const length = values.length * bytesPerElement[dtype];
  const bytes = new Uint8Array(misalignment + length).subarray(misalignment);
  bytes.set(new Uint8Array(rounded(values, dtype).buffer));
  return { dtype, bytes };
}

function rounded(values: ArrayLike<number>, dtype: FloatDtype): Float64Array | Float32Array | Uint16Array {
  if (dtype === 'F64') return new Float64Array(values);
  if (dtype === 'F32') return new Float32Array(values);
  const bits = new Uint16Array(values.length);
  for (let k = 0; k < bits.length; k++) {
    const value = roundTo(values[k] as number, dtype);
    if (dtype === 'F16') setFloat16(eightBytes, 0, value);
    else eightBytes.setFloat32(0, value);
    bits[k] = eightBytes.getUint16(0);
  }
  return bits;
}

export function decode({ dtype, bytes }: Values): Float64Array {
  const { buffer } = new Uint8Array(bytes);
  if (dtype === 'F64') return new Float64Array(buffer);
  if (dtype === 'F32') return new Float64Array(new Float32Array(buffer));
  const bits = new Uint16Array(buffer);
  const values = new Float64Array(bits.length);
  for (let k = 0; k < bits.length; k++) {
    eightBytes.setUint32(0, (bits[k] as number) << 16);
    values[k] = dtype === 'F16' ? getFloat16(eightBytes, 0) : eightBytes.getFloat32(0);
  }
  return values;
}

/** The same bits, -0 and 0 told apart; only which NaN a NaN is, IEEE 754 leaves open. */
export function assertSameBits(actual: Values, expected: Values, what = 'element'): void {
  assert.equal(actual.dtype, expected.dtype);
  assert.equal(actual.bytes.length, expected.bytes.length);
  if (Buffer.compare(actual.bytes, expected.bytes) === 0) return;
  const [a, b] = [decode(actual), decode(expected)];
  const at = a.findIndex((value, k) => !Object.is(value, b[k]));
  assert.equal(at, -1, `${what} ${at} of ${a.length} must be ${b[at]}. Received: ${a[at]}`);
}

/** Numbers in [0, 1), the same for the same seed (an xorshift32 generator). */
export function randomUnits(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  return () => {
    state = (state ^ (state << 13)) >>> 0;
    state = (state ^ (state >>> 17)) >>> 0;
    state = (state ^ (state << 5)) >>> 0;
    return state / 2 ** 32;
  };
}

/** `count` finite numbers of `dtype`: half of them about 1, the others ±0, denormals, any exponent, or next to overflow. */
export function randomFloats(seed: number, count: number, dtype: FloatDtype): Float64Array {
  const next = randomUnits(seed);
  const { exponentMin, max } = formats[dtype];
  const values = new Float64Array(count);
  for (let k = 0; k < count; k++) {
    const sign = next() < 0.5 ? -1 : 1;
    const kind = next() * 8;
    const unit = next();
    let size = unit * 4;
    if (kind >= 7) size = max * (0.25 + unit * 0.75);
    else if (kind >= 6) size = Math.min(max, (1 + unit) * 2 ** (exponentMin * (2 * next() - 1)));
    else if (kind >= 5) size = unit * 2 ** exponentMin;
    else if (kind >= 4) size = 0;
    values[k] = sign * roundTo(size, dtype);
  }
  return values;
}
