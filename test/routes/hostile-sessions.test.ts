/**
 * Sessions that cannot be: what an Adamax refuses, settings beyond their rules, notes too long or too deep, and more memory
 * than there is; at creation and, where there is one, at change.
 */
import { after } from 'node:test';
import type { ProblemCode } from '../../src/errors.ts';
import { exponential, refusedMembers } from '../optimizer/refusals.ts';
import { startApi } from '../support/api.ts';
import { createHonest, type Hostile, refuseAll, session } from './hostile.ts';

const api = await startApi({ after }, { memoryBytesMax: 1_000_000 });
await createHonest(api);

const creation = { method: 'PUT', path: '/v1/sessions/hostile' };
const change = { method: 'PATCH', path: session };

/** JSON text with the numbers that only JavaScript has: infinities as 1e999. NaN has no text at all. */
const text = (value: unknown): string =>
  JSON.stringify(value, (_, each) => (each === Number.POSITIVE_INFINITY ? '∞' : each)).replaceAll('"∞"', '1e999');

for (const [what, call] of Object.entries({ creation, change })) {
  const rows = refusedMembers
    // A patch takes null for the default, and one norm can stand there already.
    .filter(([, config]) => !Object.values(config).some((value) => Number.isNaN(value)))
    .filter(([, config]) => what === 'creation' || !Object.values(config).includes(null));
  refuseAll(
    `the ${what} of an Adamax beyond its rules is refused`,
    api,
    rows.map(
      ([name, config, member, detail]): Hostile => ({
        ...call,
        name,
        json: text({ optimizer: { class_name: 'Adamax', config } }),
        code: 'invalid_argument',
        detail,
        pointer: `/optimizer/config/${member}`,
      }),
    ),
  );
}

/** What it is, the JSON text of the body, code, message and pointer. */
type Row = readonly [name: string, json: string, code: ProblemCode, detail: RegExp, pointer?: string];
const sent = (call: { method: string; path: string }, rows: readonly Row[]): Hostile[] =>
  rows.map(([name, json, code, detail, pointer]) => {
    return { ...call, name, json, code, detail, ...(pointer === undefined ? {} : { pointer }) };
  });

const schedule = (config: object): string =>
  text({ optimizer: { config: { learning_rate: { class_name: 'PiecewiseConstantDecay', config } } } });
const objects = '{"a":'.repeat(100_000) + 1 + '}'.repeat(100_000);
const tooLong = text({ metadata: { notes: 'a'.repeat(65_536) } });
const rate = '/optimizer/config/learning_rate/config';

