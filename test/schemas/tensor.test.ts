/**
 * Tensors in JSON by their properties: flat and nested values are read back as they were written, a declared dtype rounds as
 * IEEE 754 has it, and no JSON at all makes the reader throw anything but a problem.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Problem } from '../../src/errors.ts';
import { decodeTensor, type TensorJson } from '../../src/schemas/tensor.ts';
import { decode, floatDtypes, roundTo } from '../support/floats.ts';

/** A shape of at most 4 axes and 256 elements. */
const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });
/** Without sizes of 0, which leave nesting no way to say what is behind them. */
const solidShapes = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 4 });
const finite = fc.double({ noNaN: true, noDefaultInfinity: true });
const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
const filled = (shape: number[]): fc.Arbitrary<[number[], number[]]> =>
  fc.tuple(fc.constant(shape), fc.array(finite, { minLength: count(shape), maxLength: count(shape) }));

/** Row-major values as lists of lists. */
function nest(shape: readonly number[], values: readonly number[]): unknown {
  const [size, ...row] = shape;
  if (size === undefined) return values[0];
  const width = count(row);
  return Array.from({ length: size }, (_, k) => nest(row, values.slice(k * width, (k + 1) * width)));
}

/** As a request has it: JSON that has been text. JSON.stringify would write -0 as 0. */
function sent(value: unknown): unknown {
  const text = (each: unknown): string =>
    Array.isArray(each) ? `[${each.map(text).join()}]` : Object.is(each, -0) ? '-0' : JSON.stringify(each);
  return JSON.parse(text(value));
}

function assertRead(json: TensorJson, known: readonly number[] | undefined, shape: number[], values: number[]): void {
  const tensor = decodeTensor(json, known, '');
  assert.deepStrictEqual(tensor.shape, shape);
  assert.equal(tensor.dtype, json.dtype ?? 'F64');
  // Object.is underneath: -0 and 0 are told apart.
  assert.deepStrictEqual([...decode(tensor)], values);
}

describe('values are read as they were written', () => {
  test('flat, with their shape beside them', () => {
    fc.assert(
      fc.property(shapes.chain(filled), ([shape, values]) => {
        assertRead({ shape, values: sent(values) }, undefined, shape, values);
      }),
    );
  });

  test('flat, for a variable of a known shape', () => {
    fc.assert(
      fc.property(shapes.chain(filled), ([shape, values]) => {
        assertRead({ values: sent(values) }, shape, shape, values);
      }),
    );
  });

  test('nested, whether the shape is known, said or neither', () => {
    fc.assert(
      fc.property(solidShapes.chain(filled), ([shape, values]) => {
        const nested = sent(nest(shape, values));
        assertRead({ values: nested }, undefined, shape, values);
        assertRead({ values: nested }, shape, shape, values);
        assertRead({ shape, values: nested }, undefined, shape, values);
      }),
    );
  });

  test('rounded to nearest even in the dtype that they declare', () => {
    fc.assert(
      fc.property(fc.constantFrom(...floatDtypes), shapes.chain(filled), (dtype, [shape, values]) => {
        const rounded = values.map((value) => roundTo(value, dtype));
        assertRead({ dtype, shape, values: sent(values) }, undefined, shape, rounded);
      }),
    );
    // 1 + 2^-11 lies between two neighbours of F16, of which 1 is even; 1 + 2^-8 likewise for BF16, 1 + 2^-24 for F32.
    assertRead({ dtype: 'F16', values: [1 + 2 ** -11, 1 + 3 * 2 ** -11] }, undefined, [2], [1, 1 + 2 ** -9]);
    assertRead({ dtype: 'BF16', values: [1 + 2 ** -8, 1 + 3 * 2 ** -8] }, undefined, [2], [1, 1 + 2 ** -6]);
    assertRead({ dtype: 'F32', values: [1 + 2 ** -24, 1 + 3 * 2 ** -24] }, undefined, [2], [1, 1 + 2 ** -22]);
  });
});

describe('nothing but a problem comes of other JSON', () => {
  const codes = ['shape_mismatch', 'dtype_mismatch', 'invalid_parameter'];

  test('whatever stands for values', () => {
    const garbage = fc.jsonValue({ maxDepth: 5 });
    fc.assert(
      fc.property(garbage, fc.option(shapes, { nil: undefined }), (values, known) => {
        try {
          const { shape, bytes } = decodeTensor({ values }, known, '');
          assert.equal(bytes.length, 8 * count(shape));
        } catch (error) {
          assert.ok(error instanceof Problem, String(error));
          assert.ok(codes.includes(error.code), error.code);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('one value of another type among numbers is refused where it stands', () => {
    const others = fc.oneof(fc.string(), fc.boolean(), fc.constant(null), fc.dictionary(fc.string(), fc.double()));
    fc.assert(
      fc.property(fc.array(finite), others, fc.array(finite), (before, other, after) => {
        assert.throws(
          () => decodeTensor({ values: [...before, other, ...after] }, undefined, '/w'),
          (error) => {
            assert.ok(error instanceof Problem);
            assert.equal(error.code, 'invalid_parameter');
            assert.match(error.message, /^a value must be a JSON number\. Received: ./s);
            assert.equal(error.errors?.[0]?.pointer, `/w/values/${before.length}`);
            return true;
          },
        );
      }),
    );
  });
});
