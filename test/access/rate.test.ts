/** So many a second, so many at once; and addresses that guess. Times are given, in milliseconds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Guesses } from '../../src/access/guesses.ts';
import { Rate } from '../../src/access/rate.ts';
import { guessesBurst, guessesPerSecond, guessingAddressesMax } from '../../src/limits.ts';

test('as many at once as the burst, and then one as often as the rate says', () => {
  const rate = new Rate(4, 2, 0);
  assert.deepEqual([rate.take(0), rate.take(0)], [0, 0]);
  assert.equal(rate.take(0), 1 / 4);
  // What is refused takes nothing, and a fourth of a second brings one.
  assert.equal(rate.take(125), 1 / 8);
  assert.equal(rate.take(250), 0);
  assert.equal(rate.take(250), 1 / 4);
});

test('a long silence brings no more than the burst', () => {
  const rate = new Rate(4, 2, 0);
  assert.deepEqual([rate.take(0), rate.take(60_000), rate.take(60_000)], [0, 0, 0]);
  assert.equal(rate.take(60_000), 1 / 4);
});

test('less than one a second lets one through', () => {
  const rate = new Rate(0.5, 0.5, 0);
  assert.equal(rate.take(0), 0);
  assert.equal(rate.take(0), 2);
  assert.equal(rate.take(2000), 0);
});

test(`an address may send ${guessesBurst} unknown tokens, then ${guessesPerSecond} a second`, () => {
  const guesses = new Guesses();
  for (let k = 0; k < guessesBurst; k++) {
    assert.equal(guesses.wait('10.0.0.1', 0), 0);
    guesses.count('10.0.0.1', 0);
  }
  assert.equal(guesses.wait('10.0.0.1', 0), 1 / guessesPerSecond);
  assert.equal(guesses.wait('10.0.0.2', 0), 0);
  assert.equal(guesses.wait('10.0.0.1', 1000 / guessesPerSecond), 0);
});

test('the addresses of an IPv6 network count as one', () => {
  const guesses = new Guesses();
  for (let k = 0; k < guessesBurst; k++) guesses.count(`2001:db8:0:7::${k}`, 0);
  for (const same of ['2001:db8:0:7:1:2:3:4', '2001:db8:0:7::']) assert.notEqual(guesses.wait(same, 0), 0, same);
  for (const other of ['2001:db8:0:8::1', '2001:db8::7:0:0:1', '::1']) assert.equal(guesses.wait(other, 0), 0, other);
  for (let k = 0; k < guessesBurst; k++) guesses.count('::ffff:10.0.0.1', 0);
  assert.equal(guesses.wait('::ffff:10.0.0.2', 0), 0);
});

test(`of ${guessingAddressesMax} addresses each is known, and one more makes the longest silent unknown`, () => {
  const guesses = new Guesses();
  for (let k = 0; k < guessesBurst; k++) guesses.count('first', 0);
  for (let k = 1; k < guessingAddressesMax; k++) guesses.count(`address-${k}`, 0);
  assert.notEqual(guesses.wait('first', 0), 0);
  guesses.count('one more', 0);
  assert.equal(guesses.wait('first', 0), 0);
});
