/**
 * Threads: whatever is handed to them, they give the reference's bits, as the calling thread does, however many there are;
 * and the calling thread goes on meanwhile. What each run starts from is work-cases.ts's. Snapshots and sessions are
 * threads-snapshot.test.ts's and session/threads.test.ts's, their start and end threads-life.test.ts's, and memory that is
 * given back tensor/reclaim.test.ts's.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { type Scan, scanOf, scanValues, type Values } from '../../src/kernel/blocks.ts';
import { type Executor, here, type Range, Threads } from '../../src/kernel/threads.ts';
import type { VariableMemory } from '../../src/kernel/variable-memory.ts';
import { blocksOf, type Work } from '../../src/kernel/work.ts';
import type { VariableDtype } from '../../src/tensor/dtype.ts';
import { assertSameBits, encode, floatDtypes, randomUnits } from '../support/floats.ts';
import { variableDtypes } from '../support/step-cases.ts';
import {
  assertTaken,
  checkPlan,
  handingOver,
  type Plan,
  planOf,
  prepare,
  randomValues,
  shared,
  stepsOf,
  type WorkSize,
} from '../support/work-cases.ts';

const started = new Map([1, 2, 4].map((count) => [count, new Threads(count)]));
const threads = [...started.values()] as [Threads, Threads, Threads];
after(() => Promise.all(threads.map((each) => each.close())));

const blockElements = 16_384;
/** More blocks than the calling thread does itself, in several pieces. */
const manyBlocks = 150;

/** Variables of at most a few blocks, so many of them that the threads share them out. */
function smallSizes(seed: number, count: number): WorkSize[] {
  const next = randomUnits(seed);
  return Array.from({ length: count }, () => {
    const [rows, width] = [Math.floor(next() * 9), Math.floor(next() * 40)];
    if (next() < 0.5) return { rows, width };
    return { rows, width, slices: Math.floor(next() * 12), spread: next() };
  });
}

/** Large variables of all kinds, about 60 blocks each, none of them a whole number; each is planned when asked for first. */
const largeSizes = {
  long: { rows: 1_000_003, width: 1 },
  wide: { rows: 37, width: 27_001 },
  rowsOfHalfBlocks: { rows: 60, width: 8193, slices: 70, spread: 0.7 },
  rowsOfBlocks: { rows: 20, width: 16_385, slices: 65 },
  longRows: { rows: 9, width: 40_001, slices: 61, spread: 0.6 },
  shortRows: { rows: 10_000, width: 61, slices: 15_000 },
  shortestRows: { rows: 300_000, width: 1, slices: 200_003, spread: 0.3 },
} satisfies Record<string, WorkSize>;
type Large = keyof typeof largeSizes;
const largeSeed = fc.sample(fc.nat(), 1)[0] as number;
const largePlans = new Map<Large, Plan>();

function large(...names: readonly Large[]): Plan {
  const plans = names.map((name, index) => {
    const plan = largePlans.get(name) ?? planOf(largeSeed + index, [largeSizes[name]]);
    largePlans.set(name, plan);
    return plan;
  });
  return { cases: plans.flatMap(({ cases }) => cases), bankBytes: undefined };
}

describe('work of every kind gives the reference’s bits', () => {
  test('in the calling thread, where it is little, whoever is asked', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.nat(6), fc.constantFrom(undefined, 4000), async (seed, count, bankBytes) => {
        const plan = planOf(seed, smallSizes(seed, count), bankBytes);
        for (const executor of [here, ...threads]) await checkPlan(plan, executor);
      }),
      { numRuns: 10, endOnFailure: true },
    );
  });

  test('with 1, 2 and 4 threads, on many small variables at once, in memory cut into small banks', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.constantFrom(undefined, 9000), async (seed, bankBytes) => {
        const plan = planOf(seed, smallSizes(seed, manyBlocks), bankBytes);
        for (const executor of [here, ...threads.map(handingOver)]) await checkPlan(plan, executor);
      }),
      { numRuns: 2, endOnFailure: true },
    );
  });

  for (const names of [
    ['long', 'rowsOfHalfBlocks'],
    ['wide', 'shortRows'],
    ['rowsOfBlocks', 'longRows'],
    ['shortestRows', 'long'],
  ] as const) {
    test(`with 1, 2 and 4 threads, on the variables ${names.join(' and ')}, in one bank and in several`, async () => {
      const plan = large(...names);
      for (const executor of threads.map(handingOver)) await checkPlan(plan, executor).catch(withSeed);
      await checkPlan({ ...plan, bankBytes: 1_000_000 }, handingOver(threads[1])).catch(withSeed);
    });
  }

  function withSeed(error: Error): never {
    assert.fail(`seed ${largeSeed}: ${error.message}`);
  }
});

