import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { pooledIdleMs } from '../../src/limits.ts';
import { BufferPool, copyBytes } from '../../src/tensor/buffer-pool.ts';

const granule = 65_536;

/** Compared as objects: to show what is in two memories takes minutes. */
function assertShare(a: Buffer | undefined, b: Buffer | undefined): void {
  assert.ok(a?.buffer === b?.buffer, 'they must have the same memory');
}

function assertApart(a: Buffer | undefined, b: Buffer | undefined): void {
  assert.ok(a?.buffer !== b?.buffer, 'they must not have the same memory');
}

describe('a pool', () => {
  test('uses a buffer that was given back again, for as much or somewhat less', () => {
    const pool = new BufferPool(100, 10 * granule);
    const first = pool.take(granule);
    pool.give(first);
    const second = pool.take(granule - 400);
    assert.equal(second.length, granule - 400);
    assertShare(second, first);
  });

  test('uses a buffer again for somewhat more, since the next reply may be a digit longer', () => {
    const pool = new BufferPool(100, 10 * granule);
    const first = pool.take(granule + 1000);
    pool.give(first);
    const second = pool.take(granule + 1001);
    assert.equal(second.length, granule + 1001);
    assertShare(second, first);
  });

  test('gives a buffer in use to nobody else', () => {
    const pool = new BufferPool(100, 10 * granule);
    const taken = [pool.take(1000), pool.take(1000)];
    pool.give(taken[0] as Buffer);
    taken.push(pool.take(granule - 1), pool.take(granule - 1));
    assertShare(taken[2], taken[0]);
    assertApart(taken[2], taken[1]);
    assertApart(taken[3], taken[2]);
    assertApart(taken[3], taken[1]);
  });

  test('leaves a far larger buffer for those who need it, and a smaller one does not do', () => {
    const pool = new BufferPool(100, 10 * granule);
    const large = pool.take(4 * granule);
    pool.give(large);
    assertApart(pool.take(2 * granule - 1), large);
    assertApart(pool.take(4 * granule + 1), large);
    assertShare(pool.take(2 * granule), large);
  });

  test('prefers the smallest that does', () => {
    const pool = new BufferPool(100, 20 * granule);
    const buffers = [7, 5, 6].map((granules) => pool.take(granules * granule));
    for (const each of buffers) pool.give(each);
    assertShare(pool.take(4 * granule), buffers[1]);
    assertShare(pool.take(4 * granule), buffers[2]);
  });

  test('keeps no more than the bound, the newest first, and no small ones', () => {
    const pool = new BufferPool(100, 2.5 * granule);
    const three = [pool.take(granule), pool.take(granule), pool.take(granule)];
    for (const each of three) pool.give(each);
    const again = new Set([pool.take(granule), pool.take(granule), pool.take(granule)].map(({ buffer }) => buffer));
    assert.deepEqual(
      three.map(({ buffer }) => again.has(buffer)),
      [false, true, true],
    );
    const small = pool.take(99);
    pool.give(small);
    assert.notEqual(pool.take(99), small);
  });

  test('does not hand out twice what was given back twice', () => {
    const pool = new BufferPool(100, 10 * granule);
    const taken = pool.take(1000);
    pool.give(taken);
    pool.give(taken);
    assertApart(pool.take(granule), pool.take(granule));
  });

  test('gives memory that threads share, unless it is little, and exactly as much as was asked for', () => {
    const pool = new BufferPool(100, 10 * granule);
    for (const bytes of [0, 1, 99, 100, granule - 1, granule, granule + 1, 3 * granule]) {
      const taken = pool.take(bytes);
      assert.equal(taken.length, bytes);
      assert.ok(taken.byteOffset + taken.length <= taken.buffer.byteLength);
      assert.equal(taken.buffer instanceof SharedArrayBuffer, bytes >= 100, `${bytes}`);
      pool.give(taken);
    }
  });

  test('takes back no memory that is not shared, whoever made it', () => {
    const pool = new BufferPool(100, 10 * granule);
    const foreign = Buffer.from(new ArrayBuffer(granule));
    pool.give(foreign);
    assertApart(pool.take(granule), foreign);
  });
});

