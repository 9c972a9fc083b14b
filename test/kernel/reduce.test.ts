/**
 * What several workers' gradients come to, against plain loops that add one element at a time: dense, sparse and both, every
 * dtype and alignment that they travel in, repeats, rows shorter and longer than a block; in one go, in pieces and on threads.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import type { Values } from '../../src/kernel/blocks.ts';
import { type Reduction, type ReductionInput, reduceDense, reduceRows } from '../../src/kernel/reduce.ts';
import { here, Threads } from '../../src/kernel/threads.ts';
import { groupByRow, unionOfRows } from '../../src/optimizer/indexed-slices.ts';
import type { FloatDtype, VariableDtype } from '../../src/tensor/dtype.ts';
import { assertSameBits, decode, encode, floatDtypes, randomFloats, randomUnits, roundTo } from '../support/floats.ts';
import { rounding } from '../support/reference-adamax.ts';
import { randomRows, variableDtypes } from '../support/step-cases.ts';
import { handingOver, randomValues, shared, sharedRoom } from '../support/work-cases.ts';

const threads = [1, 2].map((count) => new Threads(count));
after(() => Promise.all(threads.map((each) => each.close())));

/** One worker's gradient; with `indices` it has a row for each of them. */
interface Given {
  readonly values: Values;
  readonly indices?: Float64Array | undefined;
}

/** A variable and what is asked for: rows, or all of it. */
interface Case {
  readonly dtype: VariableDtype;
  readonly rows: number;
  readonly width: number;
  readonly given: readonly Given[];
  readonly asked?: Float64Array | undefined;
  readonly divisor: number;
}

/** One element at a time, every operation rounded to the variable's dtype. */
function reference({ dtype, rows, width, given, asked, divisor }: Case): Values {
  const f = rounding(dtype);
  const sums = new Float64Array(rows * width);
  const allDense = given.every(({ indices }) => indices === undefined);
  given.forEach(({ values, indices }, input) => {
    const numbers = decode(values).map((value) => roundTo(value, dtype));
    const named = indices ?? Float64Array.from({ length: rows }, (_, row) => row);
    named.forEach((row, slice) => {
      for (let column = 0; column < width; column++) {
        const [at, value] = [row * width + column, numbers[slice * width + column] as number];
        sums[at] = allDense && input === 0 ? value : f((sums[at] as number) + value);
      }
    });
  });
  const wanted = asked ?? Float64Array.from({ length: rows }, (_, row) => row);
  const chosen = new Float64Array(wanted.length * width);
  wanted.forEach((row, k) => {
    chosen.set(sums.subarray(row * width, (row + 1) * width), k * width);
  });
  return encode(divisor === 1 ? chosen : chosen.map((sum) => f(sum / f(divisor))), dtype);
}

/** The work, with a place for its result that is not all zeros. */
function reductionOf({ dtype, rows, width, given, asked, divisor }: Case): Reduction & { readonly kind: 'reduce' } {
  const count = asked?.length ?? rows;
  const to = sharedRoom(count * width, dtype, 3);
  to.bytes.fill(0xff);
  const inputs = given.map(
    ({ values, indices }): ReductionInput => ({ values, slices: indices && groupByRow(indices) }),
  );
  return { kind: 'reduce', dtype, width, rows: asked, count, inputs, divisor, to };
}

/** Of a variable of one element, unless rows are asked for. */
function summed(given: readonly Given[], dtype: VariableDtype, divisor = 1, asked?: Float64Array): Float64Array {
  return decode(reduced({ dtype, rows: 1, width: 1, given, asked, divisor }));
}

/** Done in the calling thread, at once. */
function reduced(each: Case): Values {
  const work = reductionOf(each);
  void here.run([work]);
  return work.to;
}

/** Where the inputs of a case come from; `share`: the slices of a sparse one for each of the rows. */
interface Random {
  readonly kind: 'dense' | 'sparse' | 'mixed';
  readonly dtype: VariableDtype;
  readonly workers: number;
  readonly share: number;
  readonly spread: number;
  readonly asked: 'all' | 'named' | 'any';
  readonly divisor: number;
  readonly seed: number;
}

