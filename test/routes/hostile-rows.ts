/** Hostile rows of one variable in JSON, as tables: indices, and values that do not go with them. */
import { deepArrays, type Row } from './hostile.ts';

const outOfRange = (received: string) =>
  new RegExp(`^an index of "table" must be at least 0 and less than 4\\. Received: ${received}`);
/** What no I64 holds is refused before anybody knows the table. */
const unsafe = (received: string) =>
  new RegExp(`^an index (of "table" )?must be at least 0 and less than (2\\^53|4)\\. Received: ${received} `);
/** For rows of a table of shape [4,2]. */
export const indices: Row[] = [
  ['the index behind the last', '[0,4]', 'index_out_of_range', outOfRange('4 \\(number 1\\)$')],
  ['a negative index', '[-1,0]', 'index_out_of_range', outOfRange('-1 \\(number 0\\)$')],
  ['an index of 2^32', '[0,4294967296]', 'index_out_of_range', outOfRange('4294967296')],
  ['an index of -2^31', '[0,-2147483648]', 'index_out_of_range', outOfRange('-2147483648')],
  ['an index of 2^53', '[0,9007199254740992]', 'index_out_of_range', unsafe('9007199254740992')],
  ['an index of 2^64', '[0,18446744073709551616]', 'index_out_of_range', unsafe('18446744073709552000')],
  ['an index of 1e300', '[0,1e300]', 'index_out_of_range', unsafe('1e\\+300')],
  ['an index of -1e300', '[0,-1e300]', 'index_out_of_range', unsafe('-1e\\+300')],
  ['an index without end', '[0,1e999]', 'index_out_of_range', unsafe('Infinity')],
  ['half an index', '[0,0.5]', 'invalid_parameter', /must be integer\. Received: 0\.5$/, '/indices/1'],
  ['an index in quotes', '[0,"1"]', 'invalid_parameter', /must be integer\. Received: "1"$/, '/indices/1'],
  ['null as index', '[0,null]', 'invalid_parameter', /must be integer\. Received: null$/, '/indices/1'],
  ['true as index', '[0,true]', 'invalid_parameter', /must be integer\. Received: true$/, '/indices/1'],
  ['nested indices', '[[0],[1]]', 'invalid_parameter', /must be integer\. Received: a list of 1$/, '/indices/0'],
  ['indices 100,000 deep', deepArrays, 'invalid_parameter', /must be integer\. Received: a list of 1$/, '/indices/0'],
  ['a number as indices', '0', 'invalid_parameter', /must be array\. Received: 0$/, '/indices'],
  ['null as indices', 'null', 'invalid_parameter', /must be array\. Received: null$/, '/indices'],
  ['an object as indices', '{"0":1}', 'invalid_parameter', /must be array\. Received: an object$/, '/indices'],
];

export const rowValues: Row[] = [
  [
    'one column to be spread over the row',
    '{"indices":[0,1],"values":[[1],[2]]}',
    'shape_mismatch',
    /must have shape \[2,2\]\. Received: \[2,1\]$/,
  ],
  [
    'one column that says its shape',
    '{"indices":[0,1],"shape":[2,1],"values":[1,2]}',
    'shape_mismatch',
    /must have shape \[2,2\]\. Received: \[2,1\]$/,
  ],
  [
    'one row for two indices',
    '{"indices":[0,1],"values":[[1,2]]}',
    'shape_mismatch',
    /must have shape \[2,2\]\. Received: \[1,2\]$/,
  ],
  [
    'two rows for one index',
    '{"indices":[0],"values":[[1,2],[3,4]]}',
    'shape_mismatch',
    /must have shape \[1,2\]\. Received: \[2,2\]$/,
  ],
  [
    'one value for two indices',
    '{"indices":[0,1],"values":[1]}',
    'shape_mismatch',
    /must have shape \[2,2\], flat \(4 values\).*Received: 1 values$/,
    '/values',
  ],
  [
    'a number for two indices',
    '{"indices":[0,1],"values":1}',
    'shape_mismatch',
    /must have shape \[2,2\]\. Received: \[\]$/,
  ],
  [
    'rows for no index',
    '{"indices":[],"values":[[1,2]]}',
    'shape_mismatch',
    /must have shape \[0,2\]\. Received: \[1,2\]$/,
  ],
  [
    'indices without values',
    '{"indices":[0]}',
    'invalid_parameter',
    /must have the member "values"\. Received: none$/,
    '',
  ],
];