describe('what lies idle in a pool', () => {
  /** Takes the pool's clock over; what comes back makes the time pass until the next sweep, if one is to come. */
  function sweeping(t: TestContext): () => boolean {
    let callback: (() => void) | undefined;
    const timer = { unref: t.mock.fn(() => timer) };
    t.mock.method(globalThis, 'setInterval', (sweep: () => void, milliseconds: number) => {
      assert.equal(callback, undefined, 'there must be one clock at a time');
      assert.equal(milliseconds, pooledIdleMs);
      callback = sweep;
      return timer;
    });
    t.mock.method(globalThis, 'clearInterval', () => {
      callback = undefined;
    });
    return () => {
      const isRunning = callback !== undefined;
      if (isRunning) assert.ok(timer.unref.mock.callCount() > 0, 'a clock must keep no process alive');
      callback?.();
      return isRunning;
    };
  }
  /** Whether the pool still has the buffer; to look is to use it. */
  function has(pool: BufferPool, { buffer }: Buffer): boolean {
    const taken = pool.take(buffer.byteLength);
    pool.give(taken);
    return taken.buffer === buffer;
  }

  test('is let go at the second sweep that finds it idle, and no sooner', (t) => {
    const sweep = sweeping(t);
    const pool = new BufferPool(100, 20 * granule);
    const [unused, used, late] = [pool.take(granule), pool.take(3 * granule), pool.take(7 * granule)];
    for (const each of [unused, used]) pool.give(each);
    sweep();
    assert.ok(has(pool, used), 'what has seen one sweep must be there');
    pool.give(late);
    sweep();
    assert.ok(!has(pool, unused), 'what was not used for two sweeps must be gone');
    assert.ok(has(pool, used), 'what was used between the sweeps must be there');
    assert.ok(has(pool, late), 'what has seen one sweep must be there');
  });

  test('stays as long as it is used between the sweeps', (t) => {
    const sweep = sweeping(t);
    const pool = new BufferPool(100, 10 * granule);
    const used = pool.take(granule);
    pool.give(used);
    for (let round = 0; round < 10; round++) {
      sweep();
      assert.ok(has(pool, used), 'what was used between the sweeps must be there');
    }
  });

  test('is all that is swept for: there is no sweep when nothing is left, and one again when there is', (t) => {
    const sweep = sweeping(t);
    const pool = new BufferPool(100, 10 * granule);
    for (let round = 0; round < 3; round++) {
      assert.equal(sweep(), false);
      const taken = pool.take(granule);
      pool.give(taken);
      assert.deepEqual([sweep(), sweep(), sweep()], [true, true, false]);
      assertApart(pool.take(granule), taken);
    }
  });
});

describe('copyBytes', () => {
  const kinds = {
    'memory of one thread': (bytes: number) => new Uint8Array(bytes),
    'shared memory': (bytes: number) => new Uint8Array(new SharedArrayBuffer(bytes)),
    'a buffer': (bytes: number) => Buffer.alloc(bytes),
  };
  const lengths = fc.oneof(fc.nat(70), fc.constantFrom(4095, 4096, 65_537, 1_000_003));

  for (const [source, makeSource] of Object.entries(kinds)) {
    for (const [target, makeTarget] of Object.entries(kinds)) {
      test(`copies any length at any alignment from ${source} to ${target}, and touches nothing else`, () => {
        fc.assert(
          fc.property(lengths, fc.nat(17), fc.nat(17), fc.nat(9), fc.nat(9), (length, from, at, before, after) => {
            const given = makeSource(from + length).subarray(from);
            given.forEach((_, k) => {
              given[k] = (k * 7 + (k >> 8) + 1) & 0xff;
            });
            const whole = makeTarget(before + at + length + after).fill(0xee);
            copyBytes(given, whole.subarray(before), at);
            const expected = Buffer.alloc(whole.length, 0xee);
            given.forEach((byte, k) => {
              expected[before + at + k] = byte;
            });
            assert.equal(Buffer.compare(whole, expected), 0);
          }),
          { numRuns: 25 },
        );
      });
    }
  }

  test('refuses what goes beyond the end, and leaves all as it was', () => {
    for (const make of Object.values(kinds)) {
      const to = make(10);
      assert.throws(() => copyBytes(make(5).fill(1), to, 6), RangeError);
      assert.ok(to.every((byte) => byte === 0));
    }
  });

  test('reaches beyond 2 GiB', () => {
    const to = new Uint8Array(new SharedArrayBuffer(2 ** 31 + 2 ** 20));
    copyBytes(Uint8Array.of(1, 2, 3), to, 2 ** 31 + 5);
    assert.deepEqual([...to.subarray(2 ** 31 + 4, 2 ** 31 + 9)], [0, 1, 2, 3, 0]);
    assert.deepEqual([...to.subarray(4, 9)], [0, 0, 0, 0, 0]);
  });
});
