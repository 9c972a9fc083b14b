/**
 * Snapshots while threads take a step: whatever of one is read while the step is under way, and whatever afterwards, it has
 * the bytes of its moment; and the step has the reference's bits all the same.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import type { Values } from '../../src/kernel/blocks.ts';
import { type Part, parts } from '../../src/kernel/extent.ts';
import type { VariableSnapshot } from '../../src/kernel/snapshot.ts';
import { Threads } from '../../src/kernel/threads.ts';
import type { VariableMemory } from '../../src/kernel/variable-memory.ts';
import { assertSameBits, randomUnits } from '../support/floats.ts';
import { assertTaken, handingOver, planOf, prepare, stepsOf, type WorkSize } from '../support/work-cases.ts';

const threads = [new Threads(1), new Threads(2)];
after(() => Promise.all(threads.map((each) => each.close())));

/** Reads a snapshot out, part by part in any order, each from its first block to its last. */
class Reader {
  readonly #snapshot: VariableSnapshot;
  readonly #next = { w: 0, m: 0, v: 0 };
  readonly #at = { w: 0, m: 0, v: 0 };
  readonly #got: Record<Part, Uint8Array>;

  constructor(snapshot: VariableSnapshot, { bytes }: Values) {
    this.#snapshot = snapshot;
    this.#got = { w: bytes.slice().fill(0), m: bytes.slice().fill(0), v: bytes.slice().fill(0) };
  }

  take(part: Part, count: number): void {
    const blocks = Math.min(count, this.#snapshot.blocks - this.#next[part]);
    this.#at[part] += this.#snapshot.take(part, this.#next[part], blocks, this.#got[part].subarray(this.#at[part]));
    this.#next[part] += blocks;
  }

  /** Takes what is left, and holds all of it against the moment that the snapshot was taken. */
  assertHas(moment: Readonly<Record<Part, Values>>): void {
    for (const part of parts) {
      this.take(part, this.#snapshot.blocks);
      assert.equal(this.#at[part], moment[part].bytes.length);
      assertSameBits({ dtype: moment[part].dtype, bytes: this.#got[part] }, moment[part], `${part}, element`);
    }
  }
}

/** Of many pieces each; the rows of several pieces share blocks of the snapshot. */
const sizes: Record<string, WorkSize> = {
  'a dense step': { rows: 2_500_003, width: 1 },
  'a sparse step on short rows': { rows: 12_000, width: 100, slices: 30_000 },
  'a sparse step on long rows': { rows: 60, width: 20_000, slices: 300, spread: 0.9 },
};

for (const [what, size] of Object.entries(sizes)) {
  test(`${what} by threads leaves a snapshot as it was, whatever of it is read meanwhile`, async () => {
    const seeds = fc.sample(fc.nat(), 1) as [number];
    const plan = planOf(seeds[0], [size]);
    const [moment] = plan.cases.map(({ before }) => before) as [Readonly<Record<Part, Values>>];
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.constantFrom(...threads), async (seed, executor) => {
        const next = randomUnits(seed);
        const { memories } = prepare(plan);
        const [memory] = memories as [VariableMemory];
        const snapshot = memory.beginSnapshot();
        const reader = new Reader(snapshot, moment.w);
        const most = next() * 0.1 * snapshot.blocks;
        const takeSome = () => reader.take(parts[Math.floor(next() * 3)] as Part, Math.ceil(next() * most));
        try {
          if (next() < 0.5) takeSome();
          let running = true;
          const run = handingOver(executor)
            .run(stepsOf(plan, memories), takeSome)
            .finally(() => {
              running = false;
            });
          for (; running; await turn()) if (next() < 0.5) takeSome();
          await run;
          reader.assertHas(moment);
          assertTaken(plan, memories);
        } catch (error) {
          assert.fail(`plan of ${seeds[0]}: ${error}`);
        } finally {
          memory.endSnapshot();
        }
      }),
      { numRuns: 6, endOnFailure: true },
    );
  });
}
