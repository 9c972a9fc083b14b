/**
 * Hostile JSON in the bodies that carry tensors: values, indices, members and names, for gradients, assignments, lookups and
 * creations. Texts are written out, since `JSON.stringify` cannot write what is hostile.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { ProblemCode } from '../../src/errors.ts';
import { startApi } from '../support/api.ts';
import { create, push, readNumbers } from '../support/calls.ts';
import { createHonest, type Hostile, refuseAll, session } from './hostile.ts';

const api = await startApi({ after });
await createHonest(api);

interface Body {
  readonly method: string;
  readonly path: string;
  /** The member that holds things by variable name. */
  readonly member: string;
}

const gradients: Body = { method: 'POST', path: `${session}/gradients`, member: 'gradients' };
const assignment: Body = { method: 'PUT', path: `${session}/variables`, member: 'variables' };
const slots: Body = { method: 'PUT', path: `${session}/slots/m`, member: 'variables' };
const lookup: Body = { method: 'POST', path: `${session}/lookup`, member: 'variables' };
const creation: Body = { method: 'PUT', path: '/v1/sessions/hostile', member: 'variables' };
const slices = { gradients, assignment, slots };

/** What it is, the JSON text of one variable's member, code, message, pointer below the variable. */
type Row = readonly [name: string, text: string, code: ProblemCode, detail: RegExp, pointer?: string];

/** The rows as the only member of a body, for the variable of that name. */
function within(body: Body, variable: string, rows: readonly Row[]): Hostile[] {
  return rows.map(([name, text, code, detail, pointer]) => ({
    name,
    method: body.method,
    path: body.path,
    json: `{"${body.member}":{"${variable}":${text}}}`,
    code,
    detail,
    ...(pointer === undefined ? {} : { pointer: `/${body.member}/${variable}${pointer}` }),
  }));
}

const deep = 100_000;
const brackets = '['.repeat(deep) + ']'.repeat(deep);
const objects = '{"a":'.repeat(deep) + 1 + '}'.repeat(deep);

const notNumber = (received: string) => new RegExp(`^a value must be a JSON number. Received: ${received}`);

