/**
 * Hostile safetensors bodies: every file that breaks the format, to every call that takes one, and files that keep the format
 * but not the rules of the call: names, dtypes, shapes, indices, values and options.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ProblemCode } from '../../src/errors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { encodeFile, f32, f64, i64, startApi } from '../support/api.ts';
import { hostileFiles } from '../tensor/hostile-safetensors.ts';
import { createHonest, type Hostile, refuse, refuseAll, session, snapshot } from './hostile.ts';

const api = await startApi({ after });
await createHonest(api);

const gradients = { method: 'POST', path: `${session}/gradients` };
const assignment = { method: 'PUT', path: `${session}/variables` };
const slots = { method: 'PUT', path: `${session}/slots/v` };
const lookup = { method: 'POST', path: `${session}/lookup` };
const creation = { method: 'PUT', path: '/v1/sessions/hostile' };
const slices = { gradients, assignment, slots };

describe('what is no safetensors file is refused by every call that takes one', () => {
  let honest: object;
  before(async () => {
    honest = await snapshot(api);
  });
  for (const { title, file, code, detail } of hostileFiles) {
    test(title, async () => {
      const bytes = file();
      // The reader is the same for all; what keeps it busy for a second is sent once.
      const calls = bytes.length > 2_000_000 ? [creation] : [gradients, assignment, lookup, creation];
      for (const call of calls) {
        await refuse(api, { ...call, name: title, bytes, code, detail });
      }
      assert.deepEqual(await snapshot(api), honest);
    });
  }
});

/** What it is, the tensors, code, message, and `__metadata__`. */
type Row = readonly [
  name: string,
  tensors: Record<string, Tensor>,
  code: ProblemCode,
  detail: RegExp,
  metadata?: Record<string, string>,
];

function sent(call: { method: string; path: string }, rows: readonly Row[]): Hostile[] {
  return rows.map(([name, tensors, code, detail, metadata]) => {
    return { ...call, name, bytes: encodeFile(tensors, metadata), code, detail };
  });
}

const i32 = (values: readonly number[]): Tensor => ({
  dtype: 'I32',
  shape: [values.length],
  bytes: new Uint8Array(Int32Array.from(values).buffer),
});
const u32 = (values: readonly number[]): Tensor => ({
  dtype: 'U32',
  shape: [values.length],
  bytes: new Uint8Array(Uint32Array.from(values).buffer),
});
/** Two-byte values by their bits. */
const short = (dtype: 'F16' | 'BF16', bits: readonly number[], shape: readonly number[]): Tensor => ({
  dtype,
  shape,
  bytes: new Uint8Array(Uint16Array.from(bits).buffer),
});

const w = f32([1, 2, 3, 4, 5, 6], [3, 2]);
const rows = f32([1, 2, 3, 4], [2, 2]);
const pair = (indices: Tensor, values: Tensor = rows): Record<string, Tensor> => ({
  'table:indices': indices,
  'table:values': values,
});
const outside = (received: string): RegExp =>
  new RegExp(`^an index of "table" must be at least 0 and less than 4\\. Received: ${received} \\(number 1\\)$`);

/** Indices out of their range, in every dtype that indices have. */
const indices: [name: string, indices: Tensor, code: ProblemCode, detail: RegExp][] = [
  ['an I64 index behind the last', i64([0, 4]), 'index_out_of_range', outside('4')],
  ['an I32 index behind the last', i32([0, 4]), 'index_out_of_range', outside('4')],
  ['a U32 index behind the last', u32([0, 4]), 'index_out_of_range', outside('4')],
  ['a negative I64 index', i64([0, -1]), 'index_out_of_range', outside('-1')],
  ['a negative I32 index', i32([0, -1]), 'index_out_of_range', outside('-1')],
  ['a U32 index of 2^32 - 1', u32([0, 4_294_967_295]), 'index_out_of_range', outside('4294967295')],
  ['an I64 index of 2^32', i64([0, 2 ** 32]), 'index_out_of_range', outside('4294967296')],
  ['an I64 index of 2^53', i64([0, 2 ** 53]), 'index_out_of_range', outside('9007199254740992')],
  ['an I64 index of -2^63', i64([0, -(2 ** 63)]), 'index_out_of_range', outside('-9223372036854776000')],
  ['F32 indices', f32([0, 1]), 'dtype_mismatch', /"table:indices" must be I64, I32 or U32\. Received: F32$/],
  ['F64 indices', f64([0, 1]), 'dtype_mismatch', /"table:indices" must be I64, I32 or U32\. Received: F64$/],
  [
    'indices in a column',
    i64([0, 1], [2, 1]),
    'shape_mismatch',
    /"table:indices" must have shape \[k\]\. Received: \[2,1\]$/,
  ],
  ['a scalar as index', i64([0], []), 'shape_mismatch', /"table:indices" must have shape \[k\]\. Received: \[\]$/],
];