describe('looking over values', () => {
  test('finds the same sums of squares, bit for bit, with any number of threads', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(),
        fc.constantFrom(...floatDtypes),
        fc.constantFrom(null, 0.5),
        fc.boolean(),
        async (seed, wire, limit, isShared) => {
          const counts = [70 * blockElements + 5, 1, 0, 3 * blockElements - 1];
          const tensors = counts.map((count, index) => randomValues(seed + index, count, wire, 1));
          const expected = tensors.flatMap((values, index) =>
            variableDtypes.map((dtype) => scanValues(values, counts[index] as number, dtype, limit)),
          );
          const given = isShared ? tensors.map(shared) : tensors;
          for (const executor of [here, ...threads.map(handingOver)]) {
            assert.deepEqual(await scanAll(executor, given, counts, limit), expected);
          }
        },
      ),
      { numRuns: 4, endOnFailure: true },
    );
  });

  test('finds one infinity or NaN, wherever it is', async () => {
    const count = 70 * blockElements + 5;
    for (const at of [0, 16 * blockElements, 40 * blockElements - 1, count - 1]) {
      const values = new Float64Array(count);
      values[at] = at % 2 === 0 ? Number.NaN : Number.NEGATIVE_INFINITY;
      for (const executor of [here, ...threads.map(handingOver)]) {
        const scans = await scanAll(executor, [encode(values, 'F32')], [count], null);
        assert.deepEqual(
          scans.map(({ finite }) => finite),
          [false, false],
        );
      }
    }
  });

  /** Each of the tensors in both dtypes, in one run. */
  async function scanAll(
    executor: Executor,
    tensors: readonly Values[],
    counts: readonly number[],
    limit: number | null,
  ): Promise<Scan[]> {
    const works = tensors.flatMap((values, index) =>
      variableDtypes.map((dtype: VariableDtype) => {
        const count = counts[index] as number;
        const sums = new Float64Array(new SharedArrayBuffer(8 * Math.ceil(count / blockElements)));
        return { kind: 'scan' as const, values, count, dtype, limit, sums };
      }),
    );
    await executor.run(works);
    return works.map(({ sums, dtype }) => scanOf(sums, dtype));
  }
});

describe('progress', () => {
  test('tells every block of every work exactly once, when its values have come', async () => {
    const small = planOf(7, smallSizes(7, 100));
    const plan = { ...small, cases: [...large('wide').cases, ...small.cases, ...large('rowsOfBlocks').cases] };
    for (const executor of [here, ...threads]) {
      const { memories, places } = prepare(plan);
      const works = stepsOf(plan, memories, places);
      const told = works.map((work) => Array<number>(blocksOf(work)).fill(0));
      await executor.run(works, (done) => {
        for (const { work, first, last } of done) {
          const counts = told[work] as number[];
          for (let block = first; block < last; block++) counts[block] = (counts[block] as number) + 1;
          if (works[work]?.kind !== 'dense') continue;
          const [place, { updated }] = [places[work] as Values, plan.cases[work] as { updated: Values }];
          assertSameBits(blocksIn(place, first, last), blocksIn(updated, first, last), 'element told');
        }
      });
      for (const counts of told)
        assert.ok(
          counts.every((count) => count === 1),
          `${counts}`,
        );
      executor.forget(memories);
    }
  });

  function blocksIn({ dtype, bytes }: Values, first: number, last: number): Values {
    const blockBytes = blockElements * { F16: 2, BF16: 2, F32: 4, F64: 8 }[dtype];
    return { dtype, bytes: bytes.subarray(first * blockBytes, last * blockBytes) };
  }
});

