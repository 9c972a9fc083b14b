/**
 * Conversions between the dtypes that travel: widening is exact, narrowing rounds once, to nearest even. Held against
 * @petamoriken/float16 and against plain arithmetic (support/floats.ts), at every boundary between two neighbours.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { getFloat16, setFloat16 } from '@petamoriken/float16';
import fc from 'fast-check';
import { convertValues, type Values } from '../../src/kernel/blocks.ts';
import { bytesPerElement, type FloatDtype, type VariableDtype } from '../../src/tensor/dtype.ts';
import { assertSameBits, decode, encode, floatDtypes, maxOf, minOf, randomFloats, roundTo } from '../support/floats.ts';

const shortDtypes = ['F16', 'BF16'] as const;
const variableDtypes = ['F32', 'F64'] as const;
const allBits = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
const view = new DataView(new ArrayBuffer(8));

function convert(values: ArrayLike<number>, from: FloatDtype, to: FloatDtype): Uint8Array {
  return convertValues(encode(values, from), values.length, to).bytes;
}

function narrow(values: ArrayLike<number>, from: VariableDtype, to: 'F16' | 'BF16'): Uint16Array {
  return new Uint16Array(convert(values, from, to).buffer);
}

function widen(bits: Uint16Array, from: 'F16' | 'BF16', to: VariableDtype): Float32Array | Float64Array {
  const { bytes } = convertValues({ dtype: from, bytes: new Uint8Array(bits.buffer) }, bits.length, to);
  return to === 'F32' ? new Float32Array(bytes.buffer) : new Float64Array(bytes.buffer);
}

/** sign, exponent and fraction read off the bits, as IEEE 754 puts them together. */
function meaning(bits: number, dtype: 'F16' | 'BF16'): number {
  const [fractionBits, bias] = dtype === 'F16' ? [10, 15] : [7, 127];
  const fraction = bits & (2 ** fractionBits - 1);
  const exponent = (bits & 0x7fff) >> fractionBits;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 2 * bias + 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  return sign * (2 ** fractionBits + fraction) * 2 ** (exponent - bias - fractionBits);
}

function float16Bits(value: number): number {
  setFloat16(view, 0, value);
  return view.getUint16(0);
}

describe('widening', () => {
  for (const dtype of shortDtypes) {
    for (const to of variableDtypes) {
      test(`gives what each of the 65,536 ${dtype} bit patterns means, in ${to}`, () => {
        const widened = widen(allBits, dtype, to);
        for (const bits of allBits) assert.ok(Object.is(widened[bits], meaning(bits, dtype)), `bits ${bits}`);
      });

      test(`from ${dtype} to ${to} and back gives every number’s bits again, and a NaN for a NaN`, () => {
        const back = narrow(widen(allBits, dtype, to), to, dtype);
        for (const bits of allBits) {
          if (Number.isNaN(meaning(bits, dtype))) assert.ok(Number.isNaN(meaning(back[bits] as number, dtype)));
          else assert.equal(back[bits], bits);
        }
      });
    }
  }

  test('gives the same for every bit pattern in a vector and among what is left behind the last one', () => {
    for (const dtype of shortDtypes) {
      for (const to of variableDtypes) {
        const widened = widen(allBits, dtype, to);
        for (let first = 0; first < allBits.length; first += 7) {
          const few = widen(allBits.slice(first, first + 7), dtype, to);
          assert.ok(
            few.every((value, k) => Object.is(value, widened[first + k])),
            `bits ${first} to ${first + 6}`,
          );
        }
      }
    }
  });

  test('gives the numbers that @petamoriken/float16 reads', () => {
    const widened = widen(allBits, 'F16', 'F32');
    for (const bits of allBits) {
      view.setUint16(0, bits);
      assert.ok(Object.is(widened[bits], getFloat16(view, 0)));
    }
  });

  test('from F32 to F64 is exact, and from F64 to F32 rounds as Math.fround does', () => {
    const values = randomFloats(1, 50_000, 'F32');
    assertSameBits({ dtype: 'F64', bytes: convert(values, 'F32', 'F64') }, encode(values, 'F64'));
    const wide = [
      ...randomFloats(2, 50_000, 'F64'),
      Number.NaN,
      Number.POSITIVE_INFINITY,
      1 + 2 ** -24,
      1 + 3 * 2 ** -24,
    ];
    const bytes = convert(wide, 'F64', 'F32');
    assertSameBits({ dtype: 'F32', bytes }, encode(wide.map(Math.fround), 'F32'));
  });
});

