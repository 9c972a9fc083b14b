/**
 * Shared memory that nothing refers to any more goes back to the system, in whichever thread it was last referred to. It is
 * looked at from outside: by what the process occupies.
 */
import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { noClip } from '../../src/kernel/blocks.ts';
import { Threads } from '../../src/kernel/threads.ts';
import { allocate } from '../../src/kernel/variable-memory.ts';
import { BufferPool } from '../../src/tensor/buffer-pool.ts';
import { made, onReclaim, reclaim } from '../../src/tensor/reclaim.ts';
import { sharedRoom } from '../support/work-cases.ts';

const MiB = 2 ** 20;
let collections = 0;
onReclaim(() => collections++);

const resident = () => process.memoryUsage().rss / MiB;

/** Until there has been one more collection than so many. */
async function collected(before: number): Promise<void> {
  for (const end = performance.now() + 10_000; collections === before; await delay(20)) {
    assert.ok(performance.now() < end, 'there must be a collection');
  }
}

/** Other threads collect when they are told to, so it takes a moment. */
async function assertResidentBelow(limit: number): Promise<void> {
  for (const end = performance.now() + 5000; resident() > limit && performance.now() < end; ) await delay(50);
  assert.ok(resident() <= limit, `${Math.round(resident())} MiB must be at most ${Math.round(limit)}`);
}

/** Writes to every page of the memory, so that the system has to have it somewhere. */
function occupied<M extends ArrayBufferLike>(memory: M): M {
  const bytes = new Uint8Array(memory);
  for (let at = 0; at < bytes.length; at += 4096) bytes[at] = 1;
  return memory;
}

function isOccupied(memory: ArrayBufferLike): boolean {
  const bytes = new Uint8Array(memory);
  for (let at = 0; at < bytes.length; at += 4096) if (bytes[at] !== 1) return false;
  return true;
}

/** V8 counts a SharedArrayBuffer, but leaves it at that until there is more of them; WASM memory it does not count. */
const kinds = {
  'a SharedArrayBuffer': { mib: 60, count: 1, make: (bytes: number) => new SharedArrayBuffer(bytes) },
  'shared WASM memory': {
    mib: 25,
    count: 16,
    make: (bytes: number) => {
      const size = { initial: bytes / 65_536, maximum: bytes / 65_536, shared: true };
      return new WebAssembly.Memory(size).buffer;
    },
  },
};

beforeEach(async () => {
  // Nothing is left to come of the test before.
  await delay(600);
});

describe('what nothing refers to any more', () => {
  for (const [what, { mib, count, make }] of Object.entries(kinds)) {
    test(`goes back to the system, if it is ${what}, and what is still referred to stays`, async () => {
      const kept = occupied(make(mib * MiB));
      const start = resident();
      for (let k = 0; k < count; k++) occupied(make(mib * MiB));
      const before = collections;
      await delay(600);
      assert.equal(collections, before);
      assert.ok(resident() > start + 0.8 * count * mib, 'the memory must be there to be given back');
      reclaim();
      await collected(before);
      await assertResidentBelow(start + 0.3 * count * mib);
      assert.ok(isOccupied(kept));
    });
  }

  test('goes back if a pool lets go of it, which has no room for more', async () => {
    const pool = new BufferPool(1, 60 * MiB);
    const start = resident();
    let buffers = Array.from({ length: 5 }, () => pool.take(50 * MiB));
    for (const { buffer } of buffers) occupied(buffer);
    assert.ok(resident() > start + 0.8 * 250, 'the memory must be there to be given back');
    const before = collections;
    for (const each of buffers) pool.give(each);
    buffers = [];
    await collected(before);
    await assertResidentBelow(start + 50 + 0.3 * 200);
    assert.ok(isOccupied(pool.take(50 * MiB).buffer));
  });

  test('goes back if threads have worked on it and are told to forget it', async () => {
    const threads = new Threads(2);
    after(() => threads.close());
    const values = { dtype: 'F32', bytes: new Uint8Array(sharedRoom(4_000_000, 'F32').bytes) } as const;
    /** A step on 48 MB, all of it. */
    const step = async (): Promise<void> => {
      const memories = allocate([{ dtype: 'F32', rows: 4_000_000, width: 1 }]);
      const scalars = { alpha: 1, beta1: 0.5, omb1: 0.5, beta2: 0.5, eps: 1 };
      const [memory] = memories as [(typeof memories)[number]];
      await threads.run([
        { kind: 'dense', memory, gradient: values, clip: noClip, scalars, updated: undefined, changes: undefined },
      ]);
      threads.forget(memories);
    };
    await step();
    await delay(700);
    const start = resident();
    const before = collections;
    for (let k = 0; k < 8; k++) await step();
    await collected(before);
    await delay(700);
    await assertResidentBelow(start + 150);
  });
});

describe('a collection', () => {
  test('tells its listeners, and is one for several calls that come before it', async () => {
    const before = collections;
    for (let call = 0; call < 5; call++) reclaim();
    assert.equal(collections, before, 'the caller must not wait for it');
    await collected(before);
    await delay(700);
    assert.equal(collections, before + 1);
    reclaim();
    await collected(before + 1);
    assert.equal(collections, before + 2);
  });

  test('comes by itself when a GiB of shared memory has been made since the last one', async () => {
    const before = collections;
    made(1024 * MiB);
    await delay(700);
    assert.equal(collections, before);
    made(1);
    await collected(before);
    made(1024 * MiB);
    await delay(700);
    assert.equal(collections, before + 1, 'the count must have begun again');
    reclaim();
    await collected(before + 1);
  });
});
