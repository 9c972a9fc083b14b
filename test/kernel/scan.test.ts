/** The look over a gradient before a step: whether all of it is finite in the variable's dtype, and its sum of squares. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { loadBlock, scanValues, scratchBank } from '../../src/kernel/blocks.ts';
import { bytesPerElement } from '../../src/tensor/dtype.ts';
import { assertSameBits, decode, encode, floatDtypes, maxOf, minOf, randomFloats, roundTo } from '../support/floats.ts';

const variableDtypes = ['F32', 'F64'] as const;
const notFinite = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

describe('finiteness', () => {
  test('fails for one NaN or infinity at any position of any size about the lanes, in every dtype', () => {
    for (const dtype of variableDtypes) {
      for (const wire of floatDtypes) {
        for (let count = 1; count <= 9; count++) {
          const good = encode(new Float64Array(count).fill(1), wire);
          assert.equal(scanValues(good, count, dtype, null).finite, true);
          for (let at = 0; at < count; at++) {
            for (const bad of notFinite) {
              const values = new Float64Array(count).fill(1);
              values[at] = bad;
              const { finite, sumSquares } = scanValues(encode(values, wire), count, dtype, null);
              assert.deepEqual([finite, sumSquares], [false, Number.NaN], `${bad} at ${at} of ${count} ${wire}`);
            }
          }
        }
      }
    }
  });

  test('fails for one NaN or infinity next to the end of a block', () => {
    for (const dtype of variableDtypes) {
      for (const at of [0, 16_382, 16_383, 16_384, 16_385, 32_767, 32_768, 32_770]) {
        for (const bad of notFinite) {
          const values = new Float64Array(32_771);
          values[at] = bad;
          assert.equal(scanValues(encode(values, dtype, 1), values.length, dtype, null).finite, false);
        }
      }
    }
  });

  test('holds for zeros, denormals and the largest numbers', () => {
    for (const dtype of variableDtypes) {
      for (let count = 0; count < 10; count++) {
        for (const value of [0, -0, minOf(dtype), -minOf(dtype), maxOf(dtype), -maxOf(dtype)]) {
          const values = encode(new Float64Array(count).fill(value), dtype);
          assert.equal(scanValues(values, count, dtype, null).finite, true, `${count} of ${value}`);
        }
      }
    }
  });

  test('is judged in the variable’s dtype: 1e39 is finite as F64, not for F32, clipped or not', () => {
    const values = encode([0, 1e39, 0], 'F64');
    assert.equal(scanValues(values, 3, 'F64', null).finite, true);
    assert.equal(scanValues(values, 3, 'F32', null).finite, false);
    assert.equal(scanValues(values, 3, 'F32', 1).finite, false);
    // F32 ends at (2 - 2^-23) * 2^127; from half a last place (2^103) beyond it on, float64 rounds to infinity.
    const edge = maxOf('F32') + 2 ** 103;
    assert.equal(scanValues(encode([edge], 'F64'), 1, 'F32', null).finite, false);
    assert.equal(scanValues(encode([edge * (1 - 2 ** -52)], 'F64'), 1, 'F32', null).finite, true);
  });
});

/** An exact sum, near enough: what each addition loses is added up on its own (Neumaier). */
function compensatedSum(terms: Iterable<number>): number {
  let sum = 0;
  let lost = 0;
  for (const term of terms) {
    const next = sum + term;
    lost += Math.abs(sum) >= Math.abs(term) ? sum - next + term : term - next + sum;
    sum = next;
  }
  return sum + lost;
}

/** The kernel's order: blocks of 16,384; in a block, element i on lane i mod 4; then lanes in pairs, then the rest. */
function sumInOrder(values: Float64Array): number {
  let total = 0;
  for (let first = 0; first < values.length; first += 16_384) {
    const block = values.subarray(first, first + 16_384);
    const whole = block.length - (block.length % 4);
    const lanes: [number, number, number, number] = [0, 0, 0, 0];
    for (let i = 0; i < whole; i++) lanes[(i % 4) as 0 | 1 | 2 | 3] += (block[i] as number) ** 2;
    let sum = lanes[0] + lanes[2] + (lanes[1] + lanes[3]);
    for (const value of block.subarray(whole)) sum += value ** 2;
    total += sum;
  }
  return total;
}

