/**
 * The kernel's step against the reference, bit for bit: dense and sparse, both dtypes, sizes about the lanes and the blocks,
 * every dtype and alignment that a gradient travels in, and memory cut into banks in any way.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { noClip } from '../../src/kernel/blocks.ts';
import { rowsPerBlock, stepDense, stepSparse } from '../../src/kernel/step.ts';
import { allocate, type VariableMemory } from '../../src/kernel/variable-memory.ts';
import { groupByRow } from '../../src/optimizer/indexed-slices.ts';
import { assertSameBits, encode, floatDtypes, randomUnits } from '../support/floats.ts';
import { referenceDense, referenceSparse, type State } from '../support/reference-adamax.ts';
import {
  assertState,
  holding,
  randomGradient,
  randomRows,
  randomState,
  type StepCase,
  scalarsOf,
  stepCases,
  variableDtypes,
} from '../support/step-cases.ts';
import { takeDense, takeSparse } from '../support/steps.ts';

/** Sizes about a vector of lanes, about a block, and one of several blocks with a rest. */
const sizes = [0, 1, 3, 4, 5, 16_383, 16_384, 16_385, 50_000];
/** Rows and widths that give such sizes; the last ones have rows longer than a block. */
const shapes = [
  [0, 3],
  [5, 0],
  [1, 1],
  [3, 1],
  [4, 4],
  [5, 3],
  [16_385, 1],
  [50_000, 1],
  [3277, 5],
  [3, 16_383],
  [2, 16_384],
  [3, 16_385],
  [2, 40_001],
] as const;

async function checkDense(given: StepCase, rows: number, width: number, bankBytes?: number): Promise<void> {
  const state = randomState(given, rows * width);
  const [memory] = holding([{ dtype: given.dtype, rows, width }], [state], bankBytes) as [VariableMemory];
  const { sent, seen } = randomGradient(given, rows * width);
  const updated = encode(new Float64Array(rows * width), given.reply, given.misalignment);
  await takeDense(memory, { gradient: sent, scalars: scalarsOf(given), updated });
  referenceDense(state, seen, scalarsOf(given), given.dtype);
  assertState(memory, state);
  assertSameBits(updated, encode(state.w, given.reply), 'updated element');
}

async function checkSparse(
  given: StepCase,
  rows: number,
  width: number,
  indices: Float64Array,
  bankBytes?: number,
): Promise<void> {
  const state = randomState(given, rows * width);
  const [memory] = holding([{ dtype: given.dtype, rows, width }], [state], bankBytes) as [VariableMemory];
  const { sent, seen } = randomGradient(given, indices.length * width);
  const named = [...new Set(indices)].sort((a, b) => a - b);
  const updated = encode(new Float64Array(named.length * width), given.reply, given.misalignment);
  await takeSparse(memory, indices, { gradient: sent, scalars: scalarsOf(given), updated });
  referenceSparse(state, width, indices, seen, scalarsOf(given), given.dtype);
  assertState(memory, state);
  const expected = named.flatMap((row) => [...state.w.subarray(row * width, (row + 1) * width)]);
  assertSameBits(updated, encode(expected, given.reply), 'updated element');
}

describe('a dense step', () => {
  test('gives the reference’s bits, whatever the size, the wire’s dtype and alignment, and the reply’s dtype', async () => {
    await fc.assert(
      fc.asyncProperty(stepCases, fc.constantFrom(...sizes), (given, size) => checkDense(given, 1, size)),
      { numRuns: 25 },
    );
  });

  for (const size of sizes) {
    test(`of ${size} elements gives the reference’s bits in F32 and F64`, async () => {
      for (const dtype of variableDtypes)
        await checkDense({ dtype, wire: dtype, misalignment: 0, reply: dtype, seed: size, iterations: 3 }, size, 1);
    });
  }

  test('takes a gradient in every dtype at every alignment', async () => {
    for (const dtype of variableDtypes)
      for (const wire of floatDtypes)
        for (let misalignment = 0; misalignment < 8; misalignment++)
          await checkDense({ dtype, wire, misalignment, reply: wire, seed: 7, iterations: 0 }, 7, 5);
  });

  test('may put the updated values over the gradient’s own bytes', async () => {
    await fc.assert(
      fc.asyncProperty(stepCases, fc.constantFrom(5, 16_385, 50_000), async (given, size) => {
        const state = randomState(given, size);
        const [memory] = holding([{ dtype: given.dtype, rows: size, width: 1 }], [state]) as [VariableMemory];
        const { sent, seen } = randomGradient(given, size);
        await takeDense(memory, { gradient: sent, scalars: scalarsOf(given), updated: sent });
        referenceDense(state, seen, scalarsOf(given), given.dtype);
        assertSameBits(sent, encode(state.w, given.wire));
      }),
      { numRuns: 15 },
    );
  });
});

