/** Values are counted in the class of the first bound that they do not exceed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Histogram } from '../src/histogram.ts';

test('a value on a bound belongs below it, one above all bounds to the last class', () => {
  const histogram = new Histogram([1, 2, 4]);
  for (const value of [0, 1, 1.5, 2, 4, 4.5, 100]) histogram.observe(value);
  assert.deepEqual(histogram.counts, [2, 2, 1, 2]);
  assert.deepEqual([histogram.count, histogram.sum, histogram.last], [7, 113, 100]);
});

test('one without values says so', () => {
  const histogram = new Histogram([1]);
  assert.deepEqual([histogram.counts, histogram.count, histogram.sum, histogram.last], [[0, 0], 0, 0, undefined]);
});
