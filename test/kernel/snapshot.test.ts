/** A snapshot: the bytes of one moment, whatever changes while it is read, at the cost of one copy of what changes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Values } from '../../src/kernel/blocks.ts';
import { type Part, parts } from '../../src/kernel/extent.ts';
import { VariableSnapshot } from '../../src/kernel/snapshot.ts';
import { allocate, type VariableMemory } from '../../src/kernel/variable-memory.ts';
import { bytesPerElement } from '../../src/tensor/dtype.ts';
import { encode, randomFloats, randomUnits } from '../support/floats.ts';
import {
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

const blockElements = 16_384;

function bytesOf(memory: VariableMemory, part: Part): Uint8Array {
  const bytes = new Uint8Array(memory.rows * memory.width * bytesPerElement[memory.dtype]);
  memory.read(part, 0, memory.rows * memory.width, { dtype: memory.dtype, bytes });
  return bytes;
}

/** One random change of the memory, of any of the kinds there are. */
async function change(memory: VariableMemory, given: StepCase, kind: number): Promise<void> {
  const { dtype, rows, width } = memory;
  const own = { ...given, dtype };
  const next = randomUnits(given.seed);
  const indices = randomRows(given.seed, rows === 0 ? 0 : Math.ceil(next() * 4), rows);
  const part = parts[given.seed % 3] as Part;
  const first = Math.floor(next() * rows * width);
  const count = Math.floor(next() * (rows * width - first + 1));
  const scalars = scalarsOf(own);
  if (kind === 0) await takeDense(memory, { gradient: randomGradient(own, rows * width).sent, scalars });
  else if (kind === 1) {
    await takeSparse(memory, indices, { gradient: randomGradient(own, indices.length * width).sent, scalars });
  } else if (kind === 2) memory.write(part, first, count, encode(randomFloats(given.seed, count, dtype), dtype));
  else {
    const named = [...new Set(indices)];
    memory.writeRows(part, named, encode(randomFloats(given.seed, named.length * width, dtype), dtype));
  }
}

const shapes = fc.constantFrom<[number, number][]>(
  [1, 1],
  [0, 3],
  [300, 200],
  [50_000, 1],
  [4, 16_384],
  [3, 16_385],
  [2, 40_000],
);
const banks = fc.constantFrom(undefined, 300_000);

describe('a snapshot read piece by piece', () => {
  test('gives exactly the bytes of its moment, whatever steps and assignments come between the pieces', async () => {
    const plan = fc.array(
      fc.oneof(
        fc.record({ take: fc.constantFrom(...parts), count: fc.integer({ min: 1, max: 3 }) }),
        fc.record({ kind: fc.nat(3), given: stepCases }),
      ),
      { maxLength: 14 },
    );
    await fc.assert(
      fc.asyncProperty(stepCases, shapes, banks, plan, async (start, [rows, width], bankBytes, actions) => {
        const extent = { dtype: start.dtype, rows, width };
        const [memory] = holding([extent], [randomState(start, rows * width)], bankBytes) as [VariableMemory];
        const moment = { w: bytesOf(memory, 'w'), m: bytesOf(memory, 'm'), v: bytesOf(memory, 'v') };
        const got = {
          w: new Uint8Array(moment.w.length),
          m: new Uint8Array(moment.w.length),
          v: new Uint8Array(moment.w.length),
        };
        const read = { w: 0, m: 0, v: 0 };
        const at = { w: 0, m: 0, v: 0 };
        const snapshot = memory.beginSnapshot();
        const take = (part: Part, count: number): void => {
          const blocks = Math.min(count, snapshot.blocks - read[part]);
          at[part] += snapshot.take(part, read[part], blocks, got[part].subarray(at[part]));
          read[part] += blocks;
        };
        for (const action of actions) {
          if ('take' in action) take(action.take, action.count);
          else await change(memory, action.given, action.kind);
        }
        for (const part of parts) take(part, snapshot.blocks);
        memory.endSnapshot();
        for (const part of parts) {
          assert.equal(at[part], moment[part].length);
          assert.equal(Buffer.compare(got[part], moment[part]), 0, `part ${part} must be as it was`);
        }
      }),
      { numRuns: 30 },
    );
  });

  test('lets the changes through: the memory holds the same bits as without a snapshot', async () => {
    for (const dtype of variableDtypes) {
      const given: StepCase = { dtype, wire: dtype, misalignment: 0, reply: dtype, seed: 5, iterations: 1 };
      const extent = { dtype, rows: 50, width: 1000 };
      const states = [randomState(given, 50_000), randomState(given, 50_000)];
      const [watched, free] = holding([extent, extent], states) as [VariableMemory, VariableMemory];
      watched.beginSnapshot();
      for (const memory of [watched, free]) for (let kind = 0; kind < 4; kind++) await change(memory, given, kind);
      for (const part of parts) assert.equal(Buffer.compare(bytesOf(watched, part), bytesOf(free, part)), 0);
    }
  });
});

describe('a snapshot', () => {
  /** Memory of three blocks that counts how often each is read; a block's every byte is its number. */
  function counted() {
    const reads: string[] = [];
    const memory = {
      dtype: 'F32' as const,
      rows: 3,
      width: blockElements,
      read(part: Part, first: number, count: number, to: Values): void {
        reads.push(`${part}${first / blockElements}`);
        to.bytes.fill(first / blockElements, 0, count * 4);
      },
    };
    return { snapshot: new VariableSnapshot(memory), reads };
  }
  const room = () => new Uint8Array(3 * blockElements * 4);

  test('copies a block before its first change only, and no block that does not change', () => {
    const { snapshot, reads } = counted();
    snapshot.preserve(blockElements, 1);
    snapshot.preserve(blockElements + 5, 100);
    assert.deepEqual(reads, ['w1', 'm1', 'v1']);
  });

  test('copies all blocks that a change reaches into, and none for a change of nothing', () => {
    const { snapshot, reads } = counted();
    snapshot.preserve(blockElements, 0);
    snapshot.preserve(0, 0);
    assert.deepEqual(reads, []);
    snapshot.preserve(blockElements - 1, 2);
    assert.deepEqual(reads, ['w0', 'w1', 'm0', 'm1', 'v0', 'v1']);
  });

  test('copies nothing that has been read', () => {
    const { snapshot, reads } = counted();
    for (const part of parts) snapshot.take(part, 0, 2, room());
    reads.length = 0;
    snapshot.preserve(0, 2 * blockElements);
    assert.deepEqual(reads, []);
    snapshot.preserve(0, 3 * blockElements);
    assert.deepEqual(reads, ['w2', 'm2', 'v2']);
  });

  test('reads a block that it has copied from its copy, once', () => {
    const { snapshot, reads } = counted();
    snapshot.preserve(0, 1);
    reads.length = 0;
    const to = room();
    assert.equal(snapshot.take('w', 0, 2, to), 2 * blockElements * 4);
    assert.deepEqual(reads, ['w1']);
    assert.deepEqual([to[0], to[blockElements * 4 - 1], to[blockElements * 4]], [0, 0, 1]);
  });

  test('is one at a time, and another one can follow', () => {
    const [memory] = allocate([{ dtype: 'F32', rows: 1, width: 1 }]) as [VariableMemory];
    memory.beginSnapshot();
    assert.throws(() => memory.beginSnapshot(), /a snapshot is under way/);
    memory.endSnapshot();
    memory.write('w', 0, 1, encode([7], 'F32'));
    const to = new Uint8Array(4);
    memory.beginSnapshot().take('w', 0, 1, to);
    assert.deepEqual(to, encode([7], 'F32').bytes);
  });
});
