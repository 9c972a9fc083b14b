import assert from 'node:assert/strict';
import { test } from 'node:test';
import { integerPower } from '../../src/optimizer/integer-power.ts';

/** base^exponent with all its bits, by integers, and rounded once: `base` is n * 2^-24 for an integer n. */
function exactPower(base: number, exponent: number): number {
  const power = BigInt(base * 2 ** 24) ** BigInt(exponent);
  const dropped = Math.max(0, power.toString(2).length - 60);
  // What is cut off only matters for being there: it breaks a tie.
  const sticky = power & ((1n << BigInt(dropped)) - 1n) ? 1n : 0n;
  return Number((power >> BigInt(dropped)) | sticky) * 2 ** (dropped - 24 * exponent);
}

test('a power is the nearest float64 to what integers give', () => {
  for (const base of [0.5, 0.75, 10 / 11, 0.9, 0.99, 0.999, 1 - 2 ** -24]) {
    // float32 numbers in [0.5, 1) are multiples of 2^-24.
    const rounded = Math.fround(base);
    for (const exponent of [...Array(200).keys(), 1000, 20_000]) {
      if (rounded ** exponent < 2 ** -900) continue;
      const exact = exactPower(rounded, exponent);
      assert.equal(integerPower(rounded, exponent), exact, `${rounded}^${exponent}`);
    }
  }
});

test('powers of 0 are 0, and 1 for the exponent 0', () => {
  assert.deepEqual([integerPower(0, 0), integerPower(0, 1), integerPower(0, 2 ** 53 - 1)], [1, 0, 0]);
});

test('powers vanish quietly, and large exponents take few steps', () => {
  assert.equal(integerPower(0.9, 100_000), 0);
  assert.equal(integerPower(1 - 2 ** -24, 2 ** 53 - 1), 0);
  // (1 - 2^-24)^(2^24) = exp(2^24 ln(1 - 2^-24)) = exp(-1 - 2^-25 - …).
  assert.ok(Math.abs(integerPower(1 - 2 ** -24, 2 ** 24) / Math.exp(-1 - 2 ** -25) - 1) < 1e-14);
});
