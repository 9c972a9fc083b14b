/**
 * Every bound, at N and at N + 1: what comes is taken or, one more, refused with the rule and what came. Where N itself would
 * take too long to reach over the network, it is reached through the class that holds it.
 */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { usableMemory } from '../src/config.ts';
import { catalogue, type ProblemCode } from '../src/errors.ts';
import * as limits from '../src/limits.ts';
import { EventStreams } from '../src/plugins/event-stream.ts';
import { Workers } from '../src/session/workers.ts';
import type { HeldSession } from '../src/store/held-session.ts';
import { IdempotencyKeys } from '../src/store/idempotency.ts';
import { type Household, Lifecycle } from '../src/store/lifecycle.ts';
import { MemoryBudget } from '../src/store/memory-budget.ts';
import { Names } from '../src/store/names.ts';
import { SessionEvents } from '../src/store/session-events.ts';
import type { Started } from '../src/store/start.ts';
import { WorkerWatch } from '../src/store/worker-watch.ts';
import { readHeaderLength, readSafetensorsHeader } from '../src/tensor/safetensors.ts';
import { type Answer, type Api, type Call, encodeFile, f32, safetensors, startApi } from './support/api.ts';
import { create, push, refused, succeeded } from './support/calls.ts';

const bodyBytesMax = 20_000_000;
const api = await startApi({ after }, { bodyBytesMax });
await create(api, 'shared');
await create(api, 's', { w: { values: [1, 2] }, long: { shape: [limits.jsonPartsMax - 7, 1] } });

type Ask = readonly [method: string, path: string, call?: Call];

interface Row {
  readonly name: string;
  /** The request that goes to the bound, or beyond it: `n` is N or N + 1. */
  readonly ask: (n: number) => Ask;
  readonly n: number;
  /** What the request at N meets: a success, or what is looked at after the bound. */
  readonly status?: number;
  readonly code: ProblemCode;
  readonly rule: RegExp;
}

const s = '/v1/sessions/s';
const json = (text: string): Call => ({ json: text });
const repeat = (text: string, n: number): string => Array(n).fill(text).join();
/** A JSON text that spaces make as long as is wanted. */
const padded = (text: string, bytes: number): string => text + ' '.repeat(bytes - Buffer.byteLength(text));
const gradients = '{"gradients":{"w":{"values":[0,0]}}}';
const empty = { dtype: 'F32', shape: [0], bytes: new Uint8Array() } as const;
const zipped = (bytes: string | Buffer, type: string): Call => ({
  bytes: gzipSync(bytes),
  headers: { 'content-type': type, 'content-encoding': 'gzip' },
});
/** A file of that many bytes in all, of zeros for a variable that is not there. */
function fileOf(bytes: number): Buffer {
  const header = `{"none":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}`;
  const file = Buffer.alloc(bytes, ' ');
  file.writeBigUInt64LE(BigInt(bytes - 10));
  file.write(header, 8);
  return file.fill(0, bytes - 2);
}
const names = (n: number, member: (name: string) => string): string =>
  `{${Array.from({ length: n }, (_, k) => member(`v${k}`)).join()}}`;
const nest = (levels: number, inner: string): string => '['.repeat(levels) + inner + ']'.repeat(levels);
const make = (name: string, text: string): Ask => ['PUT', `/v1/sessions/${name}`, json(text)];
const pushed = (values: string): Ask => ['POST', `${s}/gradients`, json(`{"gradients":{"w":{"values":${values}}}}`)];
const change = (text: string): Ask => ['PATCH', s, json(text)];
const schedule = (n: number): string =>
  `{"class_name":"PiecewiseConstantDecay","config":{"boundaries":[${Array.from({ length: n }, (_, k) => k)}],"values":[${repeat('1', n + 1)}]}}`;
const aggregation = (member: string, mode = 'sync'): Ask => [
  'PATCH',
  '/v1/sessions/shared',
  json(`{"aggregation":{"mode":"${mode}",${member}${mode === 'sync' ? '' : ',"max_lead":1'}}}`),
];
const long = (n: number): string => repeat('[0]', n - 7);

