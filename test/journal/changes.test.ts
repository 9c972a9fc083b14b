/** What a session's journal holds of a change is all of it: read back it is the same change, to the bit. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Change, decodeChange, encodeChange } from '../../src/journal/changes.ts';
import type { Part } from '../../src/kernel/extent.ts';
import { parseOptimizer } from '../../src/optimizer/adamax-config.ts';
import type { Slices } from '../../src/session/gradient.ts';
import { defaultSettings } from '../../src/session/settings.ts';
import { noOrigin } from '../../src/session/workers.ts';
import type { IndexDtype } from '../../src/tensor/dtype.ts';
import { elementCount } from '../../src/tensor/tensor.ts';
import { floatDtypes, randomFloats } from '../support/floats.ts';
import { dense, sparse } from '../support/sessions.ts';

const indexDtypes: readonly IndexDtype[] = ['I64', 'I32', 'U32'];

/** As a record carries it: the description as JSON, the data at any place of a larger buffer. */
function throughRecord(change: Change): Change {
  const { description, data } = encodeChange(change);
  const around = Buffer.concat([Buffer.from('abc'), ...data, Buffer.from('de')]);
  return decodeChange(change.kind, JSON.parse(JSON.stringify(description)), around.subarray(3, around.length - 2));
}

/** Comparable, whatever kind of view the bytes are. */
function plain(slices: ReadonlyMap<string, Slices>): unknown {
  return [...slices].map(([name, { values, indices }]) => {
    const tensors = indices === undefined ? [values] : [values, indices];
    return [name, ...tensors.map(({ dtype, shape, bytes }) => [dtype, shape, Buffer.from(bytes).toString('hex')])];
  });
}

/** Dense and sparse tensors of every dtype, empty ones and scalars too, with values from all corners of each. */
function everySlices(): Map<string, Slices> {
  const slices = new Map<string, Slices>();
  for (const dtype of floatDtypes) {
    for (const shape of [[], [5], [3, 2], [0, 4], [1, 1, 7]]) {
      slices.set(`dense/${dtype}/${shape}`, dense([...randomFloats(1, elementCount(shape), dtype)], shape, dtype));
    }
    for (const indexDtype of indexDtypes) {
      const values = [...randomFloats(2, 9, dtype)];
      slices.set(`sparse/${dtype}/${indexDtype}`, sparse([4, 0, 4], values, [3, 3], dtype, indexDtype));
      slices.set(`none/${dtype}/${indexDtype}`, sparse([], [], [0, 3], dtype, indexDtype));
    }
  }
  return slices;
}

describe('a change reads back as it was:', () => {
  test('gradients, dense and sparse, in every dtype that they travel in', () => {
    const gradients = everySlices();
    const read = throughRecord({ kind: 'gradients', gradients, origin: noOrigin });
    assert.ok(read.kind === 'gradients', read.kind);
    assert.deepEqual(plain(read.gradients), plain(gradients));
  });

  test('a BF16 gradient stays the two bytes a value that it came as', () => {
    const { data, description } = encodeChange({
      kind: 'gradients',
      gradients: new Map([['w', dense([1, -2, 0.5], [3], 'BF16')]]),
      origin: noOrigin,
    });
    assert.equal(Buffer.concat(data).toString('hex'), '803f00c0003f');
    assert.deepEqual(description, [['w', 'BF16', [3]]]);
  });

  test('whose gradients they are, how stale they were, and what the rate was divided by', () => {
    const by = [
      { worker: 'a', staleness: 3, clock: undefined },
      { worker: 'b "2"', staleness: undefined, clock: 17 },
    ];
    const gradients = new Map([['w', dense([1, 2], [2])]]);
    for (const origin of [
      { by, rateDivisor: 3 },
      { by: [], rateDivisor: 2 },
    ]) {
      const read = throughRecord({ kind: 'gradients', gradients, origin });
      assert.ok(read.kind === 'gradients', read.kind);
      assert.deepEqual(read.origin, origin);
      assert.deepEqual(plain(read.gradients), plain(gradients));
    }
  });

  test('a worker that is put aside, and one that is taken back', () => {
    for (const quarantined of [true, false]) {
      const change = { kind: 'worker', worker: 'w/1', quarantined } as const;
      assert.deepEqual(throughRecord(change), change);
    }
  });

  for (const part of ['w', 'm', 'v'] as Part[]) {
    test(`an assignment of ${part}, whole or by rows`, () => {
      const assignments = everySlices();
      const read = throughRecord({ kind: 'assign', part, assignments });
      assert.ok(read.kind === 'assign', read.kind);
      assert.equal(read.part, part);
      assert.deepEqual(plain(read.assignments), plain(assignments));
    });
  }

  test('a patch, with every member of optimizer and settings', () => {
    const given = {
      class_name: 'Adamax',
      config: {
        learning_rate: {
          class_name: 'PiecewiseConstantDecay',
          config: { boundaries: [10, 20], values: [0.1, 0.01, 0.001], name: null },
        },
        beta_1: 0.8,
        epsilon: 1e-9,
        decay: 0.25,
        clipnorm: 3,
        name: 'mine',
      },
    };
    const change: Change = {
      kind: 'patch',
      optimizer: parseOptimizer(given, () => 0),
      iterations: 12,
      settings: {
        ...defaultSettings,
        durability: 'everysec',
        checkpointing: { every_steps: null, every_seconds: 7, keep: 2, keep_journal_steps: 0 },
        metadata: { note: 'größe', nested: { list: [1, null, 'x'] } },
      },
    };
    assert.deepEqual(throughRecord(change), change);
  });

  test('a restore, a creation and what follows a crash', () => {
    const changes: Change[] = [
      { kind: 'restore', checkpoint: 'ckpt-000007', sha256: 'ab'.repeat(32) },
      { kind: 'create' },
      { kind: 'resume' },
    ];
    for (const change of changes) assert.deepEqual(throughRecord(change), change);
  });
});

test("a deletion is no change of a session's own journal", () => {
  assert.throws(() => decodeChange('delete', {}, new Uint8Array()), /must not hold a deletion/);
});

test('the data of a change are views of the tensors, in order, and nothing is copied', () => {
  const gradients = new Map([
    ['a', sparse([1], [1, 2], [1, 2])],
    ['b', dense([3], [1])],
  ]);
  const { data } = encodeChange({ kind: 'gradients', gradients, origin: noOrigin });
  const { a, b } = Object.fromEntries(gradients);
  assert.deepEqual(
    data.map(({ buffer, byteOffset, length }) => [buffer, byteOffset, length]),
    [a?.values, a?.indices, b?.values].map((each) => {
      const { buffer, byteOffset, length } = (each as { bytes: Uint8Array }).bytes;
      return [buffer, byteOffset, length];
    }),
  );
});