/** For a tensor of shape [3,2] that says its shape, or whose variable has it. */
const values: Row[] = [
  [
    'null as a value',
    '{"shape":[3,2],"values":[1,2,3,4,5,null]}',
    'invalid_parameter',
    notNumber('null$'),
    '/values/5',
  ],
  ['a string as a value', '{"values":["1",2,3,4,5,6]}', 'invalid_parameter', notNumber('"1"$'), '/values/0'],
  ['true as a value', '{"values":[1,true,3,4,5,6]}', 'invalid_parameter', notNumber('true$'), '/values/1'],
  ['an object as a value', '{"values":[1,{"a":1},3,4,5,6]}', 'invalid_parameter', notNumber('an object$'), '/values/1'],
  [
    'objects 100,000 deep as a value',
    `{"values":[${objects}]}`,
    'invalid_parameter',
    notNumber('an object$'),
    '/values/0',
  ],
  ['null within a row', '{"values":[[1,2],[3,4],[5,null]]}', 'invalid_parameter', notNumber('null$'), '/values/2/1'],
  ['null for a row', '{"values":[[1,2],null,[5,6]]}', 'invalid_parameter', notNumber('null$'), '/values/1'],
  [
    'a word of 10,000 letters',
    `{"values":["${'a'.repeat(10_000)}"]}`,
    'invalid_parameter',
    notNumber('"a{1,60}…?$'),
    '/values/0',
  ],
  [
    'null as values',
    '{"values":null}',
    'invalid_parameter',
    /^\S+\/values must be array,number\. Received: null$/,
    '/values',
  ],
  [
    'a string as values',
    '{"values":"123456"}',
    'invalid_parameter',
    /must be array,number\. Received: "123456"$/,
    '/values',
  ],
  ['true as values', '{"values":true}', 'invalid_parameter', /must be array,number\. Received: true$/, '/values'],
  [
    'an object as values',
    '{"values":{"0":1}}',
    'invalid_parameter',
    /must be array,number\. Received: an object$/,
    '/values',
  ],
  [
    'a row too short',
    '{"values":[[1,2],[3],[5,6]]}',
    'shape_mismatch',
    /evenly: a list of 2 here\. Received: 1 items$/,
    '/values/1',
  ],
  [
    'a row too long',
    '{"values":[[1,2],[3,4],[5,6,7]]}',
    'shape_mismatch',
    /evenly: a list of 2 here\. Received: 3 items$/,
    '/values/2',
  ],
  [
    'a number for a row',
    '{"values":[[1,2],3,[5,6]]}',
    'shape_mismatch',
    /evenly: a list of 2 here\. Received: a number$/,
    '/values/1',
  ],
  [
    'a list for a number',
    '{"values":[1,[2],3,4,5,6]}',
    'shape_mismatch',
    /evenly: a number here\. Received: a list$/,
    '/values/1',
  ],
  [
    'a list for a number within a row',
    '{"values":[[1,2],[3,[4]],[5,6]]}',
    'shape_mismatch',
    /a number here\. Received: a list$/,
    '/values/1/1',
  ],
  ['arrays 100,000 deep', `{"values":${brackets}}`, 'shape_mismatch', /nested at most 32 deep\. Received: more$/],
  [
    'arrays 100,000 deep behind a number',
    `{"values":[1,${brackets}]}`,
    'shape_mismatch',
    /a number here\. Received: a list$/,
    '/values/1',
  ],
  [
    'a value too few for its shape',
    '{"shape":[3,2],"values":[1,2,3,4,5]}',
    'shape_mismatch',
    /must have shape \[3,2\], flat \(6 values\) or nested\. Received: 5 values$/,
    '/values',
  ],
  [
    'a value too many for its shape',
    '{"shape":[3,2],"values":[1,2,3,4,5,6,7]}',
    'shape_mismatch',
    /\[3,2\].*Received: 7 values$/,
    '/values',
  ],
  [
    'no values for its shape',
    '{"shape":[3,2],"values":[]}',
    'shape_mismatch',
    /\[3,2\].*Received: 0 values$/,
    '/values',
  ],
  [
    'a number for its shape',
    '{"shape":[3,2],"values":5}',
    'shape_mismatch',
    /\[3,2\].*Received: values nested as \[\]$/,
    '/values',
  ],
  [
    'values nested otherwise than its shape',
    '{"shape":[3,2],"values":[[1,2,3],[4,5,6]]}',
    'shape_mismatch',
    /\[3,2\].*Received: values nested as \[2,3\]$/,
    '/values',
  ],
  [
    'a negative size',
    '{"shape":[-3,2],"values":[1]}',
    'invalid_parameter',
    /\/shape\/0 must be >= 0\. Received: -3$/,
    '/shape/0',
  ],
  [
    'half a size',
    '{"shape":[1.5],"values":[1]}',
    'invalid_parameter',
    /\/shape\/0 must be integer\. Received: 1\.5$/,
    '/shape/0',
  ],
  [
    'a size of 2^53',
    '{"shape":[9007199254740992],"values":[1]}',
    'invalid_parameter',
    /must be <= 9007199254740991\. Received: 9007199254740992$/,
    '/shape/0',
  ],
  [
    'a size of 1e300',
    '{"shape":[1e300],"values":[1]}',
    'invalid_parameter',
    /must be <= 9007199254740991\. Received: 1e\+300$/,
    '/shape/0',
  ],
  [
    'a size in quotes',
    '{"shape":["6"],"values":[1]}',
    'invalid_parameter',
    /must be integer\. Received: "6"$/,
    '/shape/0',
  ],
  [
    'null as size',
    '{"shape":[null],"values":[1]}',
    'invalid_parameter',
    /must be integer\. Received: null$/,
    '/shape/0',
  ],
  [
    'a number as shape',
    '{"shape":6,"values":[1]}',
    'invalid_parameter',
    /\/shape must be array\. Received: 6$/,
    '/shape',
  ],
  [
    '33 dimensions',
    `{"shape":[${Array(33).fill(1)}],"values":[1]}`,
    'invalid_parameter',
    /\/shape must NOT have more than 32 items\. Received: a list of 33$/,
    '/shape',
  ],
  [
    'an unknown dtype',
    '{"dtype":"F8","values":[1]}',
    'invalid_parameter',
    /\/dtype must be equal to one of .*Received: "F8"$/,
    '/dtype',
  ],
  [
    'a dtype in small letters',
    '{"dtype":"f32","values":[1]}',
    'invalid_parameter',
    /\/dtype must be .*Received: "f32"$/,
    '/dtype',
  ],
  ['null as dtype', '{"dtype":null,"values":[1]}', 'invalid_parameter', /\/dtype must be .*Received: null$/, '/dtype'],
  [
    'an unknown member',
    '{"values":[1],"scale":2}',
    'invalid_parameter',
    /must have no member "scale"\. Received: it$/,
    '',
  ],
  [
    '__proto__ as a member',
    '{"values":[1],"__proto__":{}}',
    'invalid_parameter',
    /must have no member "__proto__"\. Received: it$/,
    '',
  ],
  [
    'constructor as a member',
    '{"values":[1],"constructor":{}}',
    'invalid_parameter',
    /no member "constructor"\. Received: it$/,
    '',
  ],
  ['an array for an object', '[1,2,3,4,5,6]', 'invalid_parameter', /must be object\. Received: a list of 6$/, ''],
  ['null for an object', 'null', 'invalid_parameter', /must be object\. Received: null$/, ''],
  ['a number for an object', '1', 'invalid_parameter', /must be object\. Received: 1$/, ''],
];