let made = 0;
const fresh = (): string => `made-${made++}`;

const rows: Row[] = [
  {
    name: 'a body',
    n: bodyBytesMax,
    ask: (n) => ['POST', `${s}/gradients`, { bytes: fileOf(n) }],
    status: 422,
    code: 'body_too_large',
    rule: /^a body must have at most 20000000 bytes, decompressed\. Received: 20000001 bytes$/,
  },
  {
    name: 'a decompressed body',
    n: bodyBytesMax,
    ask: (n) => ['POST', `${s}/gradients`, zipped(fileOf(n), safetensors)],
    status: 422,
    code: 'body_too_large',
    rule: /^a body must have at most 20000000 bytes, decompressed\. Received: more$/,
  },
  {
    name: 'a JSON body',
    n: limits.jsonBodyBytesMax,
    ask: (n) => ['POST', `${s}/gradients`, json(padded(gradients, n))],
    code: 'body_too_large',
    rule: /^a body must have at most 16777216 bytes, decompressed; larger tensors .*Received: 16777217 bytes$/,
  },
  {
    name: 'a decompressed JSON body',
    n: limits.jsonBodyBytesMax,
    ask: (n) => ['POST', `${s}/gradients`, zipped(padded(gradients, n), 'application/json')],
    code: 'body_too_large',
    rule: /^a body must have at most 16777216 bytes, .*Received: more$/,
  },
  {
    name: 'lists, objects and members of a JSON body',
    n: limits.jsonPartsMax,
    ask: (n) => ['POST', `${s}/gradients`, json(`{"gradients":{"long":{"values":[${long(n)}]}}}`)],
    code: 'body_too_large',
    rule: /^a JSON body must have at most 262144 of "\[", "\{" and ":".*; values may come flat.*Received: 262145$/,
  },
  {
    name: 'indices in JSON',
    n: limits.jsonIndicesMax,
    ask: (n) => ['POST', `${s}/lookup`, json(`{"variables":{"w":{"indices":[${repeat('0', n)}]}}}`)],
    code: 'invalid_parameter',
    rule: /^\/variables\/w\/indices must NOT have more than 1048576 items\. Received: a list of 1048577$/,
  },
  {
    name: 'gradients in JSON',
    n: limits.variablesMax,
    ask: (n) => ['POST', `${s}/gradients`, json(`{"gradients":${names(n, (name) => `"${name}":{"values":[]}`)}}`)],
    status: 422,
    code: 'invalid_parameter',
    rule: /^\/gradients must NOT have more than 16384 properties\. Received: an object$/,
  },
  {
    name: 'variables of a lookup in JSON',
    n: limits.variablesMax,
    ask: (n) => ['POST', `${s}/lookup`, json(`{"variables":${names(n, (name) => `"${name}":{"indices":[]}`)}}`)],
    status: 422,
    code: 'invalid_parameter',
    rule: /^\/variables must NOT have more than 16384 properties/,
  },
  {
    name: 'variables of a session from JSON',
    n: limits.variablesMax,
    ask: (n) => make(fresh(), `{"variables":${names(n, (name) => `"${name}":{"shape":[0]}`)}}`),
    status: 201,
    code: 'invalid_parameter',
    rule: /^\/variables must NOT have more than 16384 properties/,
  },
  {
    name: 'variables of a session from a file',
    n: limits.variablesMax,
    ask: (n) => {
      const tensors = Object.fromEntries(Array.from({ length: n }, (_, k) => [`v${k}`, empty]));
      return ['PUT', `/v1/sessions/${fresh()}`, { bytes: encodeFile(tensors) }];
    },
    status: 201,
    code: 'invalid_argument',
    rule: /^a session must have at most 16384 variables\. Received: 16385$/,
  },
  {
    name: "an option in a file's metadata",
    n: limits.optionBytesMax,
    ask: (n) => ['PUT', `/v1/sessions/${fresh()}`, { bytes: encodeFile({}, { optimizer: padded('{}', n) }) }],
    status: 201,
    code: 'invalid_argument',
    rule: /^__metadata__ must hold at most 1048576 characters under "optimizer"\. Received: 1048577$/,
  },
  {
    name: 'dimensions in JSON',
    n: limits.rankMax,
    ask: (n) => make(fresh(), `{"variables":{"w":{"shape":[${repeat('1', n)}]}}}`),
    status: 201,
    code: 'invalid_parameter',
    rule: /^\/variables\/w\/shape must NOT have more than 32 items\. Received: a list of 33$/,
  },
  {
    name: 'dimensions of nested values',
    n: limits.rankMax,
    ask: (n) => make(fresh(), `{"variables":{"w":{"values":${nest(n, '1')}}}}`),
    status: 201,
    code: 'shape_mismatch',
    rule: /^values must be nested at most 32 deep\. Received: more$/,
  },
  {
    name: 'dimensions in a file',
    n: limits.rankMax,
    ask: (n) => ['PUT', `/v1/sessions/${fresh()}`, { bytes: encodeFile({ w: f32([1], Array(n).fill(1)) }) }],
    status: 201,
    code: 'malformed_body',
    rule: /must have as shape at most 32 integers .*Received: more than 32$/,
  },
  {
    name: 'elements',
    n: Math.floor(limits.elementsMax),
    ask: (n) => make(fresh(), `{"variables":{"w":{"shape":[${n}]}}}`),
    // There is no memory for them.
    status: 507,
    code: 'invalid_argument',
    rule: /^"w" must have at most 1125899906842623 elements, sizes of 0 aside\. Received: shape \[1125899906842624\]$/,
  },
  {
    name: "a session's name",
    n: limits.sessionNameMax,
    ask: (n) => make('a'.repeat(n), '{}'),
    status: 201,
    code: 'invalid_parameter',
    rule: /^\/params\/session must match pattern .*\{0,127\}.*Received: "a+…$/,
  },
  {
    name: "a variable's name",
    n: limits.variableNameMax,
    ask: (n) => make(fresh(), `{"variables":{"${'a'.repeat(n)}":{"shape":[1]}}}`),
    status: 201,
    code: 'invalid_parameter',
    rule: /^\/variables must have no member "a+"\. Received: it$/,
  },
  {
    name: "a worker's name",
    n: limits.workerNameMax,
    ask: (n) => ['POST', `${s}/gradients?worker=${'a'.repeat(n)}`, json(gradients)],
    code: 'invalid_parameter',
    rule: /^\/query\/worker must NOT have more than 128 characters\. Received: "a+…$/,
  },
  {
    name: 'an idempotency key',
    n: limits.keyLengthMax,
    ask: (n) => ['POST', `${s}/gradients`, { json: gradients, headers: { 'idempotency-key': 'a'.repeat(n) } }],
    code: 'invalid_parameter',
    rule: /^Idempotency-Key must be 1 to 255 visible ASCII characters\. Received: "a+" \(256\)$/,
  },
  {
    name: 'sessions in a page',
    n: limits.listedMax,
    ask: (n) => ['GET', `/v1/sessions?limit=${n}`],
    code: 'invalid_parameter',
    rule: /^\/query\/limit must be <= 1000\. Received: 1001$/,
  },
  {
    name: "bytes of a session's metadata",
    n: limits.metadataBytesMax,
    // {"a":"…"} has 8 bytes around its text.
    ask: (n) => make(fresh(), `{"metadata":{"a":"${'a'.repeat(n - 8)}"}}`),
    status: 201,
    code: 'invalid_argument',
    rule: /^metadata must have at most 65536 bytes as JSON\. Received: 65537$/,
  },
  {
    name: "depth of a session's metadata",
    n: limits.metadataDepthMax,
    ask: (n) => make(fresh(), `{"metadata":{"a":${nest(n - 1, '1')}}}`),
    status: 201,
    code: 'invalid_argument',
    rule: /^metadata must be nested at most 64 deep\. Received: more$/,
  },
  {
    name: 'depth of a patch of metadata',
    n: limits.metadataDepthMax,
    ask: (n) => change(`{"metadata":{"a":${nest(n - 1, '1')}}}`),
    code: 'invalid_argument',
    rule: /^metadata must be nested at most 64 deep\. Received: more$/,
  },
  {
    name: "an optimizer's name",
    n: limits.optimizerNameMax,
    ask: (n) => change(`{"optimizer":{"config":{"name":"${'a'.repeat(n)}"}}}`),
    code: 'invalid_argument',
    rule: /^name of Adamax must be a string of at most 256 characters\. Received: "a+…"$/,
  },
  {
    name: 'members of an object of Keras',
    n: limits.kerasMembersMax,
    ask: (n) => make(fresh(), `{"optimizer":{"config":${names(n, (name) => `"${name}":1`)}}}`),
    // None of them is one of Adamax'.
    status: 422,
    code: 'invalid_argument',
    rule: /^the members of config of optimizer must be at most 64\. Received: 65$/,
  },
  {
    name: 'boundaries of a schedule',
    n: limits.scheduleBoundariesMax,
    ask: (n) => change(`{"optimizer":{"config":{"learning_rate":${schedule(n)}}}}`),
    code: 'invalid_argument',
    rule: /^values of PiecewiseConstantDecay must be an array of at most 10001 numbers\. Received: \[.*10002 values\)\]$/,
  },
  {
    name: 'checkpoints that are kept',
    n: limits.checkpointsKeptMax,
    ask: (n) => change(`{"checkpointing":{"keep":${n}}}`),
    code: 'invalid_parameter',
    rule: /^\/checkpointing\/keep must be <= 10000\. Received: 10001/,
  },
  {
    name: 'seconds between checkpoints',
    n: limits.everySecondsMax,
    ask: (n) => change(`{"checkpointing":{"every_seconds":${n}}}`),
    code: 'invalid_parameter',
    rule: /^\/checkpointing\/every_seconds must be <= 1000000000\. Received: 1000000001/,
  },
  {
    name: 'gradients that make a step',
    n: limits.replicasMax,
    ask: (n) => aggregation(`"replicas_to_aggregate":${n}`),
    code: 'invalid_parameter',
    rule: /^\/aggregation\/replicas_to_aggregate must be <= 1024\. Received: 1025/,
  },
  {
    name: 'waiting for other workers',
    n: limits.aggregationTimeoutMsMax,
    ask: (n) => aggregation(`"replicas_to_aggregate":2,"timeout_ms":${n}`),
    code: 'invalid_parameter',
    rule: /^\/aggregation\/timeout_ms must be <= 3600000\. Received: 3600001/,
  },
  {
    name: 'silence of a worker',
    n: limits.workerTimeoutMsMax,
    ask: (n) => aggregation(`"worker_timeout_ms":${n}`, 'ssp'),
    code: 'invalid_parameter',
    rule: /^\/aggregation\/worker_timeout_ms must be <= 86400000\. Received: 86400001/,
  },
];

