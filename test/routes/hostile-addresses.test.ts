/** Hostile addresses, query strings and headers: names of sessions and variables, parameters, preconditions. */
import { after } from 'node:test';
import type { ProblemCode } from '../../src/errors.ts';
import { startApi } from '../support/api.ts';
import { createHonest, type Hostile, refuseAll, session } from './hostile.ts';

const api = await startApi({ after });
await createHonest(api);

const path = `${session}/gradients`;
const gradient = '{"gradients":{"d":{"values":[1,2]}}}';

type Row = readonly [name: string, call: Partial<Hostile>, code: ProblemCode, detail: RegExp];
/** Rows of pushes, unless they say another method or path. */
const pushes = (rows: readonly Row[]): Hostile[] =>
  rows.map(([name, call, code, detail]) => ({ method: 'POST', path, ...call, name, code, detail }));
const reads = (rows: readonly Row[]): Hostile[] =>
  rows.map(([name, call, code, detail]) => ({ method: 'GET', path: session, ...call, name, code, detail }));

const name128 = 'a'.repeat(128);
const sessionRule = /^\/params\/session must match pattern .*Received: "/;
const sessions = [
  '..%2F..%2Fetc',
  'a%2Fb',
  'a%5Cb',
  '%00',
  'a%00',
  'a%0A',
  '%20',
  '-a',
  '_a',
  'a:b',
  'ä',
  `${name128}a`,
  '__proto__',
];
const variables = ['..%2Fw', '%2Fw', 'w%00', 'w:m', 'w%3Am', '%20', '-w', '%C3%A4', 'a'.repeat(257)];
refuseAll('addresses that name nothing are refused', api, [
  ...['GET', 'PUT', 'DELETE'].flatMap((method) =>
    sessions.map(
      (name): Hostile => ({
        name: `${method} a session named ${name.slice(0, 20)}`,
        method,
        path: `/v1/sessions/${encodeURI(decodeURI(name))}`,
        ...(method === 'PUT' ? { json: {} } : {}),
        code: 'invalid_parameter',
        detail: sessionRule,
      }),
    ),
  ),
  ...reads([
    [
      'no session name',
      { path: '/v1/sessions/' },
      'invalid_parameter',
      /^\/params\/session must match pattern .*Received: ""$/,
    ],
    [
      'a session that is not there',
      { path: '/v1/sessions/nobody' },
      'session_not_found',
      /must exist to be used\. Received: "nobody"$/,
    ],
    [
      "a session of JavaScript's",
      { path: '/v1/sessions/constructor' },
      'session_not_found',
      /Received: "constructor"$/,
    ],
    ...variables.map(
      (name): Row => [
        `a variable named ${name.slice(0, 20)}`,
        { path: `${session}/variables/${name}` },
        'invalid_parameter',
        /^\/params\/variable must match pattern .*Received: "/,
      ],
    ),
    [
      'a variable that is not there',
      { path: `${session}/variables/nobody` },
      'variable_not_found',
      /must be one of the session's\. Received: "nobody"$/,
    ],
    [
      "a variable of JavaScript's",
      { path: `${session}/variables/__proto__` },
      'variable_not_found',
      /Received: "__proto__"$/,
    ],
    [
      'no variable name',
      { path: `${session}/variables/` },
      'invalid_parameter',
      /^\/params\/variable must match pattern .*Received: ""$/,
    ],
    ['another slot', { path: `${session}/slots/w` }, 'invalid_parameter', /^\/params\/slot must be .*Received: "w"$/],
    ['half a percent-encoding', { path: '/v1/sessions/%' }, 'invalid_parameter', /./],
    ['a percent-encoding of no digits', { path: '/v1/sessions/%zz' }, 'invalid_parameter', /./],
    ['a percent-encoding of no UTF-8', { path: `${session}/variables/%ff` }, 'invalid_parameter', /./],
    ['a name of 8,000 letters', { path: `/v1/sessions/${'a'.repeat(8_000)}` }, 'invalid_parameter', /./],
    ['an address that is not there', { path: '/v2/sessions' }, 'route_not_found', /Received: GET \/v2\/sessions$/],
    ['another method', { method: 'DELETE', path: '/v1/sessions' }, 'method_not_allowed', /takes .*Received: DELETE$/],
  ]),
]);