const infinite = /^the values for "[wd]" must be finite in (F64|F32|F16|BF16)\. Received: one beyond its range$/;
/** Where the variable is there already. */
const known: Row[] = [
  ['no values', '{}', 'invalid_parameter', /must have the member "values"\. Received: none$/, ''],
  ['misspelt values', '{"value":[1]}', 'invalid_parameter', /member "values"/, ''],
  ['Values in capitals', '{"Values":[1,2,3,4,5,6]}', 'invalid_parameter', /member "[Vv]alues"/, ''],
  ['values too shallow', '{"values":5}', 'shape_mismatch', /"w" must have shape \[3,2\]\. Received: \[\]$/],
  [
    'values too deep',
    '{"values":[[[1],[2]],[[3],[4]],[[5],[6]]]}',
    'shape_mismatch',
    /"w" must have shape \[3,2\]\. Received: \[3,2,1\]$/,
  ],
  [
    'values turned round',
    '{"values":[[1,2,3],[4,5,6]]}',
    'shape_mismatch',
    /"w" must have shape \[3,2\]\. Received: \[2,3\]$/,
  ],
  [
    'a shape turned round',
    '{"shape":[2,3],"values":[1,2,3,4,5,6]}',
    'shape_mismatch',
    /"w" must have shape \[3,2\]\. Received: \[2,3\]$/,
  ],
  [
    'a flat shape',
    '{"shape":[6],"values":[1,2,3,4,5,6]}',
    'shape_mismatch',
    /"w" must have shape \[3,2\]\. Received: \[6\]$/,
  ],
  [
    'a value too few',
    '{"values":[1,2,3,4,5]}',
    'shape_mismatch',
    /shape \[3,2\], flat \(6 values\) or nested\. Received: 5 values$/,
    '/values',
  ],
  ['no values at all', '{"values":[]}', 'shape_mismatch', /shape \[3,2\].*Received: 0 values$/, '/values'],
  [
    'an integer dtype',
    '{"dtype":"I64","values":[1,2,3,4,5,6]}',
    'dtype_mismatch',
    /one of the dtypes F64, F32, F16, BF16\. Received: I64$/,
    '/dtype',
  ],
];

const outOfRange = (received: string) =>
  new RegExp(`^an index of "table" must be at least 0 and less than 4\\. Received: ${received}`);
/** What no I64 holds is refused before anybody knows the table. */
const unsafe = (received: string) =>
  new RegExp(`^an index (of "table" )?must be at least 0 and less than (2\\^53|4)\\. Received: ${received} `);
/** For rows of a table of shape [4,2]. */
const indices: Row[] = [
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
  ['indices 100,000 deep', brackets, 'invalid_parameter', /must be integer\. Received: a list of 1$/, '/indices/0'],
  ['a number as indices', '0', 'invalid_parameter', /must be array\. Received: 0$/, '/indices'],
  ['null as indices', 'null', 'invalid_parameter', /must be array\. Received: null$/, '/indices'],
  ['an object as indices', '{"0":1}', 'invalid_parameter', /must be array\. Received: an object$/, '/indices'],
];

