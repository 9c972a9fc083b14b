/**
 * Clipping: the factors, and the gradients that come of them. With beta_1 = 0 and m = 0 the first step leaves the gradient
 * itself in m, dense (0 + (g - 0) * 1) and sparse (0 * 0 + s * 1), so that is where it is looked at.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { scanValues } from '../../src/kernel/blocks.ts';
import { here } from '../../src/kernel/threads.ts';
import { allocate, type VariableMemory } from '../../src/kernel/variable-memory.ts';
import { applyUpdates, type Update } from '../../src/optimizer/adamax.ts';
import { type AdamaxConfig, parseOptimizer } from '../../src/optimizer/adamax-config.ts';
import { groupByRow } from '../../src/optimizer/indexed-slices.ts';
import type { VariableDtype } from '../../src/tensor/dtype.ts';
import { assertSameBits, decode, encode, randomFloats, randomUnits } from '../support/floats.ts';
import { clipByGlobalNorm, clipByNorm, clipByValue } from '../support/reference-adamax.ts';
import { variableDtypes } from '../support/step-cases.ts';

interface Given {
  readonly values: ArrayLike<number>;
  readonly dtype: VariableDtype;
  readonly indices?: Float64Array;
  readonly rows?: number;
}

function configOf(clipping: Partial<AdamaxConfig>): AdamaxConfig {
  return parseOptimizer({ config: { beta_1: 0, ...clipping } }, () => 0);
}

/** What the step makes of each gradient: m after the first step. */
async function clipped(
  clipping: Partial<AdamaxConfig>,
  gradients: readonly Given[],
  bankBytes?: number,
): Promise<Float64Array[]> {
  const config = configOf(clipping);
  const extents = gradients.map(({ values, dtype, rows }) => ({ dtype, rows: rows ?? values.length, width: 1 }));
  const memories = allocate(extents, bankBytes);
  const updates = gradients.map(({ values, dtype, indices }, index): Update => {
    const sent = encode(values, dtype);
    const slices = indices && groupByRow(indices);
    const scan = scanValues(sent, values.length, dtype, config.clipvalue);
    return { memory: memories[index] as VariableMemory, values: sent, slices, scan, updated: undefined };
  });
  await applyUpdates(config, 0, updates, here);
  return memories.map((memory) => {
    const m = encode(new Float64Array(memory.rows), memory.dtype);
    memory.read('m', 0, memory.rows, m);
    return decode(m);
  });
}

function assertClose(actual: Float64Array, expected: Float64Array): void {
  const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  actual.forEach((x, k) => {
    assert.ok(Math.abs(x - (expected[k] as number)) <= 4e-7 * largest, `${x} is not about ${expected[k]}`);
  });
}

function assertSame(actual: Float64Array | undefined, expected: ArrayLike<number>): void {
  assertSameBits(encode(actual as Float64Array, 'F64'), encode(expected, 'F64'));
}

/** Ordinary numbers, about 1. */
function plain(seed: number, count: number): Float64Array {
  const next = randomUnits(seed);
  return Float64Array.from({ length: count }, () => Math.fround(next() * 8 - 4));
}

const dtypes = fc.constantFrom(...variableDtypes);
const limits = fc.oneof(fc.constant(0), fc.double({ min: 1e-6, max: 20, noNaN: true }));

describe('clipvalue', () => {
  test('brings every element to the limit, bit for bit', async () => {
    await fc.assert(
      fc.asyncProperty(dtypes, limits, fc.nat(), fc.nat(40), async (dtype, clipvalue, seed, count) => {
        // A zero may lose its sign: m starts from +0, and +0 + -0 is +0.
        const values = randomFloats(seed, count, dtype).map((x) => x || 0);
        const [got] = await clipped({ clipvalue }, [{ values, dtype }]);
        assertSame(
          got,
          clipByValue(values, clipvalue, dtype).map((x) => x || 0),
        );
      }),
    );
  });

  test('works on repeated rows before they are summed', async () => {
    // 3 and 3 become 2 and 2, whose sum is 4; a sum of 6 would have become 2.
    const sparse = { values: [3, 3], indices: Float64Array.of(1, 1), rows: 3, dtype: 'F32' } as const;
    assertSame((await clipped({ clipvalue: 2 }, [sparse]))[0], [0, 4, 0]);
  });

  test('has the variable’s dtype', async () => {
    assertSame((await clipped({ clipvalue: 0.1 }, [{ values: [1], dtype: 'F32' }]))[0], [Math.fround(0.1)]);
    assertSame((await clipped({ clipvalue: 0.1 }, [{ values: [1], dtype: 'F64' }]))[0], [0.1]);
  });
});