const wRule = (received: string): RegExp => new RegExp(`"w" must have shape \\[3,2\\]\\. Received: \\[${received}\\]$`);
const tensors: Row[] = [
  ...indices.map(([name, tensor, code, detail]): Row => [name, pair(tensor), code, detail]),
  ['a shape turned round', { w: f32([1, 2, 3, 4, 5, 6], [2, 3]) }, 'shape_mismatch', wRule('2,3')],
  ['a flat shape', { w: f32([1, 2, 3, 4, 5, 6]) }, 'shape_mismatch', wRule('6')],
  ['an axis too many', { w: f32([1, 2, 3, 4, 5, 6], [1, 3, 2]) }, 'shape_mismatch', wRule('1,3,2')],
  ['a scalar for a matrix', { w: f32([1], []) }, 'shape_mismatch', wRule('')],
  ['no rows', { w: f32([], [0, 2]) }, 'shape_mismatch', wRule('0,2')],
  ['I64 values', { d: i64([1, 2]) }, 'dtype_mismatch', /"d" must be F64, F32, F16 or BF16\. Received: I64$/],
  ['U32 values', { d: u32([1, 2]) }, 'dtype_mismatch', /"d" must be F64, F32, F16 or BF16\. Received: U32$/],
  [
    'I64 values of rows',
    pair(i64([0, 1]), i64([1, 2, 3, 4], [2, 2])),
    'dtype_mismatch',
    /"table:values" must be F64, .*Received: I64$/,
  ],
  [
    'one column to be spread over the row',
    pair(i64([0, 1]), f32([1, 2], [2, 1])),
    'shape_mismatch',
    /must have shape \[2,2\]\. Received: \[2,1\]$/,
  ],
  ['a row too few', pair(i64([0, 1, 2])), 'shape_mismatch', /must have shape \[3,2\]\. Received: \[2,2\]$/],
  ['a row too many', pair(i64([0])), 'shape_mismatch', /must have shape \[1,2\]\. Received: \[2,2\]$/],
  [
    'rows of a scalar',
    { 'scalar:indices': i64([0]), 'scalar:values': f32([1]) },
    'shape_mismatch',
    /"scalar" must have rank 1 or more/,
  ],
  [
    'indices alone',
    { 'table:indices': i64([0]) },
    'invalid_parameter',
    /pair "table:indices" and "table:values"\. Received: only "table:indices"$/,
  ],
  ['values alone', { 'table:values': rows }, 'invalid_parameter', /pair .*Received: only "table:values"$/],
  [
    'values alone, indices of another',
    { 'table:values': rows, 'w:indices': i64([0]) },
    'invalid_parameter',
    /pair .*Received: only "/,
  ],
  [
    'dense and sparse',
    { table: f32([1, 2, 3, 4, 5, 6, 7, 8], [4, 2]), ...pair(i64([0, 1])) },
    'invalid_parameter',
    /"table" must be given once, dense or sparse\. Received: both$/,
  ],
  [
    'dense and half of a pair',
    { table: f32([1, 2, 3, 4, 5, 6, 7, 8], [4, 2]), 'table:indices': i64([0]) },
    'invalid_parameter',
    /Received: (both|only .*)$/,
  ],
  ['an unknown part', { 'w:m': w }, 'invalid_parameter', /named after a variable, .*Received: "w:m"$/],
  ['a colon alone', { 'w:': w }, 'invalid_parameter', /named after a variable, .*Received: "w:"$/],
  ...['nobody', 'W', '', '..', '__proto__', 'constructor', 'w\0'].map(
    (name): Row => [
      `an unknown variable ${JSON.stringify(name)} behind a known one`,
      { d: f64([1, 2]), [name]: f32([1]) },
      'unknown_variable',
      new RegExp(
        `one of the session's: "w", "d", "table", "scalar"\\. Received: ${JSON.stringify(name).replace('\\', '\\\\')}$`,
      ),
    ],
  ),
];