describe('over the network, at N and at N + 1:', () => {
  for (const { name, ask, n, status = 200, code, rule } of rows) {
    test(name, async () => {
      const call = ([method, path, body]: Ask): Promise<Answer> => api.call(method, path, body);
      const taken = await call(ask(n));
      assert.equal(taken.status, status, taken.bytes.toString().slice(0, 500));
      if (status >= 400) assert.doesNotMatch(taken.json.detail, rule);
      const { detail } = refused(await call(ask(n + 1)), code);
      assert.match(detail, rule);
      assert.ok(detail.length < 1000, `the message has ${detail.length} characters`);
    });
  }

  /** Bodies of the size that JSON may have, each of which took `JSON.parse`, and what came behind it, 3 to 20 s. */
  const crowds: [name: string, text: () => string][] = [
    ['lists within lists', () => nest(8_000_000, '')],
    ['lists in a list', () => `{"metadata":{"a":[${repeat('[]', 5_000_000)}]}}`],
    ['members', () => `{"metadata":${names(1_200_000, (name) => `"${name}":1`)}}`],
    ['members of an object of Keras', () => `{"optimizer":{"config":${names(1_200_000, (name) => `"${name}":1`)}}}`],
  ];
  for (const [name, text] of crowds) {
    test(`millions of ${name} are refused at once`, async () => {
      const call = json(text());
      const before = process.cpuUsage();
      refused(await api.call('PATCH', s, call), 'body_too_large');
      const { user } = process.cpuUsage(before);
      assert.ok(user < 1_500_000, `it took ${user} µs`);
    });
  }

  test('what is wrong, of which so much is told', async () => {
    const wrong = (n: number) => pushOf(names(n, (name) => `"${name}":{"values":[]}`));
    const pushOf = (text: string) => api.call('POST', `${s}/gradients`, json(`{"gradients":${text}}`));
    const { problemItemsMax } = limits;
    const below = refused(await wrong(problemItemsMax - 1), 'unknown_variable');
    assert.equal(below.errors.length, problemItemsMax - 1);
    assert.match(below.detail, /\(and 62 more\)$/);
    for (const n of [problemItemsMax, problemItemsMax + 1]) {
      const { errors, detail } = refused(await wrong(n), 'unknown_variable');
      assert.equal(errors.length, problemItemsMax);
      assert.match(detail, /\(and at least 63 more\)$/);
    }
    const [, , call] = pushed('[0,0]');
    succeeded(await api.call('POST', `${s}/gradients`, call));
  });

  test('a wait for a change', async () => {
    await create(api, 'waited', { w: { values: [1] } });
    for (const asked of [limits.waitSecondsMax, limits.waitSecondsMax + 1]) {
      const headers = { 'if-none-match': '*', prefer: `wait=${asked}` };
      let isOver = false;
      const waiting = api.call('GET', '/v1/sessions/waited/variables', { headers }).finally(() => {
        isOver = true;
      });
      // Until one of them comes while it waits.
      while (!isOver) await push(api, 'waited', { w: { values: [0] } });
      assert.equal((await waiting).headers['preference-applied'], `wait=${limits.waitSecondsMax}`);
    }
  });

  test('requests that wait for a session', async () => {
    await create(api, 'busy', { w: { values: [1] } });
    const { live } = api.store.session('busy');
    let open = (): void => undefined;
    const busy = live.turns.alone(() => new Promise<void>((resolve) => (open = resolve)));
    const waiting = Array.from({ length: limits.queuedRequestsMax }, () => live.read(() => undefined));
    const answer = await api.call('GET', '/v1/sessions/busy/variables');
    assert.equal(answer.headers['retry-after'], '1');
    assert.match(refused(answer, 'overloaded').detail, /^at most 1024 requests can wait .*Received: one more$/);
    open();
    // All that had come before the one too many are served.
    await Promise.all([busy, ...waiting]);
    succeeded(await api.call('GET', '/v1/sessions/busy/variables'));
  });
});

