import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BufferPool } from '../../src/tensor/buffer-pool.ts';

test('a buffer that was given back is used again, for as much or somewhat less', () => {
  const pool = new BufferPool(100, 10_000);
  const first = pool.take(1000);
  pool.give(first);
  const second = pool.take(600);
  assert.equal(second.length, 600);
  assert.equal(second.buffer, first.buffer);
});

test('a buffer in use is nobody else’s', () => {
  const pool = new BufferPool(100, 10_000);
  const taken = [pool.take(1000), pool.take(1000)];
  pool.give(taken[0] as Buffer);
  taken.push(pool.take(1000), pool.take(1000));
  assert.notEqual(taken[2]?.buffer, taken[1]?.buffer);
  assert.notEqual(taken[3]?.buffer, taken[2]?.buffer);
  assert.notEqual(taken[3]?.buffer, taken[1]?.buffer);
});

test('a far larger buffer is left for those who need it, and a smaller one does not do', () => {
  const pool = new BufferPool(100, 10_000);
  const large = pool.take(4000);
  pool.give(large);
  assert.notEqual(pool.take(1999).buffer, large.buffer);
  assert.notEqual(pool.take(4001).buffer, large.buffer);
  assert.equal(pool.take(2000).buffer, large.buffer);
});

test('no more than the bound is kept, the newest first, and no small ones', () => {
  const pool = new BufferPool(100, 2500);
  const three = [pool.take(1000), pool.take(1000), pool.take(1000)];
  for (const each of three) pool.give(each);
  const again = new Set([pool.take(1000), pool.take(1000), pool.take(1000)].map(({ buffer }) => buffer));
  assert.deepEqual(
    three.map(({ buffer }) => again.has(buffer)),
    [false, true, true],
  );
  const small = pool.take(99);
  pool.give(small);
  assert.notEqual(pool.take(99), small);
});

test('giving the same buffer back twice does not hand it out twice', () => {
  const pool = new BufferPool(100, 10_000);
  const taken = pool.take(1000);
  pool.give(taken);
  pool.give(taken);
  assert.notEqual(pool.take(1000).buffer, pool.take(1000).buffer);
});