const rowValues: Row[] = [
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

for (const [what, body] of Object.entries(slices)) {
  refuseAll(`${what} of hostile values are refused`, api, within(body, 'w', [...values, ...known]));
  const hostileIndices = indices.map(
    ([name, text, ...rest]): Row => [name, `{"indices":${text},"values":[[1,2],[3,4]]}`, ...rest],
  );
  refuseAll(`${what} of hostile rows are refused`, api, [
    ...within(body, 'table', [...hostileIndices, ...rowValues]),
    ...within(body, 'scalar', [
      [
        'rows of a scalar',
        '{"indices":[0],"values":[1]}',
        'shape_mismatch',
        /"scalar" must have rank 1 or more to have rows/,
      ],
    ]),
  ]);
}

/** Beyond a dtype's range; what dtype the JSON declares does not matter. */
const beyond = (code: ProblemCode, detail: RegExp): Hostile[] =>
  Object.values(code === 'gradient_not_finite' ? { gradients } : { assignment, slots }).flatMap((body) => {
    const at = `${body.path.slice(session.length)}: `;
    const of = (variable: string, rest: string): Row[] => [
      [`${at}1e999 in ${variable}`, `{"values":[1e999,${rest}]}`, code, detail],
      [`${at}-1e999 in ${variable}`, `{"values":[-1e999,${rest}]}`, code, detail],
      [`${at}1e39 as F32 in ${variable}`, `{"dtype":"F32","values":[1e39,${rest}]}`, code, detail],
      [`${at}70000 as F16 in ${variable}`, `{"dtype":"F16","values":[70000,${rest}]}`, code, detail],
      [`${at}3.4e38 as BF16 in ${variable}`, `{"dtype":"BF16","values":[3.4e38,${rest}]}`, code, detail],
    ];
    return [...within(body, 'w', of('w', '2,3,4,5,6')), ...within(body, 'd', of('d', '2'))];
  });
refuseAll('gradients beyond the range are refused', api, [
  ...beyond(
    'gradient_not_finite',
    /^gradient for "[wd]" must be finite in F(32|64)\. Received: a NaN, an infinity, or/,
  ),
  ...within(gradients, 'w', [
    [
      '1e39 in F32',
      '{"values":[1e39,2,3,4,5,6]}',
      'gradient_not_finite',
      /^gradient for "w" must be finite in F32\. Received: /,
    ],
    [
      '1e39 in F32, declared as F64',
      '{"dtype":"F64","values":[1e39,2,3,4,5,6]}',
      'gradient_not_finite',
      /"w" must be finite in F32/,
    ],
  ]),
  ...within(gradients, 'table', [
    ['1e39 in a row', '{"indices":[1],"values":[1,-1e39]}', 'gradient_not_finite', /"table" must be finite in F32/],
  ]),
]);
refuseAll('assignments beyond the range are refused', api, [
  ...beyond('invalid_argument', infinite),
  ...[assignment, slots].flatMap((body) =>
    within(body, 'w', [
      [
        `${body.path.slice(session.length)}: 1e39 in F32`,
        '{"values":[1e39,2,3,4,5,6]}',
        'invalid_argument',
        /"w" must be in the range of F32\. Received: 1e\+39$/,
      ],
    ]),
  ),
  ...[assignment, slots].flatMap((body) =>
    within(body, 'table', [
      [
        `${body.path.slice(session.length)}: a row twice`,
        '{"indices":[1,1],"values":[1,2,3,4]}',
        'invalid_argument',
        /"table" must be named once each\. Received: a repeated index$/,
      ],
    ]),
  ),
]);

refuseAll('lookups of hostile rows are refused', api, [
  ...within(
    lookup,
    'table',
    indices.map(([name, text, ...rest]): Row => [name, `{"indices":${text}}`, ...rest]),
  ),
  ...within(lookup, 'table', [
    ['no indices', '{}', 'invalid_parameter', /must have the member "indices"\. Received: none$/, ''],
    ['misspelt indices', '{"index":[0]}', 'invalid_parameter', /member "ind(ex|ices)"/, ''],
    [
      'values beside the indices',
      '{"indices":[0],"values":[1,2]}',
      'invalid_parameter',
      /no member "values"\. Received: it$/,
      '',
    ],
    ['a list for an object', '[0]', 'invalid_parameter', /must be object\. Received: a list of 1$/, ''],
  ]),
  ...within(lookup, 'scalar', [
    ['rows of a scalar', '{"indices":[0]}', 'shape_mismatch', /"scalar" must have rank 1 or more to have rows/],
  ]),
]);

refuseAll('creations of hostile variables are refused', api, [
  ...within(creation, 'w', values),
  ...within(creation, 'w', [
    ['neither values nor shape', '{}', 'invalid_argument', /"w" must have values, or a shape\. Received: neither$/, ''],
    [
      'values and an initializer',
      '{"values":[1],"initializer":"Ones"}',
      'invalid_argument',
      /"w" must have values or an initializer\. Received: both$/,
      '',
    ],
    ['an integer dtype', '{"dtype":"I64","values":[1]}', 'dtype_mismatch', /"w" must be F32 or F64.*Received: I64$/],
    ['1e39 in F32', '{"values":[1e39]}', 'invalid_argument', /"w" must be in the range of F32\. Received: 1e\+39$/],
    ['1e999 in F32', '{"values":[1e999]}', 'invalid_argument', infinite],
    ['1e999 in F64', '{"dtype":"F64","values":[1e999]}', 'invalid_argument', infinite],
    ['1e39 declared as F32', '{"dtype":"F32","values":[1e39]}', 'invalid_argument', infinite],
    ['70000 declared as F16', '{"dtype":"F16","values":[70000]}', 'invalid_argument', infinite],
    [
      'an unknown initializer',
      '{"shape":[1],"initializer":"Orthogonal"}',
      'invalid_argument',
      /initializer must be one of .*Received: "Orthogonal"$/,
      '/initializer',
    ],
    [
      'a number as initializer',
      '{"shape":[1],"initializer":1}',
      'invalid_parameter',
      /must be object,string\. Received: 1$/,
      '/initializer',
    ],
    [
      'null as initializer',
      '{"shape":[1],"initializer":null}',
      'invalid_parameter',
      /must be object,string\. Received: null$/,
      '/initializer',
    ],
    [
      'an initializer 100,000 deep',
      `{"shape":[1],"initializer":${objects}}`,
      'invalid_argument',
      /Received: "a"$/,
      '/initializer/a',
    ],
    ['indices', '{"indices":[0],"values":[1]}', 'invalid_parameter', /no member "indices"\. Received: it$/, ''],
  ]),
]);

const hostileNames = ['nobody', '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'W'];
const badNames = ['', '..', '/w', 'w:m', 'w:indices', 'w ', 'ẁ', 'w\\u0000', 'w\\n', 'a'.repeat(257)];
refuseAll('variables that the session has not are refused by name', api, [
  ...[gradients, assignment, slots, lookup].flatMap((body) => {
    const text = body === lookup ? '{"indices":[0]}' : '{"values":[1]}';
    const at = body.path.slice(session.length);
    return [
      ...hostileNames.flatMap((name) =>
        within(body, name, [
          [
            `${at}: ${name}`,
            text,
            'unknown_variable',
            new RegExp(`one of the session's: "w", "d", "table", "scalar"\\. Received: "${name}"$`),
          ],
        ]),
      ),
      ...badNames.flatMap((name) =>
        within(body, name, [[`${at}: "${name.slice(0, 20)}"`, text, 'invalid_parameter', /must have no member "/]]),
      ),
    ];
  }),
  ...badNames.flatMap((name) =>
    within(creation, name, [
      [`a creation: "${name.slice(0, 20)}"`, '{"values":[1]}', 'invalid_parameter', /must have no member "/],
    ]),
  ),
]);

describe('names that JavaScript has a meaning for are names like any other', () => {
  for (const name of ['__proto__', 'constructor', 'toString', '0']) {
    test(name, async () => {
      const variables = JSON.parse(`{"${name}":{"values":[1,2]},"b":{"values":[3]}}`);
      const document = await create(api, `named-${name.replaceAll('_', '')}`, variables);
      const session = document.name;
      assert.deepEqual(Object.keys(document.variables).sort(), [name, 'b'].sort());
      const reply = await push(api, session, JSON.parse(`{"${name}":{"values":[0,0]}}`));
      assert.deepEqual(Object.entries(reply.variables), [[name, { dtype: 'F32', shape: [2], values: [1, 2] }]]);
      assert.deepEqual(await readNumbers(api, session, name), [1, 2]);
    });
  }
});
