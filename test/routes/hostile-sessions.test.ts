/**
 * Sessions that cannot be: settings beyond their rules, notes too long or too deep, and more memory than there
 * is; at creation and at change. What else an Adamax cannot have is hostile-optimizer.test.ts.
 */
import { after } from 'node:test';
import type { ProblemCode } from '../../src/errors.ts';
import { startApi } from '../support/api.ts';
import { createHonest, deepObjects, type Hostile, refuseAll, session } from './hostile.ts';

const api = await startApi({ after }, { memoryBytesMax: 1_000_000 });
await createHonest(api);

const creation = { method: 'PUT', path: '/v1/sessions/hostile' };
const change = { method: 'PATCH', path: session };

/** What it is, the JSON text of the body, code, message and pointer. */
type Row = readonly [name: string, json: string, code: ProblemCode, detail: RegExp, pointer?: string];
const sent = (call: { method: string; path: string }, rows: readonly Row[]): Hostile[] =>
  rows.map(([name, json, code, detail, pointer]) => {
    return { ...call, name, json, code, detail, ...(pointer === undefined ? {} : { pointer }) };
  });

const tooLong = JSON.stringify({ metadata: { notes: 'a'.repeat(65_536) } });

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
    '__proto__ in the config',
    '{"optimizer":{"config":{"__proto__":{"beta_1":2}}}}',
    'invalid_argument',
    /one of learning_rate, .*Received: "__proto__"$/,
    '/optimizer/config/__proto__',
  ],
  [
    'objects 100,000 deep as learning rate',
    `{"optimizer":{"config":{"learning_rate":${deepObjects}}}}`,
    'invalid_argument',
    /Received: "a"$/,
    '/optimizer/config/learning_rate/a',
  ],
  [
    'objects 100,000 deep as beta_1',
    `{"optimizer":{"config":{"beta_1":${deepObjects}}}}`,
    'invalid_argument',
    /Received: an object$/,
    '/optimizer/config/beta_1',
  ],
  [
    'another durability',
    '{"durability":"never"}',
    'invalid_parameter',
    /^\/durability must be one of "always", "everysec", "checkpoint"\. Received: "never"/,
    '/durability',
  ],
  [
    'an unknown mode',
    '{"aggregation":{"mode":"bsp"}}',
    'invalid_parameter',
    /^\/aggregation\/mode must be one of "async", "sync", "ssp"\. Received: "bsp"/,
    '/aggregation/mode',
  ],
  [
    'a negative staleness',
    '{"aggregation":{"mode":"async","max_staleness":-1}}',
    'invalid_parameter',
    /max_staleness must be >= 0\. Received: -1/,
    '/aggregation/max_staleness',
  ],
  [
    'steps of no gradients',
    '{"aggregation":{"mode":"sync","replicas_to_aggregate":0}}',
    'invalid_parameter',
    /replicas_to_aggregate must be >= 1\. Received: 0/,
    '/aggregation/replicas_to_aggregate',
  ],
  [
    'steps of more gradients than can wait',
    '{"aggregation":{"mode":"sync","replicas_to_aggregate":1025}}',
    'invalid_parameter',
    /replicas_to_aggregate must be <= 1024\. Received: 1025/,
    '/aggregation/replicas_to_aggregate',
  ],
  [
    'a wait without end',
    '{"aggregation":{"mode":"ssp","max_lead":1,"timeout_ms":3600001}}',
    'invalid_parameter',
    /timeout_ms must be <= 3600000\. Received: 3600001/,
    '/aggregation/timeout_ms',
  ],
  [
    'an unknown aggregation member',
    '{"aggregation":{"mode":"sync","replicas":2}}',
    'invalid_parameter',
    /no member "replicas"\. Received: it/,
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
    'no number of gradients for a step',
    '{"aggregation":{"mode":"sync"}}',
    'invalid_argument',
    /^aggregation of mode "sync" must have "replicas_to_aggregate"\. Received: none$/,
  ],
  [
    'no bound for a lead',
    '{"aggregation":{"mode":"ssp","max_lead":null}}',
    'invalid_argument',
    /^aggregation of mode "ssp" must have "max_lead"\. Received: none$/,
  ],
  [
    'fewer workers than gradients',
    '{"aggregation":{"mode":"sync","replicas_to_aggregate":3,"total_num_replicas":2}}',
    'invalid_argument',
    /^total_num_replicas must be at least replicas_to_aggregate, 3\. Received: 2$/,
  ],
  [
    "another mode's rule",
    '{"aggregation":{"mode":"async","max_lead":3}}',
    'invalid_argument',
    /^aggregation of mode "async" must have no members but max_staleness, staleness_policy, quarantine_after\. Received: max_lead$/,
  ],
  [
    'metadata over 64 KiB in UTF-8 alone',
    JSON.stringify({ metadata: { notes: 'ä'.repeat(32_768) } }),
    'invalid_argument',
    /at most 65536 bytes as JSON\. Received: 65548$/,
  ],
  [
    'metadata 100,000 deep',
    `{"metadata":${deepObjects}}`,
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
    [
      'a list as config',
      '{"optimizer":{"config":[]}}',
      'invalid_argument',
      /config .*must be an object\. Received: \[\]$/,
      '/optimizer/config',
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
      '{"variables":{"w":{"shape":[1000000000000,100]}}}',
      'insufficient_memory',
      /left\. Received: 1200000000000000 bytes$/,
    ],
    [
      'infinite memory',
      `{"variables":{"w":{"shape":[${Array(32).fill(Number.MAX_SAFE_INTEGER)}]}}}`,
      'invalid_argument',
      /^"w" must have at most 1125899906842623 elements, sizes of 0 aside\. Received: shape \[9007199254740991,/,
    ],
    [
      'no row of infinite memory',
      `{"variables":{"w":{"shape":[0,${Array(31).fill(Number.MAX_SAFE_INTEGER)}]}}}`,
      'invalid_argument',
      /elements, sizes of 0 aside\. Received: shape \[0,9007199254740991,/,
    ],
    [
      'more memory in many variables',
      JSON.stringify({
        variables: Object.fromEntries(Array.from({ length: 1000 }, (_, k) => [`w${k}`, { shape: [100] }])),
      }),
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
    [
      'a list as config',
      '{"optimizer":{"config":[]}}',
      'invalid_parameter',
      /config must be object\. Received: a list of 0$/,
      '/optimizer/config',
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