function caseOf(
  { kind, dtype, workers, share, spread, asked, divisor, seed }: Random,
  rows: number,
  width: number,
): Case {
  const next = randomUnits(seed);
  const given = Array.from({ length: workers }, (_, worker): Given => {
    const wire = floatDtypes[Math.floor(next() * floatDtypes.length)] as FloatDtype;
    const isDense = kind === 'dense' || (kind === 'mixed' && next() < 0.5);
    const count = rows === 0 || next() < 0.1 ? 0 : Math.ceil(rows * share);
    const indices = isDense ? undefined : randomRows(seed + worker, count, Math.ceil(rows * spread));
    const values = randomValues(seed + 7 * worker, (indices?.length ?? rows) * width, wire, worker);
    return { values: next() < 0.5 ? values : shared(values), indices };
  });
  const named = unionOfRows(given.map(({ indices = new Float64Array(0) }) => groupByRow(indices)));
  const any = Float64Array.from({ length: rows }, (_, row) => row).filter(() => next() < 0.4);
  return {
    dtype,
    rows,
    width,
    given,
    asked: kind === 'sparse' ? { all: undefined, named, any }[asked] : undefined,
    divisor,
  };
}

const randoms = fc.record<Random>({
  kind: fc.constantFrom('dense', 'sparse', 'mixed'),
  dtype: fc.constantFrom(...variableDtypes),
  workers: fc.integer({ min: 1, max: 5 }),
  share: fc.constantFrom(0.01, 0.5, 1, 2.5),
  spread: fc.constantFrom(0.01, 0.3, 1),
  asked: fc.constantFrom('all', 'named', 'any'),
  divisor: fc.constantFrom(1, 2, 3, 7, 0.1),
  seed: fc.nat(2 ** 31),
});

/** Nothing, a scalar, sizes about a vector and about a block, and rows longer than one. */
const shapes = [
  [0, 3],
  [5, 0],
  [1, 1],
  [9, 1],
  [6, 4],
  [7, 5],
  [3, 67],
  [40_000, 1],
  [7000, 5],
  [3, 16_383],
  [2, 16_384],
  [3, 16_385],
  [2, 40_001],
] as const;

describe('a reduction gives the bits of plain loops', () => {
  test('whatever the inputs, their dtypes and alignments, the shape and the rows asked for', async () => {
    await fc.assert(
      fc.asyncProperty(randoms, fc.constantFrom(...shapes), async (random, [rows, width]) => {
        const each = caseOf(random, rows, width);
        const work = reductionOf(each);
        await here.run([work]);
        assertSameBits(work.to, reference(each));
      }),
      { numRuns: 120 },
    );
  });

  test('taken in pieces of any size, in any order', () => {
    const several = shapes.filter(([rows, width]) => rows * width > 16_384);
    fc.assert(
      fc.property(randoms, fc.constantFrom(...several), (random, [rows, width]) => {
        const each = caseOf(random, rows, width);
        const work = reductionOf(each);
        const isDense = random.kind === 'dense' || each.given.every(({ indices }) => indices === undefined);
        const [count, reduce] = isDense ? [rows * width, reduceDense] : [work.count, reduceRows];
        for (const { from, n } of pieces(random.seed, count)) reduce(work, from, n);
        assertSameBits(work.to, reference(each));
      }),
      { numRuns: 25 },
    );
  });

  /** `count` cut into pieces, in random order. */
  function pieces(seed: number, count: number): { from: number; n: number; key: number }[] {
    const next = randomUnits(seed);
    const all: { from: number; n: number; key: number }[] = [];
    for (let from = 0; from < count; from += all.at(-1)?.n as number) {
      all.push({ from, n: Math.min(count - from, Math.ceil((next() * count) / 2)), key: next() });
    }
    return all.sort((a, b) => a.key - b.key);
  }

  for (const [kind, rows, width] of [
    ['dense', 300_007, 1],
    ['dense', 7, 41_001],
    ['sparse', 100_003, 3],
    ['sparse', 31, 17_001],
    ['mixed', 60_001, 7],
    ['mixed', 31, 17_001],
  ] as const) {
    test(`on 1 and 2 threads, as in the calling one: ${kind}, ${rows} rows of ${width}`, async () => {
      for (const dtype of variableDtypes) {
        const random: Random = {
          kind,
          dtype,
          workers: 4,
          share: 1.5,
          spread: 0.9,
          asked: 'named',
          divisor: 3,
          seed: rows,
        };
        const each = caseOf(random, rows, width);
        const expected = reductionOf(each);
        await here.run([expected]);
        for (const executor of threads) {
          const work = reductionOf(each);
          await handingOver(executor).run([work]);
          assertSameBits(work.to, expected.to);
        }
        assertSameBits(expected.to, reference(each));
      }
    });
  }
});

