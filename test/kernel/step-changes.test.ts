/**
 * How far a step moves a variable: for each block the sum of squares of what is taken from w, against plain sums over the
 * reference's m and v; and the sum over a whole request, which must not depend on memory's cuts into pieces nor on threads.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { noClip, scanValues } from '../../src/kernel/blocks.ts';
import { rowsPerBlock } from '../../src/kernel/step.ts';
import { here, Threads } from '../../src/kernel/threads.ts';
import { allocate, type VariableMemory } from '../../src/kernel/variable-memory.ts';
import { blocksOf, perform, type Step } from '../../src/kernel/work.ts';
import { applyUpdates } from '../../src/optimizer/adamax.ts';
import { parseOptimizer } from '../../src/optimizer/adamax-config.ts';
import { groupByRow } from '../../src/optimizer/indexed-slices.ts';
import type { VariableDtype } from '../../src/tensor/dtype.ts';
import { encode } from '../support/floats.ts';
import { referenceDense, referenceSparse, rounding, type Scalars, type State } from '../support/reference-adamax.ts';
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
import { randomValues } from '../support/work-cases.ts';

const threads = new Threads(2);
after(() => threads.close());

/** Sum of squares over some elements, from m and v as the step leaves them. */
function squares({ m, v }: State, elements: Iterable<number>, { alpha, eps }: Scalars, dtype: VariableDtype): number {
  const f = rounding(dtype);
  let sum = 0;
  for (const i of elements) sum += f(alpha * f((m[i] as number) / f((v[i] as number) + eps))) ** 2;
  return sum;
}

/** Squares below the normal numbers of `dtype` may be lost. */
function assertAbout(sum: number, expected: number, count: number, { alpha }: Scalars, dtype: VariableDtype): void {
  if (!Number.isFinite(expected)) {
    assert.equal(sum, expected, 'a sum beyond float64');
    return;
  }
  const [relative, least] = dtype === 'F32' ? [1e-5, 2 ** -126] : [1e-12, 2 ** -1022];
  const bound = relative * expected + count * least * Math.max(1, alpha ** 2);
  assert.ok(Math.abs(sum - expected) <= bound, `${sum} is not about ${expected}`);
}

function* range(first: number, end: number): Generator<number> {
  for (let k = first; k < end; k++) yield k;
}

async function checkDense(given: StepCase, size: number, bankBytes?: number): Promise<void> {
  const { dtype } = given;
  const scalars = scalarsOf(given);
  const state = randomState(given, size);
  const [memory] = holding([{ dtype, rows: size, width: 1 }], [state], bankBytes) as [VariableMemory];
  const { sent, seen } = randomGradient(given, size);
  const changes = new Float64Array(Math.ceil(size / 16_384));
  await takeDense(memory, { gradient: sent, scalars, changes });
  referenceDense(state, seen, scalars, dtype);
  assertState(memory, state);
  changes.forEach((sum, block) => {
    const [first, end] = [block * 16_384, Math.min(size, (block + 1) * 16_384)];
    assertAbout(sum, squares(state, range(first, end), scalars, dtype), end - first, scalars, dtype);
  });
}

async function checkSparse(given: StepCase, rows: number, width: number, bankBytes?: number): Promise<void> {
  const { dtype } = given;
  const scalars = scalarsOf(given);
  const state = randomState(given, rows * width);
  const [memory] = holding([{ dtype, rows, width }], [state], bankBytes) as [VariableMemory];
  const indices = randomRows(given.seed, rows, rows);
  const { sent, seen } = randomGradient(given, rows * width);
  const named = groupByRow(indices).rows;
  const perBlock = rowsPerBlock(width);
  const changes = new Float64Array(Math.ceil(named.length / perBlock));
  await takeSparse(memory, indices, { gradient: sent, scalars, changes });
  referenceSparse(state, width, indices, seen, scalars, dtype);
  assertState(memory, state);
  changes.forEach((sum, block) => {
    const own = named.subarray(block * perBlock, (block + 1) * perBlock);
    const elements = [...own].flatMap((row) => [...range(row * width, (row + 1) * width)]);
    assertAbout(sum, squares(state, elements, scalars, dtype), elements.length, scalars, dtype);
  });
}