describe('a sparse step', () => {
  test('gives the reference’s bits for rows in any order, with any repeats, and touches no other row', async () => {
    const share = fc.constantFrom(0, 0.01, 0.5, 1.5);
    await fc.assert(
      fc.asyncProperty(
        stepCases,
        fc.constantFrom(...shapes),
        share,
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (given, [rows, width], named, spread) => {
          const count = rows === 0 ? 0 : Math.ceil(rows * named);
          return checkSparse(given, rows, width, randomRows(given.seed, count, Math.ceil(rows * spread)));
        },
      ),
      { numRuns: 30 },
    );
  });

  for (const [rows, width] of shapes.filter(([rows]) => rows > 0)) {
    test(`of ${rows} rows of ${width} gives the reference’s bits in F32 and F64`, async () => {
      for (const dtype of variableDtypes) {
        const given = { dtype, wire: dtype, misalignment: 0, reply: dtype, seed: rows + width, iterations: 5 };
        await checkSparse(given, rows, width, randomRows(rows, Math.min(4000, rows + 2), rows));
      }
    });
  }

  test('takes a gradient in every dtype at every alignment', async () => {
    for (const dtype of variableDtypes)
      for (const wire of floatDtypes)
        for (let misalignment = 0; misalignment < 8; misalignment++)
          await checkSparse(
            { dtype, wire, misalignment, reply: wire, seed: 9, iterations: 0 },
            7,
            5,
            Float64Array.of(6, 2, 6, 0, 2, 6),
          );
  });

  test('sums repeats first to last, even if they fill several blocks of scratch', async () => {
    for (const dtype of variableDtypes) {
      const given: StepCase = { dtype, wire: 'F32', misalignment: 1, reply: dtype, seed: 11, iterations: 2 };
      await checkSparse(given, 3, 1, randomRows(1, 40_000, 3));
      await checkSparse(given, 2, 5000, randomRows(2, 11, 2));
      await checkSparse(given, 2, 16_385, randomRows(3, 5, 2));
    }
  });

  test('over all rows follows the sparse formula, not the dense one', async () => {
    for (const dtype of variableDtypes) {
      const given: StepCase = { dtype, wire: dtype, misalignment: 0, reply: dtype, seed: 13, iterations: 0 };
      await checkSparse(
        given,
        200,
        3,
        Float64Array.from({ length: 200 }, (_, k) => 199 - k),
      );
      const [dense, sparse] = [randomState(given, 600), randomState(given, 600)];
      const { seen } = randomGradient(given, 600);
      referenceDense(dense, seen, scalarsOf(given), dtype);
      referenceSparse(
        sparse,
        3,
        Array.from({ length: 200 }, (_, k) => k),
        seen,
        scalarsOf(given),
        dtype,
      );
      assert.notDeepEqual(dense.m, sparse.m);
    }
  });

  test('starts every sum from +0, so that a row of -0 counts as +0', async () => {
    // m = -0 * beta_1 + (0 + -0) * omb1 = -0 + 0 = 0; from -0 alone it would have been -0.
    const state = { w: Float64Array.of(1), m: Float64Array.of(-0), v: Float64Array.of(1) };
    const [memory] = holding([{ dtype: 'F32', rows: 1, width: 1 }], [state]) as [VariableMemory];
    const scalars = { alpha: 1, beta1: 0.5, omb1: 0.5, beta2: 0.5, eps: 1 };
    await takeSparse(memory, Float64Array.of(0), { gradient: encode([-0], 'F32'), scalars });
    assertState(memory, { w: Float64Array.of(1), m: Float64Array.of(0), v: Float64Array.of(0.5) });
  });
});