describe('memory, to the byte:', () => {
  // w, m and v of 4 bytes for each of so many elements.
  const elements = 50_000;
  const stateBytes = 12 * elements;
  const file = encodeFile({ w: f32(Array(elements).fill(1)) });
  const one = { variables: { w: { shape: [elements] } } };
  const start = (t: { after(task: () => Promise<void>): void }, memoryBytesMax: number): Promise<Api> =>
    startApi(t, { memoryBytesMax });

  const creations: [name: string, beside: number, call: Call][] = [
    ['JSON', 0, { json: one }],
    ['a file', file.length, { bytes: file }],
  ];
  for (const [name, beside, call] of creations) {
    test(`a session from ${name}`, async (t) => {
      // The body has its part only until it is answered, and a session does not wait for that.
      const budget = Math.max(stateBytes, beside);
      const short = await start(t, budget - 1);
      const { detail } = refused(await short.call('PUT', '/v1/sessions/s', call), 'insufficient_memory');
      assert.match(
        detail,
        new RegExp(`^a session must fit into the ${budget - 1} bytes .*Received: ${stateBytes} bytes$`),
      );
      refused(await short.call('GET', '/v1/sessions/s'), 'session_not_found');
      succeeded(await (await start(t, budget)).call('PUT', '/v1/sessions/s', call), 201);
    });
  }

  test('a fork', async (t) => {
    for (const [budget, fits] of [
      [2 * stateBytes - 1, false],
      [2 * stateBytes, true],
    ] as const) {
      const small = await start(t, budget);
      succeeded(await small.call('PUT', '/v1/sessions/s', { json: one }), 201);
      const answer = await small.call('POST', '/v1/sessions/s/fork', { json: { name: 'twin' } });
      if (fits) succeeded(answer, 201);
      else refused(answer, 'insufficient_memory');
    }
  });

  test('a restore, whose state is beside the other one until it is whole', async (t) => {
    const first = await start(t, 10 * stateBytes);
    succeeded(await first.call('PUT', '/v1/sessions/s', { json: one }), 201);
    const [{ bytes }] = succeeded(await first.call('GET', '/v1/sessions/s/checkpoints')).json.checkpoints;
    for (const [budget, fits] of [
      [stateBytes + bytes - 1, false],
      [stateBytes + bytes, true],
    ] as const) {
      const small = await start(t, budget);
      succeeded(await small.call('PUT', '/v1/sessions/s', { json: one }), 201);
      const answer = await small.call('POST', '/v1/sessions/s/checkpoints/latest/restore');
      if (fits) succeeded(answer);
      else refused(answer, 'insufficient_memory');
      // What was needed on the way is there again.
      assert.equal(small.store.session('s').bytes, stateBytes);
      succeeded(await small.call('DELETE', '/v1/sessions/s'), 204);
      succeeded(await small.call('PUT', '/v1/sessions/s', { json: one }), 201);
    }
  });

  test('the body of a request', async (t) => {
    for (const [budget, fits] of [
      [stateBytes + file.length - 1, false],
      [stateBytes + file.length, true],
    ] as const) {
      const small = await start(t, budget);
      succeeded(await small.call('PUT', '/v1/sessions/s', { json: one }), 201);
      const call = { bytes: file, headers: { prefer: 'return=minimal' } };
      const answer = await small.call('POST', '/v1/sessions/s/gradients', call);
      if (fits) succeeded(answer);
      else assert.match(refused(answer, 'insufficient_memory').detail, /^a body or reply must fit into the/);
    }
  });

  test('by default 80 % of what the container may use, and of all that there is where it may use all', () => {
    const machine = 16_000_000_000;
    // Without control groups, without a limit of version 2 or 1 (as Node 20 tells them), and with limits.
    for (const none of [undefined, 0, 2 ** 64, 2 ** 63 - 4096]) assert.equal(usableMemory(none, machine), machine);
    assert.equal(usableMemory(500_000_000, machine), 500_000_000);
    assert.equal(usableMemory(machine + 1, machine), machine);
  });
});

