/** safetensors files that keep the format but are no session: names, dtypes, slots, and options in `__metadata__`. */
import { after } from 'node:test';
import type { ProblemCode } from '../../src/errors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { encodeFile, f32, i64, startApi } from '../support/api.ts';
import { createHonest, type Hostile, refuseAll } from './hostile.ts';

const api = await startApi({ after });
await createHonest(api);

const creation = { method: 'PUT', path: '/v1/sessions/hostile' };
const w = f32([1, 2, 3, 4, 5, 6], [3, 2]);

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

const slotRule = /^slots must come as "w:m" and "w:v" beside their variable "w"\. Received: "/;
const named = (name: string): Row => [
  `a tensor named ${JSON.stringify(name.slice(0, 20))}`,
  { [name]: w },
  'invalid_parameter',
  /^a tensor's name must match \^.*, with ":m" or ":v" for a slot\. Received: "/,
];
const option = (name: string, text: string, detail: RegExp, code: ProblemCode = 'invalid_parameter'): Row => [
  `${name}: ${text.slice(0, 40)}`,
  { w },
  code,
  detail,
  { [name]: text },
];
const deep = '{"config":'.repeat(90_000) + 1 + '}'.repeat(90_000);
refuseAll(
  'creations from files that are no session are refused',
  api,
  sent(creation, [
    ...['', '..', '/w', 'w ', 'w:', 'w:x', 'w:indices', 'w:m:v', 'w\0', 'w\n', 'ẁ', 'a'.repeat(257)].map(named),
    ['an integer tensor', { w: i64([1]) }, 'dtype_mismatch', /"w" must be F32 or F64.*Received: I64$/],
    ['m alone', { w, 'w:m': w }, 'invalid_parameter', slotRule],
    ['v alone', { w, 'w:v': w }, 'invalid_parameter', slotRule],
    ['slots of nobody', { 'x:m': w, 'x:v': w }, 'invalid_parameter', slotRule],
    [
      'a slot of another shape',
      { w, 'w:m': w, 'w:v': f32([1]) },
      'shape_mismatch',
      /^slot v of "w" must have shape \[3,2\]\. Received: \[1\]$/,
    ],
    [
      'a slot of integers',
      { d: f32([1]), 'd:m': i64([1]), 'd:v': f32([1]) },
      'dtype_mismatch',
      /^slot m of "d" must be a float dtype\. Received: I64$/,
    ],
    option('optimizer', '{"class_name"', /must hold JSON under "optimizer"\. Received: "{\\"class_name\\""$/),
    option('optimizer', '"Adamax"', /\/optimizer must be object\. Received: "Adamax"$/),
    option('optimizer', 'null', /\/optimizer must be object\. Received: null$/),
    option('optimizer', '{"class_name":"Adam"}', /must be one of .*Received: "Adam"$/, 'invalid_argument'),
    option('optimizer', '{"config":{"beta_1":1}}', /beta_1 .*Received: 1$/, 'invalid_argument'),
    option('optimizer', deep, /Received: "config"$/, 'invalid_argument'),
    option('iterations', '-1', /\/iterations must be >= 0\. Received: -1$/),
    option('iterations', '1.5', /\/iterations must be integer\. Received: 1.5$/),
    option('iterations', '"3"', /\/iterations must be integer\. Received: "3"$/),
    option('iterations', '1e300', /\/iterations must be <= 9007199254740991\. Received: 1e\+300$/),
    option('iterations', '1e999', /\/iterations must be <= 9007199254740991\. Received: Infinity$/),
    option('iterations', 'NaN', /must hold JSON under "iterations"\. Received: "NaN"$/),
    option('iterations', '', /must hold JSON under "iterations"\. Received: ""$/),
    option('checkpointing', '{"keep":0}', /\/checkpointing\/keep must be >= 1\. Received: 0$/),
    option('checkpointing', '{"kept":1}', /\/checkpointing must have no member "kept"\. Received: it$/),
    option('aggregation', '{"mode":"bsp"}', /\/aggregation\/mode must be one of .*Received: "bsp"/),
    option(
      'durability',
      'never',
      /\/durability must be one of "always", "everysec", "checkpoint"\. Received: "never"$/,
    ),
    option('metadata', '5', /\/metadata must be object\. Received: 5$/),
    option(
      'metadata',
      `{"a":${deep}}`,
      /^metadata must be nested at most 64 deep\. Received: more$/,
      'invalid_argument',
    ),
    option('format', 'adamax-server/99', /format must be ".*"\. Received: "adamax-server\/99"$/, 'malformed_body'),
    option(
      'notes',
      'a'.repeat(65_536),
      /^metadata must have at most 65536 bytes as JSON\. Received: \d+$/,
      'invalid_argument',
    ),
  ]),
);