test('a NaN that was assigned to m, v or w stays where it is, in every lane', async () => {
  for (const dtype of variableDtypes) {
    for (const part of ['w', 'm', 'v'] as const) {
      const given: StepCase = { dtype, wire: dtype, misalignment: 0, reply: dtype, seed: 19, iterations: 3 };
      const [dense, sparse] = [randomState(given, 7), randomState(given, 7)];
      dense[part].fill(Number.NaN);
      sparse[part].fill(Number.NaN);
      const extent = { dtype, rows: 1, width: 7 };
      const memories = holding([extent, extent], [dense, sparse]) as [VariableMemory, VariableMemory];
      const { sent, seen } = randomGradient(given, 7);
      await takeDense(memories[0], { gradient: sent, scalars: scalarsOf(given) });
      await takeSparse(memories[1], Float64Array.of(0), { gradient: sent, scalars: scalarsOf(given) });
      referenceDense(dense, seen, scalarsOf(given), dtype);
      referenceSparse(sparse, 7, [0], seen, scalarsOf(given), dtype);
      assertState(memories[0], dense);
      assertState(memories[1], sparse);
    }
  }
});

describe('a step taken in pieces, in any order', () => {
  /** Cuts `count` elements or slices into pieces of at most `most`, in random order. */
  function pieces(seed: number, count: number, most: number): { from: number; n: number; key: number }[] {
    const next = randomUnits(seed);
    const all: { from: number; n: number; key: number }[] = [];
    for (let from = 0; from < count; from += all.at(-1)?.n as number) {
      all.push({ from, n: Math.min(count - from, Math.ceil(next() * most)), key: next() });
    }
    return all.sort((a, b) => a.key - b.key);
  }
  const banks = fc.constantFrom(undefined, 100_000);

  test('gives the bits of the whole, and puts the updated values where they belong, if dense', () => {
    const most = fc.constantFrom(3000, 20_000, 50_000);
    fc.assert(
      fc.property(stepCases, fc.constantFrom(5, 16_385, 50_000), most, banks, (given, size, most, bankBytes) => {
        const state = randomState(given, size);
        const [memory] = holding([{ dtype: given.dtype, rows: size, width: 1 }], [state], bankBytes) as [
          VariableMemory,
        ];
        const { sent, seen } = randomGradient(given, size);
        const updated = encode(new Float64Array(size), given.reply, given.misalignment);
        const step = { memory, gradient: sent, clip: noClip, scalars: scalarsOf(given), updated, changes: undefined };
        for (const { from, n } of pieces(given.seed, size, most)) stepDense(step, from, n);
        referenceDense(state, seen, scalarsOf(given), given.dtype);
        assertState(memory, state);
        assertSameBits(updated, encode(state.w, given.reply), 'updated element');
      }),
      { numRuns: 15 },
    );
  });

  test('gives the bits of the whole, every row with all of its slices, if sparse', () => {
    const shape = fc.constantFrom<[number, number]>([50_000, 1], [3000, 5], [40, 1000], [9, 9000], [4, 16_385]);
    fc.assert(
      fc.property(stepCases, shape, fc.constantFrom(0.1, 1), banks, (given, [rows, width], spread, bankBytes) => {
        const state = randomState(given, rows * width);
        const [memory] = holding([{ dtype: given.dtype, rows, width }], [state], bankBytes) as [VariableMemory];
        const indices = randomRows(given.seed, rows, Math.ceil(rows * spread));
        const { sent, seen } = randomGradient(given, indices.length * width);
        const slices = groupByRow(indices);
        const updated = encode(new Float64Array(slices.rows.length * width), given.reply, given.misalignment);
        const step = {
          memory,
          gradient: sent,
          slices,
          clip: noClip,
          scalars: scalarsOf(given),
          updated,
          changes: undefined,
        };
        const most = 3 * rowsPerBlock(width);
        for (const { from, n } of pieces(given.seed, slices.rows.length, most)) stepSparse(step, from, n);
        referenceSparse(state, width, indices, seen, scalarsOf(given), given.dtype);
        assertState(memory, state);
        const expected = [...slices.rows].flatMap((row) => [...state.w.subarray(row * width, (row + 1) * width)]);
        assertSameBits(updated, encode(expected, given.reply), 'updated element');
      }),
      { numRuns: 15 },
    );
  });
});