describe('several runs at once', () => {
  test('on the same threads give the bits that each gives alone', async () => {
    const plans = [
      planOf(11, smallSizes(11, manyBlocks)),
      large('long', 'rowsOfHalfBlocks'),
      { ...large('shortRows', 'rowsOfBlocks'), bankBytes: 1_000_000 },
      planOf(14, smallSizes(14, 5)),
    ];
    for (const executor of threads) await Promise.all(plans.map((plan) => checkPlan(plan, executor)));
  });

  test('are done side by side: a short one does not wait for the end of a long one', async () => {
    const scans = (count: number) =>
      Array.from({ length: count }, (): Work => {
        const sums = new Float64Array(new SharedArrayBuffer(8));
        return { kind: 'scan', values: encode([1, 2], 'F32'), count: 2, dtype: 'F32', limit: null, sums };
      });
    // Of one thread, since several may be held up by the system while others go on.
    let long = 0;
    let longAtShortsEnd = 0;
    await Promise.all([
      threads[0].run(scans(3000), (done) => {
        long += done.length;
      }),
      threads[0].run(scans(manyBlocks)).then(() => {
        longAtShortsEnd = long;
      }),
    ]);
    assert.equal(long, 3000);
    assert.ok(longAtShortsEnd < 3 * manyBlocks, `${longAtShortsEnd} of the long one's 3000 were done first`);
  });
});

describe('the calling thread', () => {
  test('is not needed while the threads work', async () => {
    const executor = threads[1];
    const plan = large('long', 'wide');
    await checkPlan(plan, executor);
    const { memories, places } = prepare(plan);
    const [{ bytes }] = places as [Values, Values];
    const untouched = bytes.slice();
    const done = executor.run(stepsOf(plan, memories, places));
    // It does nothing but wait until the first values are there.
    const deadline = performance.now() + 5000;
    while (Buffer.compare(bytes, untouched) === 0 && performance.now() < deadline) pause(5);
    assert.ok(performance.now() < deadline);
    await done;
  });

  test('does all of it where there are no threads, or where results are to go to memory of its own', async () => {
    const plan = large('long', 'shortRows');
    const own = () =>
      plan.cases.map(({ updated: { dtype, bytes } }) => ({ dtype, bytes: new Uint8Array(bytes.length) }));
    for (const executor of [new Threads(0), threads[1]]) {
      const { memories, ...prepared } = prepare(plan);
      const places = executor === threads[1] ? own() : prepared.places;
      let told: readonly Range[] = [];
      const done = executor.run(stepsOf(plan, memories, places), (ranges) => {
        told = [...told, ...ranges];
      });
      assert.deepEqual(
        told.map(({ work }) => work),
        [0, 1],
      );
      assertTaken(plan, memories);
      assertSameBits(places[0] as Values, plan.cases[0]?.updated as Values);
      await done;
      await assertReadHere(executor, memories, own());
    }
  });

  async function assertReadHere(
    executor: Executor,
    memories: readonly VariableMemory[],
    places: readonly Values[],
  ): Promise<void> {
    const memory = memories[0] as VariableMemory;
    const to = places[0] as Values;
    const expected = { dtype: to.dtype, bytes: new Uint8Array(to.bytes.length) };
    memory.read('m', 0, memory.rows, expected);
    const rows = Float64Array.from({ length: memory.rows }, (_, row) => row);
    const sums = new Float64Array(Math.ceil(memory.rows / blockElements));
    const scan = { kind: 'scan', values: expected, count: memory.rows, dtype: 'F64', limit: null, sums } as const;
    for (const work of [
      { kind: 'read', memory, part: 'm', to },
      { kind: 'readRows', memory, part: 'm', rows, to },
      scan,
    ] as const) {
      to.bytes.fill(0xff);
      await executor.run([work]);
      if (work.kind !== 'scan') assertSameBits(to, expected);
    }
    assert.deepEqual(scanOf(sums, 'F64'), scanValues(expected, memory.rows, 'F64', null));
  }
});

describe('memory that is to be forgotten', () => {
  test('stays usable for whoever still has it, even in a run under way', async () => {
    const plan = planOf(31, smallSizes(31, manyBlocks), 9000);
    for (const executor of threads) {
      const { memories } = prepare(plan);
      const first = executor.run(stepsOf(plan, memories));
      executor.forget(memories);
      await first;
      assertTaken(plan, memories);
      // The same memory once more, of which the threads must be told anew.
      prepare(plan);
      await handingOver(executor).run(stepsOf(plan, memories));
      assertTaken(plan, memories);
    }
  });
});

/** Blocks the calling thread. */
function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