refuseAll('query strings and headers beyond the rules are refused', api, [
  ...reads([
    ...['0', '-1', '1001', '1.5', 'ten', '1e3x', '', '%00'].map(
      (limit): Row => [
        `a limit of "${limit}"`,
        { path: `/v1/sessions?limit=${limit}` },
        'invalid_parameter',
        /^\/query\/limit must .*Received: /,
      ],
    ),
    [
      'limit twice',
      { path: '/v1/sessions?limit=1&limit=2' },
      'invalid_parameter',
      /^\/query\/limit must be integer\. Received: a list of 2$/,
    ],
    [
      'after twice',
      { path: '/v1/sessions?after=a&after=b' },
      'invalid_parameter',
      /^\/query\/after must be string\. Received: a list of 2$/,
    ],
    [
      'an after that is no name',
      { path: '/v1/sessions?after=..%2F' },
      'invalid_parameter',
      /^\/query\/after must match pattern .*Received: "\.\.\/"$/,
    ],
    [
      'an unknown query parameter',
      { path: `${session}?deep=1` },
      'invalid_parameter',
      /^\/query must have no member "deep"\. Received: it$/,
    ],
    ['__proto__ as query parameter', { path: `${session}?__proto__=1` }, 'invalid_parameter', /no member "__proto__"/],
    [
      'rows that are no list',
      { path: `${session}/variables/table?rows=1;2` },
      'invalid_parameter',
      /^\/query\/rows must match pattern .*Received: "1;2"$/,
    ],
    ['negative rows', { path: `${session}/variables/table?rows=-1` }, 'invalid_parameter', /Received: "-1"$/],
    [
      'rows behind the last',
      { path: `${session}/variables/table?rows=0,4` },
      'index_out_of_range',
      /less than 4\. Received: 4 \(number 1\)$/,
    ],
    ['rows of a scalar', { path: `${session}/variables/scalar?rows=0` }, 'shape_mismatch', /must have rank 1 or more/],
    [
      'an integer dtype',
      { path: `${session}/variables?dtype=I64` },
      'invalid_parameter',
      /^\/query\/dtype must be .*Received: "I64"$/,
    ],
    [
      'dtype twice',
      { path: `${session}/variables?dtype=F32&dtype=F64` },
      'invalid_parameter',
      /^\/query\/dtype must be .*Received: a list of 2$/,
    ],
    [
      'bad If-None-Match',
      { path: `${session}/variables`, headers: { 'if-none-match': '1' } },
      'invalid_parameter',
      /^If-None-Match must be .*Received: 1$/,
    ],
    [
      'a wait that is no number',
      { path: `${session}/variables`, headers: { prefer: 'wait=long' } },
      'invalid_parameter',
      /wait must be a number of seconds\. Received: long$/,
    ],
    [
      'a negative wait',
      { path: `${session}/variables`, headers: { prefer: 'wait=-1' } },
      'invalid_parameter',
      /Received: -1$/,
    ],
  ]),
  ...pushes([
    ...['1', '"1', "'1'", 'W/1', '"1" "2"', '"1",', '', ','].map(
      (tag): Row => [
        `If-Match: ${tag}`,
        { json: gradient, headers: { 'if-match': tag } },
        'invalid_parameter',
        /^If-Match must be \* or a list of quoted revisions, like "41"\. Received: /,
      ],
    ),
    [
      'If-Match of another revision',
      { json: gradient, headers: { 'if-match': '"99"' } },
      'precondition_failed',
      /must name the session's revision, "1"\. Received: /,
    ],
    [
      'If-Match of a weak tag',
      { json: gradient, headers: { 'if-match': 'W/"1"' } },
      'precondition_failed',
      /revision, "1"/,
    ],
    [
      'If-Match of a revision with a zero before',
      { json: gradient, headers: { 'if-match': '"01"' } },
      'precondition_failed',
      /revision, "1"/,
    ],
    ...['-1', '1.5', 'one', '', '9007199254740993', '1e300'].map(
      (base): Row => [
        `a base of "${base}"`,
        { json: gradient, path: `${path}?base=${base}` },
        base === '9007199254740993' || base === '1e300' ? 'invalid_argument' : 'invalid_parameter',
        /base must .*Received: /,
      ],
    ),
    [
      'a base ahead of the session',
      { json: gradient, path: `${path}?base=2` },
      'invalid_argument',
      /^base must be at most the session's iterations, 1\. Received: 2$/,
    ],
    [
      'a worker without a name',
      { json: gradient, path: `${path}?worker=` },
      'invalid_parameter',
      /^\/query\/worker must /,
    ],
  ]),
]);