describe('memory cut into many banks', () => {
  test('gives the bits of whole memory, step after step, for all variables of a session', async () => {
    const extents = fc.array(
      fc.record({ dtype: fc.constantFrom(...variableDtypes), rows: fc.nat(9), width: fc.nat(40) }),
      {
        minLength: 1,
        maxLength: 4,
      },
    );
    await fc.assert(
      fc.asyncProperty(stepCases, extents, fc.integer({ min: 230, max: 1500 }), async (given, all, bankBytes) => {
        const states = all.map(({ dtype, rows, width }) => randomState({ ...given, dtype }, rows * width));
        const memories = holding(all, states, bankBytes);
        for (let step = 0; step < 3; step++) {
          for (const [index, memory] of memories.entries()) {
            const { dtype, rows, width } = memory;
            const own = { ...given, dtype, seed: given.seed + 5 * step + index };
            const indices = randomRows(own.seed, step === 0 || rows === 0 ? 0 : 4, rows);
            const dense = (own.seed & 1) === 1;
            const { sent, seen } = randomGradient(own, dense ? rows * width : indices.length * width);
            const state = states[index] as State;
            const taken = { gradient: sent, scalars: scalarsOf(own) };
            await (dense ? takeDense(memory, taken) : takeSparse(memory, indices, taken));
            if (dense) referenceDense(state, seen, scalarsOf(own), dtype);
            else referenceSparse(state, width, indices, seen, scalarsOf(own), dtype);
          }
        }
        memories.forEach((memory, index) => {
          assertState(memory, states[index] as State);
        });
      }),
      { numRuns: 40 },
    );
  });

  test('is cut between rows, and within a row only if a row fits no bank', () => {
    // A bank of 1000 bytes holds floor((1000 - 3 * 64) / (3 * 4)) = 67 F32 elements with their slots.
    const [narrow, wide] = allocate(
      [
        { dtype: 'F32', rows: 20, width: 10 },
        { dtype: 'F32', rows: 2, width: 100 },
      ],
      1000,
    ) as [VariableMemory, VariableMemory];
    assert.deepEqual(
      narrow.segments.map(({ firstRow, rows, columns }) => [firstRow, rows, columns]),
      [
        [0, 6, 10],
        [6, 6, 10],
        [12, 6, 10],
        [18, 2, 10],
      ],
    );
    assert.ok(wide.segments.every(({ rows, columns }) => rows === 1 && columns <= 67));
    assert.equal(new Set([...narrow.segments, ...wide.segments].map(({ bank }) => bank)).size, 8);
  });

  test('gives the bits of whole memory for rows longer than a block that lie in several banks', async () => {
    for (const dtype of variableDtypes) {
      const given: StepCase = { dtype, wire: 'F32', misalignment: 3, reply: 'F64', seed: 17, iterations: 1 };
      // 20,000 F32 or 10,000 F64 elements to a bank: pieces of a row that are longer and shorter than a block.
      const bankBytes = 20_000 * 12 + 192;
      await checkDense(given, 2, 33_000, bankBytes);
      await checkSparse(given, 3, 33_000, Float64Array.of(2, 0, 2), bankBytes);
    }
  });

  test('refuses banks that hold no element', () => {
    assert.throws(() => allocate([{ dtype: 'F64', rows: 1, width: 1 }], 192), /at least one element/);
  });
});