const both: Row[] = [
  ['null as a body', 'null', 'invalid_parameter', /must be object\. Received: null$/],
  ['a list as a body', '[]', 'invalid_parameter', /must be object\. Received: a list of 0$/],
  ['an unknown member', '{"optimiser":{}}', 'invalid_parameter', /no member "optimiser"\. Received: it$/],
  ['__proto__', '{"__proto__":{"variables":{}}}', 'invalid_parameter', /no member "__proto__"\. Received: it$/],
  ['constructor', '{"constructor":{"prototype":{}}}', 'invalid_parameter', /no member "constructor"\. Received: it$/],
  [
    'a name as optimizer',
    '{"optimizer":"Adamax"}',
    'invalid_parameter',
    /must be object\. Received: "Adamax"$/,
    '/optimizer',
  ],
  ['null as optimizer', '{"optimizer":null}', 'invalid_parameter', /must be object\. Received: null$/, '/optimizer'],
  [
    'a list as config',
    '{"optimizer":{"config":[]}}',
    'invalid_argument',
    /config .*must be an object\. Received: \[\]$/,
    '/optimizer/config',
  ],
  [
    '__proto__ in the config',
    '{"optimizer":{"config":{"__proto__":{"beta_1":2}}}}',
    'invalid_argument',
    /one of learning_rate, .*Received: "__proto__"$/,
    '/optimizer/config/__proto__',
  ],
  [
    'objects 100,000 deep as learning rate',
    `{"optimizer":{"config":{"learning_rate":${objects}}}}`,
    'invalid_argument',
    /Received: "a"$/,
    '/optimizer/config/learning_rate/a',
  ],
  [
    'objects 100,000 deep as beta_1',
    `{"optimizer":{"config":{"beta_1":${objects}}}}`,
    'invalid_argument',
    /Received: an object$/,
    '/optimizer/config/beta_1',
  ],
  [
    'boundaries that fall',
    schedule({ boundaries: [2, 1], values: [1, 2, 3] }),
    'invalid_argument',
    /rise strictly\. Received: \[2, 1\]$/,
    `${rate}/boundaries`,
  ],
  [
    'as many boundaries as values',
    schedule({ boundaries: [1, 2], values: [1, 2] }),
    'invalid_argument',
    /one fewer than its 2 values\. Received: 2$/,
    `${rate}/boundaries`,
  ],
  [
    'a rate that is no number',
    schedule({ boundaries: [1], values: [1, null] }),
    'invalid_argument',
    /Received: null$/,
    `${rate}/values/1`,
  ],
  [
    'a member that the schedule has not',
    text({ optimizer: { config: { learning_rate: { ...exponential, config: { ...exponential.config, decay: 1 } } } } }),
    'invalid_argument',
    /Received: "decay"$/,
    `${rate}/decay`,
  ],
  [
    'another durability',
    '{"durability":"always"}',
    'invalid_parameter',
    /^\/durability must be "checkpoint"\. Received: "always"/,
    '/durability',
  ],
  [
    'sync aggregation',
    '{"aggregation":{"mode":"sync"}}',
    'invalid_parameter',
    /^\/aggregation\/mode must be "async"\. Received: "sync"/,
    '/aggregation/mode',
  ],
  [
    'staleness rules',
    '{"aggregation":{"mode":"async","max_staleness":1}}',
    'invalid_parameter',
    /no member "max_staleness"\. Received: it/,
    '/aggregation',
  ],
  [
    'no checkpoint kept',
    '{"checkpointing":{"keep":0}}',
    'invalid_parameter',
    /keep must be >= 1\. Received: 0/,
    '/checkpointing/keep',
  ],
  [
    'half a step',
    '{"checkpointing":{"every_steps":1.5}}',
    'invalid_parameter',
    /every_steps must be integer\. Received: 1\.5/,
    '/checkpointing/every_steps',
  ],
  [
    'seconds without end',
    '{"checkpointing":{"every_seconds":1e999}}',
    'invalid_parameter',
    /every_seconds must be <= 1000000000\. Received: Infinity/,
    '/checkpointing/every_seconds',
  ],
  [
    'an unknown setting',
    '{"checkpointing":{"every_step":1}}',
    'invalid_parameter',
    /no member "every_step"\. Received: it/,
    '/checkpointing',
  ],
  [
    'a list as metadata',
    '{"metadata":[1]}',
    'invalid_parameter',
    /^\/metadata must be object\. Received: a list of 1/,
    '/metadata',
  ],
  [
    'metadata over 64 KiB',
    tooLong,
    'invalid_argument',
    /^metadata must have at most 65536 bytes as JSON\. Received: 65548$/,
  ],
  [
    'metadata over 64 KiB in UTF-8 alone',
    text({ metadata: { notes: 'ä'.repeat(32_768) } }),
    'invalid_argument',
    /at most 65536 bytes as JSON\. Received: 65548$/,
  ],
  [
    'metadata 100,000 deep',
    `{"metadata":${objects}}`,
    'invalid_argument',
    /^metadata must be nested at most 64 deep\. Received: more$/,
  ],
];
refuseAll(
  'creations beyond the rules are refused',
  api,
  sent(creation, [
    ...both,
    [
      'another optimizer',
      '{"optimizer":{"class_name":"Adam"}}',
      'invalid_argument',
      /must be one of .*Received: "Adam"$/,
      '/optimizer/class_name',
    ],
    ['iterations', '{"iterations":5}', 'invalid_parameter', /no member "iterations"\. Received: it$/],
    [
      'a list of variables',
      '{"variables":[]}',
      'invalid_parameter',
      /^\/variables must be object\. Received: a list of 0$/,
      '/variables',
    ],
    [
      'null as variables',
      '{"variables":null}',
      'invalid_parameter',
      /^\/variables must be object\. Received: null$/,
      '/variables',
    ],
    // 3 × 4 bytes an element; the honest session holds 3 × (4 × 15 + 8 × 2) = 228 bytes of the million.
    [
      'more memory than there is',
      '{"variables":{"w":{"shape":[83315]}}}',
      'insufficient_memory',
      /fit into the 999772 bytes of memory that are left\. Received: 999780 bytes$/,
    ],
    [
      'more memory than there is on earth',
      '{"variables":{"w":{"shape":[9007199254740991,9007199254740991]}}}',
      'insufficient_memory',
      /left\. Received: /,
    ],
    [
      'infinite memory',
      `{"variables":{"w":{"shape":[${Array(32).fill(Number.MAX_SAFE_INTEGER)}]}}}`,
      'insufficient_memory',
      /left\. Received: /,
    ],
    [
      'no row of infinite memory',
      `{"variables":{"w":{"shape":[0,${Array(31).fill(Number.MAX_SAFE_INTEGER)}]}}}`,
      'invalid_argument',
      /elements.*Received: /,
    ],
    [
      'more memory in many variables',
      text({ variables: Object.fromEntries(Array.from({ length: 1000 }, (_, k) => [`w${k}`, { shape: [100] }])) }),
      'insufficient_memory',
      /Received: 1200000 bytes$/,
    ],
  ]),
);
refuseAll(
  'changes beyond the rules are refused',
  api,
  sent(change, [
    ...both,
    [
      'another optimizer',
      '{"optimizer":{"class_name":"Adam"}}',
      'invalid_parameter',
      /must be "Adamax"\. Received: "Adam"/,
      '/optimizer/class_name',
    ],
    ['variables', '{"variables":{}}', 'invalid_parameter', /no member "variables"\. Received: it$/],
    ['a name', '{"name":"other"}', 'invalid_parameter', /no member "name"\. Received: it$/],
    [
      'negative iterations',
      '{"iterations":-1}',
      'invalid_parameter',
      /iterations must be >= 0\. Received: -1$/,
      '/iterations',
    ],
    [
      'half an iteration',
      '{"iterations":0.5}',
      'invalid_parameter',
      /iterations must be integer\. Received: 0\.5$/,
      '/iterations',
    ],
    [
      'iterations in quotes',
      '{"iterations":"5"}',
      'invalid_parameter',
      /iterations must be integer\. Received: "5"$/,
      '/iterations',
    ],
    [
      'null iterations',
      '{"iterations":null}',
      'invalid_parameter',
      /iterations must be integer\. Received: null$/,
      '/iterations',
    ],
    [
      '2^53 iterations',
      '{"iterations":9007199254740992}',
      'invalid_parameter',
      /iterations must be <= 9007199254740991\. Received: 9007199254740992$/,
      '/iterations',
    ],
    [
      'a setting that is good beside one that is not',
      '{"iterations":9,"optimizer":{"config":{"beta_2":1}}}',
      'invalid_argument',
      /beta_2 .*Received: 1$/,
      '/optimizer/config/beta_2',
    ],
    [
      'a good rate beside a bad decay',
      '{"optimizer":{"config":{"learning_rate":0.5,"decay":-1}}}',
      'invalid_argument',
      /decay .*Received: -1$/,
      '/optimizer/config/decay',
    ],
  ]),
);