describe('through the class that holds it, at N and at N + 1:', () => {
  const problem = (code: ProblemCode, message: RegExp) => ({ code, message, status: catalogue[code].status });

  test('sessions', async () => {
    const attempt = (sessions: number) => {
      const held = new Map(Array.from({ length: sessions }, (_, k) => [`s${k}`, {} as HeldSession]));
      const house = {
        sessions: held,
        names: new Names(1),
        // What is looked at next.
        memory: new MemoryBudget(0, () => 0),
        recovered: () => ({}) as Started,
      } as unknown as Household;
      return new Lifecycle(house).create('one more', { bytes: 1, make: () => assert.fail('it must not be made') });
    };
    await assert.rejects(attempt(limits.sessionsMax - 1), problem('insufficient_memory', /Received: 1 bytes$/));
    const rule = /^at most 4096 sessions can exist\. Received: one more$/;
    await assert.rejects(attempt(limits.sessionsMax), problem('session_quota_exceeded', rule));
  });

  test('listeners to events', (t) => {
    const streams = new EventStreams();
    t.after(() => streams.close());
    const events = new SessionEvents({ revision: 0, iterations: 0 });
    const open = () => {
      streams.requireRoom();
      const raw = Object.assign(new EventEmitter(), { writeHead: () => undefined, write: () => true });
      streams.open(raw as unknown as ServerResponse, {}, events, []);
    };
    for (let k = 0; k < limits.listenersMax; k++) open();
    assert.throws(open, problem('overloaded', /^at most 4096 clients can listen to events\. Received: one more$/));
  });

  test('workers that are remembered, of whom the oldest is forgotten', () => {
    const workers = new Workers();
    const watch = new WorkerWatch();
    const see = (k: number) => {
      workers.note({ worker: `w${k}`, staleness: undefined, clock: undefined });
      watch.see(`w${k}`);
    };
    for (let k = 0; k < limits.workersMax; k++) see(k);
    assert.ok(workers.get('w0') && watch.get('w0'), 'nobody is forgotten at N');
    see(limits.workersMax);
    assert.equal(workers.get('w0') ?? watch.get('w0'), undefined);
    assert.ok(workers.get('w1') && watch.get('w1'), 'one is forgotten for one that comes');
    assert.equal([...workers.entries()].length, limits.workersMax);
  });

  test('idempotency keys that are remembered, of which the oldest is forgotten', () => {
    const keys = new IdempotencyKeys(limits.keysMaxDefault);
    const remember = (k: number) =>
      keys.remember({ key: `k${k}`, digest: '', revision: k, iterations: k, learningRate: 1 });
    for (let k = 0; k < limits.keysMaxDefault; k++) remember(k);
    assert.equal(keys.knows('k0'), true);
    remember(limits.keysMaxDefault);
    assert.deepEqual([keys.knows('k0'), keys.knows('k1'), keys.size], [false, true, limits.keysMaxDefault]);
  });

  test('the header of a safetensors file', () => {
    const start = (length: number) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt(length));
      return readHeaderLength(bytes, 2 ** 40);
    };
    assert.equal(start(limits.safetensorsHeaderBytesMax), 100_000_000);
    const rule = /^safetensors header must have at most 100000000 bytes\. Received: 100000001$/;
    assert.throws(() => start(limits.safetensorsHeaderBytesMax + 1), problem('malformed_body', rule));
  });

  const entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}';
  const headers: [name: string, n: number, header: (n: number) => string, rule: RegExp][] = [
    [
      'tensors of a safetensors file',
      limits.tensorsMax,
      (n) => names(n, (name) => `"${name}":${entry}`),
      /^safetensors file must have at most 49152 tensors\. Received: more$/,
    ],
    [
      'strings of its metadata',
      limits.metadataStringsMax,
      (n) => `{"__metadata__":${names(n, (name) => `"${name}":""`)}}`,
      /^__metadata__ must have at most 16384 strings\. Received: more$/,
    ],
  ];
  for (const [name, n, header, rule] of headers) {
    test(name, () => {
      const { entries, metadata } = readSafetensorsHeader(Buffer.from(header(n)), 0);
      assert.equal(entries.size + metadata.size, n);
      assert.throws(() => readSafetensorsHeader(Buffer.from(header(n + 1)), 0), problem('malformed_body', rule));
    });
  }
});

test('docs/limits.md has every bound with its value, and no other', async () => {
  const text = await readFile(new URL('../docs/limits.md', import.meta.url), 'utf8');
  const documented = [...text.matchAll(/^\| `(\w+)` +\| +([\d,]+) \|/gm)].map(([, name, value]) => [
    name as string,
    Number((value as string).replaceAll(',', '')),
  ]);
  const actual = Object.entries(limits).map(([name, value]) => [name, Math.floor(value)]);
  const byName = (list: (string | number)[][]) => list.map((each) => each.join(': ')).sort();
  assert.deepEqual(byName(documented as (string | number)[][]), byName(actual as (string | number)[][]));
});
