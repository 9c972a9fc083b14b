/** The JSON of tensors: the numbers that were given, in every dtype, with their head, shapes and rows, and nothing that is not finite. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { tensorsJson } from '../../src/schemas/tensor-text.ts';
import type { FloatDtype } from '../../src/tensor/dtype.ts';
import { encode, floatDtypes, randomFloats } from '../support/floats.ts';

interface Given {
  readonly values: ArrayLike<number>;
  readonly dtype: FloatDtype;
  readonly shape?: readonly number[];
  readonly rows?: Float64Array;
}

function write(tensors: Record<string, Given>): string {
  const filled = Object.entries(tensors).map(([variable, { values, dtype, shape = [values.length], rows }]) => {
    const outgoing = {
      variable,
      dtype: dtype === 'F64' ? dtype : ('F32' as const),
      shape,
      ...(rows === undefined ? {} : { rows }),
    };
    return { outgoing, place: encode(values, dtype) };
  });
  const refuse = (variable: string, value: number, element: number) => new Error(`${variable}: ${value} at ${element}`);
  return tensorsJson({ session: 's', revision: 7 }, filled, refuse).toString('latin1');
}

describe('tensors as JSON', () => {
  test('stand by name below the head, rows with their indices', () => {
    const text = write({
      'a/b': { dtype: 'F32', values: [0.1, -0, 3], shape: [3, 1] },
      scalar: { dtype: 'F64', values: [0.1], shape: [] },
      rows: { dtype: 'BF16', values: [1, 2], shape: [2, 1], rows: Float64Array.of(4, 2 ** 40) },
      none: { dtype: 'F32', values: [], shape: [0, 2] },
    });
    assert.equal(
      text,
      '{"session":"s","revision":7,"variables":{' +
        '"a/b":{"dtype":"F32","shape":[3,1],"values":[0.1,-0,3]},' +
        '"scalar":{"dtype":"F64","shape":[],"values":[0.1]},' +
        '"rows":{"dtype":"BF16","shape":[2,1],"indices":[4,1099511627776],"values":[1,2]},' +
        '"none":{"dtype":"F32","shape":[0,2],"values":[]}}}',
    );
    assert.equal(write({}), '{"session":"s","revision":7,"variables":{}}');
  });

  test('have the bits that they were given, in every dtype and beyond a block', () => {
    for (const dtype of floatDtypes) {
      for (const count of [1, 5000, 16_385, 100_000]) {
        const values = randomFloats(count, count, dtype);
        const { variables } = JSON.parse(write({ w: { dtype, values } }));
        const read: number[] = dtype === 'F64' ? variables.w.values : variables.w.values.map(Math.fround);
        assert.equal(read.length, count);
        assert.ok(read.every((value, k) => Object.is(value, values[k])));
      }
    }
  });

  test('fit, however long their numbers are', () => {
    const values = { F32: -1e20, F64: -2.2250738585072014e-308 };
    for (const [dtype, value] of Object.entries(values)) {
      const given = { dtype: dtype as FloatDtype, values: new Float64Array(20_000).fill(value) };
      assert.deepEqual(JSON.parse(write({ v: given, w: given })).variables.w.values, Array(20_000).fill(value));
    }
  });

  test('must be finite', () => {
    for (const dtype of ['F32', 'F64'] as const) {
      for (const at of [0, 16_384, 19_999]) {
        const values = new Float64Array(20_000).fill(Number.NEGATIVE_INFINITY, at);
        const good = { dtype, values: [1] };
        assert.throws(() => write({ good, w: { dtype, values } }), { message: `w: -Infinity at ${at}` });
      }
    }
  });
});
