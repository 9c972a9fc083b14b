/** A sparse gradient's indices: read from every dtype at any alignment, and brought together by row. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { groupRows, readIndices } from '../../src/optimizer/indexed-slices.ts';
import { bytesPerElement, type IndexDtype } from '../../src/tensor/dtype.ts';

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

describe('groupRows', () => {
  /** For every row that is named, the positions that name it, in order. */
  function naive(indices: readonly number[]): [number, number[]][] {
    const rows = [...new Set(indices)].sort((a, b) => a - b);
    return rows.map((row) => [row, indices.flatMap((each, position) => (each === row ? [position] : []))]);
  }

  function groups(indices: readonly number[]): [number, number[]][] {
    const { rows, starts, order } = groupRows(Float64Array.from(indices));
    assert.equal(starts.length, rows.length + 1);
    assert.equal(order.length, indices.length);
    return [...rows].map((row, k) => [row, [...order.subarray(starts[k], starts[k + 1])]]);
  }

  test('names each row once, ascending, with its positions first to last', () => {
    const row = fc.oneof(fc.nat(5), fc.nat(2 ** 33));
    fc.assert(
      fc.property(fc.array(row, { maxLength: 60 }), (indices) => {
        assert.deepEqual(groups(indices), naive(indices));
        const sorted = indices.toSorted((a, b) => a - b);
        assert.deepEqual(groups(sorted), naive(sorted));
      }),
    );
  });

  test('of nothing is nothing, and of one row many times is one row', () => {
    assert.deepEqual(groups([]), []);
    assert.deepEqual(groups([4, 4, 4]), [[4, [0, 1, 2]]]);
    assert.deepEqual(groups([3, 1, 3, 0, 3, 1]), [
      [0, [3]],
      [1, [1, 5]],
      [3, [0, 2, 4]],
    ]);
  });
});