describe('the sum of squares', () => {
  const counts = fc.constantFrom(0, 1, 3, 4, 5, 7, 1000, 16_383, 16_384, 16_385, 50_000);

  test('is the same at every alignment, and lies within the rounding of its additions from the exact sum', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...variableDtypes),
        fc.constantFrom(...floatDtypes),
        counts,
        fc.nat(),
        (dtype, wire, count, seed) => {
          const sent = encode(randomFloats(seed, count, wire === 'F64' ? 'F32' : wire), wire);
          const { sumSquares } = scanValues(sent, count, dtype, null);
          for (const misalignment of [1, 3, bytesPerElement[wire]]) {
            const moved = encode(decode(sent), wire, misalignment);
            assert.equal(scanValues(moved, count, dtype, null).sumSquares, sumSquares);
          }
          const exact = compensatedSum(decode(sent).map((value) => roundTo(value, dtype) ** 2));
          // Of positive terms, n additions in a row lose less than n * 2^-53 of the sum; squares of float32 are exact.
          assert.ok(Math.abs(sumSquares - exact) <= count * 2 ** -53 * exact, `${sumSquares} is not about ${exact}`);
        },
      ),
      { numRuns: 20 },
    );
  });

  test('is added in one fixed order, so that it is the same on every machine', () => {
    fc.assert(
      fc.property(fc.constantFrom(...variableDtypes), counts, fc.nat(), (dtype, count, seed) => {
        const values = randomFloats(seed, count, 'F32');
        assert.equal(scanValues(encode(values, dtype), count, dtype, null).sumSquares, sumInOrder(values));
      }),
      { numRuns: 40 },
    );
  });

  test('does not overflow for the largest float32', () => {
    const max = maxOf('F32');
    assert.equal(scanValues(encode([max, -max], 'F32'), 2, 'F32', null).sumSquares, 2 * max ** 2);
  });

  test('is taken after clipping by value, with the limit in the variable’s dtype', () => {
    assert.equal(scanValues(encode([3, -4, 0.25], 'F32'), 3, 'F32', 2).sumSquares, 4 + 4 + 0.0625);
    assert.equal(scanValues(encode([3], 'F32'), 1, 'F32', 0.1).sumSquares, Math.fround(0.1) ** 2);
    assert.equal(scanValues(encode([3], 'F64'), 1, 'F64', 0.1).sumSquares, 0.1 ** 2);
    assert.equal(scanValues(encode([3, -4], 'F32'), 2, 'F32', 0).sumSquares, 0);
  });
});

test('a loaded block is clipped by value and then scaled, each number by itself, in vectors and behind the last one', () => {
  const bank = scratchBank();
  for (const dtype of variableDtypes) {
    for (let count = 0; count <= 70; count++) {
      const limit = roundTo([0, 0.1, 1, 3][count % 4] as number, dtype);
      const factor = [1, 0.3, 1e-3][count % 3] as number;
      const values = randomFloats(count, count, dtype);
      loadBlock(bank, encode(values, dtype), 0, count, dtype, { limit, factor });
      const bytes = bank.bytes.subarray(bank.values, bank.values + count * bytesPerElement[dtype]);
      const expected = values.map((value) => roundTo(Math.max(Math.min(value, limit), -limit) * factor, dtype));
      assertSameBits({ dtype, bytes }, encode(expected, dtype));
    }
  }
});

test('an F64 whose square overflows is finite all the same', () => {
  for (const limit of [null, 1e200]) {
    for (const count of [1, 5, 40_000]) {
      const values = new Float64Array(count).fill(-1e200);
      const scan = scanValues(encode(values, 'F64'), count, 'F64', limit);
      assert.deepEqual([scan.finite, scan.sumSquares], [true, Number.POSITIVE_INFINITY]);
      values[count - 1] = Number.NaN;
      assert.equal(scanValues(encode(values, 'F64'), count, 'F64', limit).finite, false);
    }
  }
});