describe('a step tells the sum of squares of what it takes from w, block by block', () => {
  const banks = fc.constantFrom(undefined, 100_000);

  test('if dense, whatever the numbers', async () => {
    const sizes = fc.constantFrom(0, 1, 3, 4, 15, 16, 17, 1039, 16_383, 16_384, 16_385, 50_000);
    await fc.assert(
      fc.asyncProperty(stepCases, sizes, banks, (given, size, bankBytes) => checkDense(given, size, bankBytes)),
      { numRuns: 40 },
    );
  });

  test('if sparse, whatever the numbers and the rows', async () => {
    const shapes = fc.constantFrom<[number, number]>(
      [1, 1],
      [20_000, 1],
      [9, 7],
      [3000, 19],
      [30, 2000],
      [3, 16_385],
      [2, 40_001],
    );
    await fc.assert(
      fc.asyncProperty(stepCases, shapes, banks, (given, [rows, width], bankBytes) =>
        checkSparse(given, rows, width, bankBytes),
      ),
      { numRuns: 40 },
    );
  });

  test('where all elements change by the same, so that every addition may be rounded the same way', async () => {
    const scalars = { alpha: 0.3, beta1: 0.9, omb1: 0.1, beta2: 0.999, eps: 1e-7 };
    for (const dtype of variableDtypes) {
      const f = rounding(dtype);
      const rounded = { ...scalars, alpha: f(0.3), omb1: f(0.1), beta1: f(0.9), beta2: f(0.999), eps: f(1e-7) };
      for (const gradient of [1, 0.7, 1e-3, 3e18]) {
        const extents = [1, 16_384].map((width) => ({ dtype, rows: 16_384 / width, width }));
        const [dense, sparse] = allocate([...extents]) as [VariableMemory, VariableMemory];
        const [mine, theirs] = [new Float64Array(1), new Float64Array(1)];
        const sent = encode(new Float64Array(16_384).fill(gradient), dtype);
        await takeDense(dense, { gradient: sent, scalars: rounded, changes: mine });
        await takeSparse(sparse, Float64Array.of(0), { gradient: sent, scalars: rounded, changes: theirs });
        const m = Float64Array.of(f(f(gradient) * rounded.omb1));
        const state = { w: m, m, v: Float64Array.of(f(gradient)) };
        const expected = 16_384 * squares(state, [0], rounded, dtype);
        for (const [sum] of [mine, theirs]) assertAbout(sum as number, expected, 16_384, rounded, dtype);
      }
    }
  });

  test('also where a square is beyond F32, but not beyond float64', async () => {
    const scalars = { alpha: 2, beta1: 0, omb1: 1, beta2: 0, eps: 2 ** -100 };
    for (const size of [1, 4, 16, 50]) {
      // Without a gradient and with v = 0 the quotient is m / eps = 2^100.
      const state = { w: new Float64Array(size), m: new Float64Array(size).fill(1), v: new Float64Array(size) };
      const [dense, sparse] = holding(
        [1, 2].map(() => ({ dtype: 'F32', rows: 1, width: size })),
        [state, state],
      ) as [VariableMemory, VariableMemory];
      const [mine, theirs] = [new Float64Array(1), new Float64Array(1)];
      const given = { gradient: encode(new Float64Array(size), 'F32'), scalars: { ...scalars, beta1: 1, omb1: 0 } };
      await takeDense(dense, { ...given, changes: mine });
      await takeSparse(sparse, Float64Array.of(0), { ...given, changes: theirs });
      assert.deepEqual([mine[0], theirs[0]], [size * 2 ** 202, size * 2 ** 202]);
    }
  });
});

test('the sums of blocks are the same bits whoever does which, in memory cut into banks', async () => {
  for (const dtype of variableDtypes) {
    for (const width of [1, 61, 16_385]) {
      const rows = Math.ceil(1_200_000 / width);
      const given: StepCase = { dtype, wire: 'F32', misalignment: 0, reply: dtype, seed: width, iterations: 1 };
      const steps = (): Step[] => {
        const [dense, sparse] = allocate(
          [1, 2].map(() => ({ dtype, rows, width })),
          3_000_000,
        ) as [VariableMemory, VariableMemory];
        const gradient = calm(rows * width);
        const slices = groupByRow(randomRows(3, rows, rows));
        const rest = { gradient, clip: noClip, scalars: scalarsOf(given), updated: undefined, changes: undefined };
        return [
          withRoom({ kind: 'dense', memory: dense, ...rest }),
          withRoom({ kind: 'sparse', memory: sparse, ...rest, slices }),
        ];
      };
      const [whole, shared, single] = [steps(), steps(), steps()];
      await here.run(whole);
      await threads.run(shared);
      for (const step of single)
        for (let block = blocksOf(step) - 1; block >= 0; block--) perform(step, block, block + 1);
      for (const [k, { changes }] of whole.entries()) {
        assert.ok(
          (changes as Float64Array).every((sum) => sum > 0),
          'every block must have changed',
        );
        assert.deepEqual(shared[k]?.changes, changes);
        assert.deepEqual(single[k]?.changes, changes);
      }
    }
  }
});

/** The step with a place for its sums that threads share. */
function withRoom(step: Step): Step {
  step.changes = new Float64Array(new SharedArrayBuffer(8 * blocksOf(step)));
  return step;
}

/** Numbers about 1, so that every sum has a say. */
function calm(count: number) {
  const { bytes } = randomValues(5, count, 'F32');
  const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, count);
  return encode(
    numbers.map((value) => (Math.abs(value) < 4 ? value : 1)),
    'F32',
  );
}

describe('applyUpdates', () => {
  const config = parseOptimizer({ config: { learning_rate: 0.5 } }, () => 0);

  test('gives the sum over all variables, the same with threads as without', async () => {
    for (const rows of [3, 2_000_003]) {
      const sums: number[] = [];
      for (const executor of [here, threads]) {
        const memories = allocate([
          { dtype: 'F32', rows, width: 1 },
          { dtype: 'F64', rows: 1000, width: 3 },
        ]) as [VariableMemory, VariableMemory];
        const [dense, sparse] = [calm(rows), calm(30)];
        const updated = undefined;
        sums.push(
          await applyUpdates(
            config,
            0,
            [
              {
                memory: memories[0],
                values: dense,
                slices: undefined,
                updated,
                scan: scanValues(dense, rows, 'F32', null),
              },
              {
                memory: memories[1],
                values: sparse,
                slices: groupByRow(randomRows(1, 10, 1000)),
                updated,
                scan: scanValues(sparse, 30, 'F64', null),
              },
            ],
            executor,
          ),
        );
        // From w = 0 on, what is taken is what w holds.
        let expected = 0;
        for (const memory of memories) {
          const held = { dtype: 'F64' as const, bytes: new Uint8Array(8 * memory.rows * memory.width) };
          memory.read('w', 0, memory.rows * memory.width, held);
          for (const value of new Float64Array(held.bytes.buffer)) expected += value * value;
        }
        assert.ok(Math.abs((sums.at(-1) as number) - expected) <= 1e-5 * expected, `${sums} is not about ${expected}`);
      }
      assert.equal(sums[0], sums[1]);
    }
  });

  test('of nothing gives 0', async () => {
    assert.equal(await applyUpdates(config, 0, [], here), 0);
  });
});
