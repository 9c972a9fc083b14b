/**
 * Hostile JSON in the bodies that carry tensors: values, indices, members and names, for gradients, assignments, lookups and
 * creations. Texts are written out, since `JSON.stringify` cannot write what is hostile.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { ProblemCode } from '../../src/errors.ts';
import { startApi } from '../support/api.ts';
import { create, push, readNumbers } from '../support/calls.ts';
import { type Body, createHonest, deepObjects, type Hostile, type Row, refuseAll, session, within } from './hostile.ts';
import { indices, rowValues } from './hostile-rows.ts';
import { known, values } from './hostile-values.ts';

const api = await startApi({ after });
await createHonest(api);
const gradients: Body = { method: 'POST', path: `${session}/gradients`, member: 'gradients' };
const assignment: Body = { method: 'PUT', path: `${session}/variables`, member: 'variables' };
const slots: Body = { method: 'PUT', path: `${session}/slots/m`, member: 'variables' };
const lookup: Body = { method: 'POST', path: `${session}/lookup`, member: 'variables' };
const creation: Body = { method: 'PUT', path: '/v1/sessions/hostile', member: 'variables' };
/** Slots are assigned as variables are, by the same code; what is wrong with the values themselves is left to those. */
const slices = { gradients, assignment, slots };

const infinite = /^the values for "[wd]" must be finite in (F64|F32|F16|BF16)\. Received: one beyond its range$/;

for (const [what, body] of Object.entries(slices)) {
  refuseAll(
    `${what} of hostile values are refused`,
    api,
    within(body, 'w', body === slots ? known : [...values, ...known]),
  );
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
      `{"shape":[1],"initializer":${deepObjects}}`,
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
