/** A sparse gradient's indices: read from every dtype at any alignment, and brought together by row. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { groupByRow, readIndices, unionOfRows } from '../../src/optimizer/indexed-slices.ts';
import { bytesPerElement, type IndexDtype } from '../../src/tensor/dtype.ts';
import { randomUnits } from '../support/floats.ts';

function tensor(indices: readonly bigint[], dtype: IndexDtype, misalignment = 0) {
  const size = bytesPerElement[dtype];
  const bytes = new Uint8Array(misalignment + indices.length * size).subarray(misalignment);
  const view = new DataView(bytes.buffer, misalignment);
  indices.forEach((index, k) => {
    if (dtype === 'I64') view.setBigInt64(k * size, index, true);
    else if (dtype === 'I32') view.setInt32(k * size, Number(index), true);
    else view.setUint32(k * size, Number(index), true);
  });
  return { dtype, shape: [indices.length], bytes };
}

describe('readIndices', () => {
  const ranges = {
    I64: { min: -(2n ** 53n), max: 2n ** 53n },
    I32: { min: -(2n ** 31n), max: 2n ** 31n - 1n },
    U32: { min: 0n, max: 2n ** 32n - 1n },
  } as const;

  for (const dtype of ['I64', 'I32', 'U32'] as const) {
    test(`gives the numbers of an ${dtype} tensor, at any alignment`, () => {
      fc.assert(
        fc.property(fc.array(fc.bigInt(ranges[dtype]), { maxLength: 9 }), fc.nat(7), (indices, misalignment) => {
          assert.deepEqual(readIndices(tensor(indices, dtype, misalignment)), Float64Array.from(indices, Number));
        }),
      );
    });

    test(`gives the ends of ${dtype}, 0 and nothing`, () => {
      const { min, max } = ranges[dtype];
      assert.deepEqual(readIndices(tensor([min, 0n, max], dtype)), Float64Array.of(Number(min), 0, Number(max)));
      assert.deepEqual(readIndices(tensor([], dtype)), new Float64Array(0));
    });
  }

  test('never brings an I64 beyond 2^53 down to a row', () => {
    const indices = [2n ** 53n + 1n, 2n ** 62n + 3n, 2n ** 63n - 1n, -(2n ** 63n), -(2n ** 53n) - 1n];
    const read = readIndices(tensor(indices, 'I64'));
    assert.ok(read.every((row) => Math.abs(row) >= 2 ** 53));
    assert.deepEqual([...read].map(Math.sign), [1, 1, 1, -1, -1]);
  });
});

describe('groupByRow', () => {
  /** The rows, ascending, and the slices of each as they come; all by looking. */
  function naive(indices: readonly number[]) {
    const rows = [...new Set(indices)].sort((a, b) => a - b);
    const slices = rows.map((row) => indices.flatMap((each, slice) => (each === row ? [slice] : [])));
    return { rows, slices };
  }

  function grouped(indices: readonly number[]) {
    const given = Float64Array.from(indices);
    const { rows, order, starts } = groupByRow(given);
    assert.deepEqual([...given], indices, 'the indices must stay as they were');
    assert.ok(rows instanceof Float64Array && order instanceof Uint32Array && starts instanceof Uint32Array);
    assert.equal(order.length, indices.length);
    assert.equal(starts.length, rows.length + 1);
    assert.equal(starts[rows.length], order.length);
    return { rows: [...rows], slices: [...rows].map((_, k) => [...order.subarray(starts[k], starts[k + 1])]) };
  }

  const largest = Number.MAX_SAFE_INTEGER;
  // Rows of one, two and more digits of 11 bits, and of more than 32 bits, with their neighbours about the borders.
  const borders = [2 ** 11, 2 ** 22, 2 ** 32, 2 ** 33, 2 ** 43, 2 ** 44, largest - 2];
  const row = fc.oneof(
    fc.nat(5),
    fc.nat(5000),
    fc.nat(2 ** 33),
    fc.maxSafeNat(),
    fc.tuple(fc.constantFrom(...borders), fc.integer({ min: -2, max: 2 })).map(([border, by]) => border + by),
  );

  test('gives the rows ascending, each with its slices in the order given', () => {
    fc.assert(
      fc.property(fc.array(row, { maxLength: 60 }), fc.nat(3), (some, repeats) => {
        const indices = Array(repeats + 1)
          .fill(some)
          .flat();
        assert.deepEqual(grouped(indices), naive(indices));
        const sorted = indices.toSorted((a, b) => a - b);
        assert.deepEqual(grouped(sorted), naive(sorted));
        assert.deepEqual(grouped(sorted.reverse()), naive(sorted));
      }),
      { numRuns: 200 },
    );
  });

  test('does so for thousands of slices, most of them repeats or most of them not', () => {
    for (const spread of [1, 7, 300, 4000, 2 ** 23, 2 ** 40]) {
      const next = randomUnits(spread);
      const indices = Array.from({ length: 3000 }, () => Math.floor(next() * spread));
      assert.deepEqual(grouped(indices), naive(indices));
    }
  });

  test('of nothing is nothing, and of one row many times is one row', () => {
    assert.deepEqual(grouped([]), { rows: [], slices: [] });
    assert.deepEqual(grouped([4, 4, 4]), { rows: [4], slices: [[0, 1, 2]] });
    assert.deepEqual(grouped([3, 1, 3, 0, 1, 3]), { rows: [0, 1, 3], slices: [[3], [1, 4], [0, 2, 5]] });
    assert.deepEqual(grouped([largest, 0, largest]), { rows: [0, largest], slices: [[1], [0, 2]] });
  });
});

test('unionOfRows gives the rows that any gradient names, ascending, each once', () => {
  const gradients = fc.array(fc.array(fc.oneof(fc.nat(9), fc.nat(2 ** 40)), { maxLength: 20 }), { maxLength: 5 });
  fc.assert(
    fc.property(gradients, (all) => {
      const union = unionOfRows(all.map((rows) => groupByRow(Float64Array.from(rows))));
      assert.deepEqual(
        [...union],
        [...new Set(all.flat())].sort((a, b) => a - b),
      );
    }),
  );
});