describe('clipnorm', () => {
  test('brings each variable’s gradient to the norm on its own', async () => {
    await fc.assert(
      fc.asyncProperty(dtypes, limits, fc.nat(), fc.nat(40), async (dtype, clipnorm, seed, count) => {
        const gradients = [plain(seed, count), plain(seed + 1, count)];
        const got = await clipped(
          { clipnorm },
          gradients.map((values) => ({ values, dtype })),
        );
        got.forEach((each, k) => {
          assertClose(each, clipByNorm(gradients[k] as Float64Array, clipnorm, dtype));
        });
      }),
    );
  });

  test('takes the norm of the values as sent, before repeated rows are summed', async () => {
    // [3, 4] has the norm 5 and becomes [0.6, 0.8], whose sum is 1.4.
    const sparse = { values: [3, 4], indices: Float64Array.of(1, 1), rows: 3, dtype: 'F64' } as const;
    assertClose((await clipped({ clipnorm: 1 }, [sparse]))[0] as Float64Array, Float64Array.of(0, 1.4, 0));
  });

  test('counts in the variable’s dtype: 0.1 is not rounded to float32 for an F64 gradient', async () => {
    const [single, double] = await clipped({ clipnorm: 0.1 }, [
      { values: [1], dtype: 'F32' },
      { values: [1], dtype: 'F64' },
    ]);
    assertSame(single, [Math.fround(0.1)]);
    assertSame(double, [0.1]);
  });

  test('follows clipvalue', async () => {
    // [5, -0.5] becomes [1, -0.5] by value, whose norm is sqrt(1.25).
    const [got] = await clipped({ clipvalue: 1, clipnorm: 1 }, [{ values: [5, -0.5], dtype: 'F64' }]);
    assertClose(got as Float64Array, Float64Array.of(1 / Math.sqrt(1.25), -0.5 / Math.sqrt(1.25)));
  });
});

describe('global_clipnorm', () => {
  test('brings the gradients of a request to the norm together, dense and sparse ones', async () => {
    await fc.assert(
      fc.asyncProperty(dtypes, limits, fc.nat(), fc.nat(40), async (dtype, global_clipnorm, seed, count) => {
        const gradients = [plain(seed, count), plain(seed + 1, 7)];
        const indices = Float64Array.of(6, 5, 4, 3, 2, 1, 0);
        const [dense, sparse] = await clipped({ global_clipnorm }, [
          { values: gradients[0] as Float64Array, dtype },
          { values: gradients[1] as Float64Array, dtype, indices },
        ]);
        const [first, second] = clipByGlobalNorm(gradients, global_clipnorm, dtype);
        assertClose(dense as Float64Array, first as Float64Array);
        assertClose((sparse as Float64Array).reverse(), second as Float64Array);
      }),
    );
  });

  test('counts each gradient in its own dtype', async () => {
    // The norm of [3] and [4] is 5: factors of 0.1 / 5, with 0.1 as each dtype has it.
    const [single, double] = await clipped({ global_clipnorm: 0.1 }, [
      { values: [3], dtype: 'F32' },
      { values: [4], dtype: 'F64' },
    ]);
    assertSame(single, [Math.fround(3 * (Math.fround(0.1) / 5))]);
    assertSame(double, [4 * (0.1 / 5)]);
  });
});

describe('either norm', () => {
  const norms = ['clipnorm', 'global_clipnorm'] as const;

  test('leaves a gradient within it, or just as long, bit for bit', async () => {
    for (const norm of norms) {
      for (const dtype of variableDtypes) {
        for (const limit of [5, 5.5])
          assertSame((await clipped({ [norm]: limit }, [{ values: [3, 4], dtype }]))[0], [3, 4]);
      }
    }
  });

  test('leaves zeros as zeros, never NaN', async () => {
    for (const norm of norms) {
      for (const limit of [0, 1])
        assertSame((await clipped({ [norm]: limit }, [{ values: [0, 0], dtype: 'F32' }]))[0], [0, 0]);
    }
  });

  test('of 0 makes every gradient 0, even one whose squares underflow', async () => {
    for (const norm of norms) {
      for (const values of [
        [3, 1],
        [1e-45, 0],
        [1e-200, 5e-324],
      ]) {
        assertSame((await clipped({ [norm]: 0 }, [{ values, dtype: 'F64' }]))[0], [0, 0]);
      }
    }
    assertSame((await clipped({ clipvalue: 0 }, [{ values: [3, 1e-45], dtype: 'F32' }]))[0], [0, 0]);
  });

  test('is right where the squares overflow float32', async () => {
    // The norm of [3e30, 4e30] is 5e30.
    for (const norm of norms) {
      const [got] = await clipped({ [norm]: 1 }, [{ values: [3e30, 4e30], dtype: 'F32' }]);
      assertClose(got as Float64Array, Float64Array.of(0.6, 0.8));
    }
  });

  test('gives the same bits however the variable’s memory is cut', async () => {
    for (const norm of norms) {
      for (const dtype of variableDtypes) {
        const values = plain(3, 20_000);
        const [whole] = await clipped({ [norm]: 1 }, [{ values, dtype }]);
        const [cut] = await clipped({ [norm]: 1 }, [{ values, dtype }], 70_000);
        assertSame(cut, whole as Float64Array);
      }
    }
  });
});