for (const [what, call] of Object.entries(slices)) {
  refuseAll(`${what} of tensors that do not fit are refused`, api, sent(call, tensors));
}

const notFinite = (dtype: string): RegExp =>
  new RegExp(
    `^gradient for "\\w+" must be finite in ${dtype}\\. Received: a NaN, an infinity, or a value beyond its range$`,
  );
const six = (bits: number): number[] => [0, 0, 0, 0, 0, bits];
refuseAll(
  'gradients that are not finite are refused',
  api,
  sent(gradients, [
    ['NaN in F32', { w: f32(six(Number.NaN), [3, 2]) }, 'gradient_not_finite', notFinite('F32')],
    ['infinity in F32', { w: f32(six(Number.POSITIVE_INFINITY), [3, 2]) }, 'gradient_not_finite', notFinite('F32')],
    [
      'minus infinity in F32',
      { w: f32(six(Number.NEGATIVE_INFINITY), [3, 2]) },
      'gradient_not_finite',
      notFinite('F32'),
    ],
    ['NaN in F64', { d: f64([0, Number.NaN]) }, 'gradient_not_finite', notFinite('F64')],
    ['infinity in F64', { d: f64([Number.POSITIVE_INFINITY, 0]) }, 'gradient_not_finite', notFinite('F64')],
    ['1e39 in F64 for F32', { w: f64(six(1e39), [3, 2]) }, 'gradient_not_finite', notFinite('F32')],
    ['-1e39 in F64 for F32', { w: f64(six(-1e39), [3, 2]) }, 'gradient_not_finite', notFinite('F32')],
    ['infinity in F16', { w: short('F16', six(0x7c00), [3, 2]) }, 'gradient_not_finite', notFinite('F32')],
    ['NaN in F16', { w: short('F16', six(0x7c01), [3, 2]) }, 'gradient_not_finite', notFinite('F32')],
    ['infinity in BF16', { w: short('BF16', six(0xff80), [3, 2]) }, 'gradient_not_finite', notFinite('F32')],
    ['NaN in BF16', { w: short('BF16', six(0x7f81), [3, 2]) }, 'gradient_not_finite', notFinite('F32')],
    ['NaN in F32 for F64', { d: f32([0, Number.NaN]) }, 'gradient_not_finite', notFinite('F64')],
    ['NaN in a row', pair(i64([0, 1]), f32([1, 2, Number.NaN, 4], [2, 2])), 'gradient_not_finite', notFinite('F32')],
    [
      'NaN behind gradients that fit',
      { d: f64([1, 2]), w, scalar: f32([Number.NaN], []) },
      'gradient_not_finite',
      notFinite('F32'),
    ],
  ]),
);

for (const [what, call] of Object.entries({ assignment, slots })) {
  refuseAll(
    `${what} beyond its rules is refused`,
    api,
    sent(call, [
      [
        '1e39 in F64 for F32',
        { w: f64(six(1e39), [3, 2]) },
        'invalid_argument',
        /"w" must be in the range of F32\. Received: 1e\+39$/,
      ],
      [
        'a row twice',
        pair(i64([1, 1])),
        'invalid_argument',
        /"table" must be named once each\. Received: a repeated index$/,
      ],
      ['a tensor that fits before one that does not', { d: f64([7, 7]), w: f32([1]) }, 'shape_mismatch', wRule('1')],
    ]),
  );
}

const lookupRule = /^a lookup's tensors must be named "w:indices"\. Received: "/;
refuseAll(
  'lookups of tensors that do not fit are refused',
  api,
  sent(lookup, [
    ...indices.map(([name, tensor, code, detail]): Row => [name, { 'table:indices': tensor }, code, detail]),
    ['rows of a scalar', { 'scalar:indices': i64([0]) }, 'shape_mismatch', /"scalar" must have rank 1 or more/],
    ['values beside the indices', pair(i64([0, 1])), 'invalid_parameter', lookupRule],
    ['indices under the plain name', { table: i64([0]) }, 'invalid_parameter', lookupRule],
    ['rows of nobody', { 'nobody:indices': i64([0]) }, 'unknown_variable', /Received: "nobody"$/],
    ['rows of a part', { 'table:m:indices': i64([0]) }, 'unknown_variable', /Received: "table:m"$/],
    ['rows of no name', { ':indices': i64([0]) }, 'unknown_variable', /Received: ""$/],
  ]),
);