describe('zeros', () => {
  const minus = { values: encode([-0], 'F32') };
  const row = { ...minus, indices: Float64Array.of(0) };

  test('of dense inputs are added as they are, from the first one on', () => {
    assert.deepEqual(summed([minus], 'F32'), Float64Array.of(-0));
    assert.deepEqual(summed([minus, minus], 'F64', 3), Float64Array.of(-0));
    assert.deepEqual(summed([minus, { values: encode([0], 'F16') }], 'F32'), Float64Array.of(0));
  });

  test('are +0 where an input has slices, since every row starts at +0', () => {
    for (const given of [[row], [row, row], [minus, row], [row, minus]]) {
      assert.deepEqual(summed(given, 'F32'), Float64Array.of(0));
    }
    const nothing = { values: encode([], 'F32'), indices: new Float64Array(0) };
    assert.deepEqual(summed([minus, nothing], 'F32'), Float64Array.of(0));
  });

  test('are what no input has anything for', () => {
    assert.deepEqual(summed([row], 'F32', 2, Float64Array.of(1, 4)), Float64Array.of(0, 0));
    assert.deepEqual(decode(reduced({ dtype: 'F64', rows: 3, width: 2, given: [], divisor: 1 })), new Float64Array(6));
  });
});

describe('the order of additions', () => {
  // In F32 the small numbers are lost one by one beside the large one, but not their sum.
  const [large, small] = [2 ** 24, 1];

  test('is that of the inputs and, within one, that of its slices', () => {
    const one = (...values: number[]): Given => ({
      values: encode(values, 'F32'),
      indices: Float64Array.from(values, () => 0),
    });
    const asked = Float64Array.of(0);
    assert.deepEqual([...summed([one(large, small), one(small)], 'F32', 1, asked)], [large]);
    assert.deepEqual([...summed([one(small, small), one(large)], 'F32', 1, asked)], [large + 2]);
    assert.deepEqual([...summed([one(small), one(large, small)], 'F32', 1, asked)], [large]);
    // One sequence: the slices of the second input are not summed by themselves first.
    assert.deepEqual([...summed([one(large), one(small, small)], 'F32', 1, asked)], [large]);
    assert.deepEqual([...summed([one(large), one(small, small)], 'F64', 1, asked)], [large + 2]);
  });

  test('is that of the inputs where they are dense', () => {
    const one = (value: number): Given => ({ values: encode([value], 'F32') });
    assert.deepEqual([...summed([one(large), one(small), one(small)], 'F32')], [large]);
    assert.deepEqual([...summed([one(small), one(small), one(large)], 'F32')], [large + 2]);
  });
});

test('one dense input gives its very bits back, those of a NaN too', () => {
  const bytes = new Uint8Array(Uint32Array.of(0x7fa0_1234, 0xffc0_0001, 0x8000_0000, 1).buffer);
  const to = reduced({ dtype: 'F32', rows: 4, width: 1, given: [{ values: { dtype: 'F32', bytes } }], divisor: 1 });
  assert.deepEqual(Buffer.from(to.bytes), Buffer.from(bytes));
});

test('a sum is divided, not multiplied by a rounded reciprocal, in vectors and behind the last one', () => {
  for (const dtype of variableDtypes) {
    const f = rounding(dtype);
    for (let count = 0; count < 70; count++) {
      const values = randomFloats(count, count, dtype);
      const to = reduced({ dtype, rows: 1, width: count, given: [{ values: encode(values, dtype) }], divisor: 10 });
      assertSameBits(
        to,
        encode(
          values.map((value) => f(value / 10)),
          dtype,
        ),
      );
    }
    const several = randomFloats(1, 1000, dtype);
    assert.notDeepEqual(
      several.map((value) => f(value / 10)),
      several.map((value) => f(value * f(1 / 10))),
    );
  }
});