/**
 * For each finite magnitude of a dtype: the number itself, the midpoint to its upper neighbour (above the last one lies
 * infinity, one step further), and what lies just beside that midpoint in the wider dtype, or far less beside it.
 */
function boundaries(dtype: 'F16' | 'BF16', wide: VariableDtype): number[] {
  const values: number[] = [];
  for (let bits = 0; meaning(bits, dtype) <= maxOf(dtype); bits++) {
    const low = meaning(bits, dtype);
    const step = bits === 0 ? meaning(1, dtype) : low - meaning(bits - 1, dtype);
    const high = low === maxOf(dtype) ? low + step : meaning(bits + 1, dtype);
    const middle = low + (high - low) / 2;
    values.push(low, middle);
    // The float32 neighbours of a midpoint; in F64 such as float32 would round onto the midpoint, and float64's own.
    const nudges = wide === 'F32' ? [2 ** -23] : [2 ** -23, 2 ** -30, 2 ** -52];
    for (const nudge of nudges) values.push(middle * (1 + nudge), middle * (1 - nudge));
  }
  return values.flatMap((value) => [value, -value]);
}

describe('narrowing', () => {
  for (const from of variableDtypes) {
    for (const dtype of shortDtypes) {
      test(`${from} to ${dtype} rounds to nearest even on both sides of every midpoint`, () => {
        const values = boundaries(dtype, from).map((value) => roundTo(value, from));
        const bytes = convert(values, from, dtype);
        assertSameBits({ dtype, bytes }, encode(values, dtype));
      });

      test(`${from} to ${dtype} rounds random numbers of every size to the nearest`, () => {
        const values = [...randomFloats(3, 50_000, from), ...randomFloats(4, 50_000, dtype).map((x) => x * 1.0001)];
        const seen = values.map((value) => roundTo(value, from));
        assertSameBits({ dtype, bytes: convert(seen, from, dtype) }, encode(seen, dtype));
      });

      test(`${from} to ${dtype} overflows to infinity from halfway beyond the largest number on`, () => {
        // Half of the largest number's last place: 2^4 for F16 (65504 = 2047 * 2^5), 2^119 for BF16 (255 * 2^120).
        const half = dtype === 'F16' ? 2 ** 4 : 2 ** 119;
        const max = maxOf(dtype);
        const [below, at, least] = widen(
          narrow([max + half * (1 - 2 ** -10), max + half, -maxOf('F32')], from, dtype),
          dtype,
          from,
        );
        assert.equal(below, max);
        assert.equal(at, Number.POSITIVE_INFINITY);
        assert.equal(least, Number.NEGATIVE_INFINITY);
      });

      test(`${from} to ${dtype} underflows to a zero of the same sign up to half of the smallest number`, () => {
        const min = minOf(dtype);
        const given = [min * 0.5, min * -0.5, min * 0.501, min * -1.5, min * 2.5, minOf(from), -minOf(from), 0, -0];
        const expected = [0, -0, min, -2 * min, 2 * min, 0, -0, 0, -0];
        const got = [...widen(narrow(given, from, dtype), dtype, from)];
        assert.ok(
          got.every((value, k) => Object.is(value, expected[k])),
          String(got),
        );
      });
    }
  }

  test('of infinities gives infinities', () => {
    for (const from of variableDtypes) {
      for (const dtype of shortDtypes) {
        const infinities = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
        assert.deepEqual([...widen(narrow(infinities, from, dtype), dtype, from)], infinities);
      }
    }
    assert.ok(Object.is(new Float32Array(convert([1e39], 'F64', 'F32').buffer)[0], Number.POSITIVE_INFINITY));
  });

  test('of a NaN gives a NaN, wherever in its fraction the bits stand', () => {
    // Nine: eight as vectors and one left behind them.
    const assertNaN = (given: Values, to: FloatDtype, what: string): void => {
      const back = convertValues(convertValues(given, 9, to), 9, given.dtype);
      assert.ok(decode(back).every(Number.isNaN), `${what} as ${to}`);
    };
    for (const sign of [0, 0x8000_0000]) {
      for (let bit = 0; bit < 23; bit++) {
        const bits = new Uint32Array(9).fill(sign + 0x7f80_0000 + 2 ** bit);
        const given = { dtype: 'F32', bytes: new Uint8Array(bits.buffer) } as const;
        for (const dtype of [...shortDtypes, 'F64'] as const) assertNaN(given, dtype, `fraction bit ${bit} of F32`);
      }
      for (let bit = 0; bit < 52; bit++) {
        const bits = new BigUint64Array(9).fill((BigInt(sign) << 32n) + (0x7ff0n << 48n) + (1n << BigInt(bit)));
        const given = { dtype: 'F64', bytes: new Uint8Array(bits.buffer) } as const;
        for (const dtype of [...shortDtypes, 'F32'] as const) assertNaN(given, dtype, `fraction bit ${bit} of F64`);
      }
      // All ones: rounding such a fraction up would carry into the sign.
      const bits = new Uint32Array(9).fill(sign + 0x7fff_ffff);
      assertNaN({ dtype: 'F32', bytes: new Uint8Array(bits.buffer) }, 'BF16', 'all bits of F32');
    }
  });

  test('to F16 gives the bits that @petamoriken/float16 writes', () => {
    for (const from of variableDtypes) {
      const values = boundaries('F16', from).map((value) => roundTo(value, from));
      const bits = narrow(values, from, 'F16');
      const at = values.findIndex((value, k) => bits[k] !== float16Bits(value));
      assert.equal(at, -1, `${values[at]} must not become the bits ${bits[at]}`);
    }
  });

  test('F64 rounds once: a number just past a tie does not fall back on it by way of F32', () => {
    // 1 + 2^-11 lies midway between 1 and 1 + 2^-10 in F16; 1 + 2^-8 between 1 and 1 + 2^-7 in BF16. Ties go to 1, the even
    // one. A rest of 2^-40 is lost in F32, whose last place at 1 is 2^-23.
    assert.deepEqual(
      [...widen(narrow([1 + 2 ** -11, 1 + 2 ** -11 + 2 ** -40], 'F64', 'F16'), 'F16', 'F64')],
      [1, 1 + 2 ** -10],
    );
    assert.deepEqual(
      [...widen(narrow([1 + 2 ** -8, 1 + 2 ** -8 + 2 ** -40], 'F64', 'BF16'), 'BF16', 'F64')],
      [1, 1 + 2 ** -7],
    );
    // And 1 + 3 * 2^-11, between an odd and an even one, falls below the tie by as little.
    assert.deepEqual(
      [...widen(narrow([1 + 3 * 2 ** -11, 1 + 3 * 2 ** -11 - 2 ** -40], 'F64', 'F16'), 'F16', 'F64')],
      [1 + 2 ** -9, 1 + 2 ** -10],
    );
  });
});

test('any dtype converts to any other, at any alignment and beyond a block, by rounding each value once', () => {
  const dtypes = fc.constantFrom(...floatDtypes);
  fc.assert(
    fc.property(
      dtypes,
      dtypes,
      fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(16_383, 16_385)),
      fc.nat(7),
      fc.nat(),
      (from, to, count, misalignment, seed) => {
        const values = randomFloats(seed, count, from);
        const converted = convertValues(encode(values, from, misalignment), count, to);
        assert.equal(converted.bytes.length, count * bytesPerElement[to]);
        assertSameBits(converted, encode(values, to));
      },
    ),
    { numRuns: 60 },
  );
});
