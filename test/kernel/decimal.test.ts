/**
 * F32 as JSON text: held against an oracle that tries one precision after the other, in exact arithmetic, and against
 * JSON.parse and Math.fround, which must give the same bits again.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decimalBytesMax, writeDecimals } from '../../src/kernel/decimal.ts';
import type { FloatDtype } from '../../src/tensor/dtype.ts';
import { encode, maxOf, minOf, randomFloats, randomUnits } from '../support/floats.ts';

const unexpected = (value: number): Error => new Error(`${value} must not be refused`);

function write(
  values: ArrayLike<number>,
  dtype: FloatDtype = 'F32',
  refuse: (v: number, k: number) => Error = unexpected,
) {
  const to = Buffer.alloc(values.length * decimalBytesMax + 1, '#');
  const end = writeDecimals(encode(values, dtype, 1), values.length, to, 1, refuse);
  assert.equal(to[0], 0x23);
  return to.toString('latin1', 1, end);
}

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

function fromBits(pattern: number): number {
  bits[0] = pattern;
  return float[0] as number;
}

/** A positive F32 and its two neighbours, with their opposites. */
function around(value: number): number[] {
  float[0] = value;
  const pattern = bits[0] as number;
  const near = [pattern - 1, pattern, pattern + 1].map(fromBits).filter(Number.isFinite);
  return near.flatMap((each) => [each, -each]);
}

/** The distance of digits * 10^power from `x`, which is a multiple of 2^-149, in units of 2^-149 * 10^-60. */
function distance(digits: bigint, power: number, x: number): bigint {
  const exact = BigInt(x * 2 ** 149) * 10n ** 60n;
  const difference = digits * 10n ** BigInt(60 + power) * 2n ** 149n - exact;
  return difference < 0n ? -difference : difference;
}

/** The fewest digits that are read as `x`, a positive F32; of those the nearest to it; of two such, the even one. */
function shortest(x: number): string {
  for (let precision = 1; ; precision++) {
    const [fraction = '', exponent = ''] = x.toExponential(precision - 1).split('e');
    const power = Number(exponent) - precision + 1;
    const middle = BigInt(fraction.replace('.', ''));
    const read = [middle - 1n, middle, middle + 1n].filter((each) => Math.fround(Number(`${each}e${power}`)) === x);
    const least = read.map((each) => distance(each, power, x)).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))[0];
    const nearest = read.filter((each) => distance(each, power, x) === least);
    const chosen = nearest.length === 2 ? nearest.find((each) => each % 2n === 0n) : nearest[0];
    if (chosen !== undefined) return String(Number(`${chosen}e${power}`));
  }
}

function expected(value: number): string {
  if (value === 0) return Object.is(value, -0) ? '-0' : '0';
  return value < 0 ? `-${shortest(-value)}` : shortest(value);
}

function assertShortest(values: readonly number[]): void {
  const written = write(values).split(',');
  assert.equal(written.length, values.length);
  for (const [k, value] of values.entries()) assert.equal(written[k], expected(value), `${value}`);
}

describe('an F32 is written with the fewest digits that are read as it, the nearest of them, as JavaScript writes them', () => {
  test('whatever its bits', () => {
    const next = randomUnits(1);
    const patterns = Array.from({ length: 20_000 }, () => Math.floor(next() * 2 ** 32));
    assertShortest(patterns.map(fromBits).filter(Number.isFinite));
    assertShortest([...randomFloats(2, 10_000, 'F32')]);
  });

  test('at every power of two and beside it, where the lower neighbour is nearer', () => {
    assertShortest(Array.from({ length: 277 }, (_, k) => 2 ** (k - 149)).flatMap(around));
  });

  test('at every power of ten and beside it, and at small multiples of them', () => {
    const powers = Array.from({ length: 84 }, (_, k) => Number(`1e${k - 45}`));
    const multiples = powers.flatMap((power) => [power, 2 * power, 5 * power, 9 * power, 1.5 * power]);
    assertShortest(
      multiples
        .map(Math.fround)
        .filter((value) => value > 0 && value < maxOf('F32'))
        .flatMap(around),
    );
  });

  test('at the ends of the subnormal and of the normal numbers', () => {
    const subnormals = Array.from({ length: 2000 }, (_, k) => (k + 1) * minOf('F32'));
    assertShortest([...subnormals, ...[minOf('F32'), 2 ** -126, maxOf('F32')].flatMap(around)]);
    assert.equal(write([minOf('F32'), 2 ** -126, maxOf('F32')]), '1e-45,1.1754944e-38,3.4028235e+38');
  });

  test('midway between two decimals with the even one', () => {
    // Multiples of 1/4 from 2^21 on, of which the neighbours are 1/4 away: 2097152.25 lies between .2 and .3, both read as it.
    assertShortest(Array.from({ length: 2000 }, (_, k) => 2 ** 21 + k / 4));
    assert.equal(write([2 ** 21 + 0.25, 2 ** 21 + 0.75]), '2097152.2,2097152.8');
  });

  test('with one digit more where float64 on the way would make another of the shortest', () => {
    // 7.038531e-26 lies nearer to the first, but float64 takes it to the midpoint and on to the second, the even one.
    const [first, second] = [0x15ae43fd, 0x15ae43fe].map(fromBits) as [number, number];
    assert.equal(Math.fround(7.038531e-26), second);
    assert.equal(write([first, -first, second]), '7.0385307e-26,-7.0385307e-26,7.0385313e-26');
    assert.deepEqual([7.0385307e-26, 7.0385313e-26].map(Math.fround), [first, second]);
  });

  test('in every form that a JSON number has', () => {
    const values = [0, -0, 3, -100, 0.1, -2.5, 123.456, 16_777_216, 1e-6, 1e-7, 1.5e-7, 1e20, 1e21, 1.5e22, -1e38];
    const text =
      '0,-0,3,-100,0.1,-2.5,123.456,16777216,0.000001,1e-7,1.5e-7,100000000000000000000,1e+21,1.5e+22,-1e+38';
    assert.equal(write(values), text);
    assertShortest(Array.from({ length: 4001 }, (_, k) => k - 2000));
    assertShortest(Array.from({ length: 2000 }, (_, k) => Math.fround(k / 100)));
  });
});

test('JSON.parse and Math.fround give the same bits again, for a million random ones', () => {
  const next = randomUnits(3);
  for (let round = 0; round < 10; round++) {
    const values = Array.from({ length: 100_000 }, () => fromBits(Math.floor(next() * 2 ** 32))).filter(
      Number.isFinite,
    );
    const read: number[] = JSON.parse(`[${write(values)}]`);
    assert.ok(read.every((value, k) => Object.is(Math.fround(value), values[k])));
  }
});

test('F16 and BF16 are written as the F32 that they are', () => {
  for (const dtype of ['F16', 'BF16'] as const) {
    const values = [...randomFloats(4, 5000, dtype)];
    assert.equal(write(values, dtype), values.map(expected).join());
  }
});

test('as many as there are, across blocks, none and the longest included', () => {
  for (const count of [0, 1, 4095, 4096, 4097, 8192, 20_000]) {
    assert.equal(write(new Float32Array(count).fill(-1e20)), Array(count).fill('-100000000000000000000').join());
  }
});

test('the first value that is not finite is refused, with its number', () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    for (const at of [0, 5, 4095, 4096, 9999]) {
      const values = new Float32Array(10_000).fill(bad, at);
      const refusal = (value: number, element: number): Error => new Error(`${value} at ${element}`);
      assert.throws(() => write(values, 'F32', refusal), { message: `${bad} at ${at}` });
    }
  }
});
