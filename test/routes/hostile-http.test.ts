/**
 * Hostile HTTP around the bodies: their size, encoding and format, addresses, query strings and headers, bytes that are no
 * HTTP, connections that end half way, and a session that is deleted under a push.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { after, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { deflateSync, gzipSync } from 'node:zlib';
import type { ProblemCode } from '../../src/errors.ts';
import { encodeFile, f32, safetensors, startApi } from '../support/api.ts';
import { create, push } from '../support/calls.ts';
import { createHonest, type Hostile, refuseAll, session, snapshot } from './hostile.ts';

const bodyBytesMax = 100_000;
const api = await startApi({ after }, { bodyBytesMax });
await createHonest(api);
const honest = await snapshot(api);
const { port } = api.app.server.address() as AddressInfo;

const path = `${session}/gradients`;
const gradient = '{"gradients":{"d":{"values":[1,2]}}}';
const file = encodeFile({ d: f32([1, 2]) });

type Row = readonly [name: string, call: Partial<Hostile>, code: ProblemCode, detail: RegExp];
/** Rows of pushes, unless they say another method or path. */
const pushes = (rows: readonly Row[]): Hostile[] =>
  rows.map(([name, call, code, detail]) => ({ method: 'POST', path, ...call, name, code, detail }));
const reads = (rows: readonly Row[]): Hostile[] =>
  rows.map(([name, call, code, detail]) => ({ method: 'GET', path: session, ...call, name, code, detail }));
const bytes = (text: string | Uint8Array, type = 'application/json', encoding?: string) => ({
  bytes: Buffer.from(text),
  headers: { 'content-type': type, ...(encoding === undefined ? {} : { 'content-encoding': encoding }) },
});

const deep = '['.repeat(100_000);
const badJson = /^a JSON body must be well-formed\. Received: ./;
refuseAll('bodies that are no JSON are refused', api, [
  ...pushes([
    [
      'bytes that are no UTF-8',
      bytes(Buffer.from('7b2261ff223a317d', 'hex')),
      'malformed_body',
      /must be UTF-8\. Received: other bytes$/,
    ],
    ['half a UTF-8 sequence', bytes(Buffer.from('22c3', 'hex')), 'malformed_body', /must be UTF-8/],
    ['UTF-16', bytes(Buffer.from(gradient, 'utf16le')), 'malformed_body', badJson],
    ['JSON cut off', bytes(gradient.slice(0, -3)), 'malformed_body', badJson],
    ['JSON and more', bytes(`${gradient}{}`), 'malformed_body', badJson],
    ['a comma at the end', bytes('{"gradients":{},}'), 'malformed_body', badJson],
    ['NaN', bytes(gradient.replace('1', 'NaN')), 'malformed_body', badJson],
    ['Infinity', bytes(gradient.replace('1', '-Infinity')), 'malformed_body', badJson],
    ['a number with a plus', bytes(gradient.replace('1', '+1')), 'malformed_body', badJson],
    ['a hexadecimal number', bytes(gradient.replace('1', '0x1')), 'malformed_body', badJson],
    ['single quotes', bytes("{'gradients':{}}"), 'malformed_body', badJson],
    ['spaces alone', bytes('  '), 'malformed_body', badJson],
    ['arrays 100,000 deep without end', bytes(deep.slice(0, 90_000)), 'malformed_body', badJson],
    ['a safetensors file as JSON', bytes(file), 'malformed_body', /^a JSON body must be UTF-8/],
    [
      'JSON as a safetensors file',
      bytes(gradient, safetensors),
      'malformed_body',
      /^safetensors header must have at most/,
    ],
    [
      'nothing',
      { headers: { 'content-type': 'application/json' } },
      'invalid_parameter',
      /the body must be object\. Received: (undefined|null)$/,
    ],
    [
      'nothing as a safetensors file',
      { headers: { 'content-type': safetensors } },
      'malformed_body',
      /file must have at least 8 bytes\. Received: 0$/,
    ],
    ['null', bytes('null'), 'invalid_parameter', /^the body must be object\. Received: null$/],
    ['an array', bytes('[]'), 'invalid_parameter', /^the body must be object\. Received: a list of 0$/],
    ['a number', bytes('5'), 'invalid_parameter', /^the body must be object\. Received: 5$/],
    ['a string', bytes('"w"'), 'invalid_parameter', /^the body must be object\. Received: "w"$/],
    ['true', bytes('true'), 'invalid_parameter', /^the body must be object\. Received: true$/],
  ]),
]);

const badCompression = /^a body must be compressed as its Content-Encoding says\. Received: other bytes$/;
const type415 = (received: string): RegExp =>
  new RegExp(
    `^Content-Type must be one of application/json, application/vnd.safetensors, application/octet-stream\\. Received: ${received}$`,
  );
refuseAll('formats that the server has not are refused', api, [
  ...pushes([
    ...[
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/jsonx',
      'application/merge-patch+json',
      'json',
      '*/*',
      ';',
    ].map(
      (type): Row => [
        `Content-Type: ${type}`,
        bytes(gradient, type),
        'unsupported_media_type',
        type415(type.replace(/[*/+]/g, '\\$&')),
      ],
    ),
    ['no Content-Type and no body', {}, 'unsupported_media_type', type415('none')],
    [
      'Content-Encoding: zstd',
      bytes(gradient, 'application/json', 'zstd'),
      'unsupported_media_type',
      /^Content-Encoding must be gzip, deflate or br\. Received: zstd$/,
    ],
    [
      'Content-Encoding: compress',
      bytes(file, safetensors, 'compress'),
      'unsupported_media_type',
      /Received: compress$/,
    ],
    [
      'two Content-Encodings',
      bytes(gzipSync(gzipSync(gradient)), 'application/json', 'gzip, gzip'),
      'unsupported_media_type',
      /Received: gzip, gzip$/,
    ],
    ['what is no gzip', bytes(gradient, 'application/json', 'gzip'), 'malformed_body', badCompression],
    ['gzip cut off', bytes(gzipSync(file).subarray(0, -9), safetensors, 'gzip'), 'malformed_body', badCompression],
    [
      'gzip with an altered byte',
      bytes(altered(gzipSync(gradient)), 'application/json', 'gzip'),
      'malformed_body',
      badCompression,
    ],
    ['what is no deflate', bytes(gradient, 'application/json', 'deflate'), 'malformed_body', badCompression],
    ['what is no brotli', bytes(gradient, 'application/json', 'br'), 'malformed_body', badCompression],
    [
      'an Accept that the server has not',
      { ...bytes(gradient), headers: { 'content-type': 'application/json', accept: 'text/html' } },
      'not_acceptable',
      /^Accept must allow one of application\/json, .*Received: text\/html$/,
    ],
    [
      'an Accept that refuses all',
      { ...bytes(gradient), headers: { 'content-type': 'application/json', accept: '*/*;q=0' } },
      'not_acceptable',
      /Received: \*\/\*;q=0$/,
    ],
  ]),
]);

/** The CRC of gzip is in its last eight bytes. */
function altered(gzip: Buffer): Buffer {
  gzip.writeUInt8(gzip.readUInt8(gzip.length - 6) ^ 1, gzip.length - 6);
  return gzip;
}

const large = encodeFile({ w: f32(new Array(30_000).fill(0)) });
const bomb = gzipSync(Buffer.alloc(100_000_000), { level: 9 });
const tooLarge = (received: string): RegExp =>
  new RegExp(`^a body must have at most ${bodyBytesMax} bytes, decompressed.*\\. Received: ${received}$`);
refuseAll('bodies beyond the limit are refused', api, [
  ...pushes([
    ['announced, as safetensors', bytes(large, safetensors), 'body_too_large', tooLarge(`${large.length} bytes`)],
    [
      'announced, as JSON, with the advice',
      bytes(`[${'0,'.repeat(60_000)}0]`),
      'body_too_large',
      /; larger tensors travel as application\/vnd\.safetensors\. Received: 120003 bytes$/,
    ],
    [
      'a gzip bomb of a thousand to one as safetensors',
      bytes(bomb, safetensors, 'gzip'),
      'body_too_large',
      tooLarge('more'),
    ],
    ['a gzip bomb as JSON', bytes(bomb, 'application/json', 'gzip'), 'body_too_large', tooLarge('more')],
    [
      'a deflate bomb',
      bytes(deflateSync(Buffer.alloc(10_000_000)), safetensors, 'deflate'),
      'body_too_large',
      tooLarge('more'),
    ],
  ]),
]);

const name128 = 'a'.repeat(128);
const sessionRule = /^\/params\/session must match pattern .*Received: "/;
const sessions = [
  '..',
  '.',
  '%2e%2e',
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
    sessions
      // What a client makes of these is another address.
      .filter((name) => !['..', '.', '%2e%2e'].includes(name))
      .map(
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
    [
      'an Idempotency-Key, which is not built',
      { json: gradient, headers: { 'idempotency-key': 'k' } },
      'invalid_parameter',
      /Received: the header Idempotency-Key$/,
    ],
  ]),
]);

/** What comes back on a connection that these bytes were sent on, until the server ends it. */
async function exchange(...parts: (string | Uint8Array)[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let received = '';
  socket.setEncoding('latin1').on('data', (text) => {
    received += text;
  });
  // A server that has said what it had to say may reset the connection.
  socket.on('error', () => undefined);
  for (const part of parts) socket.write(part);
  await once(socket, 'close');
  return received;
}

describe('what is no HTTP is answered with a problem and the connection is closed', () => {
  const garbage: [string, string | Uint8Array][] = [
    ['words', 'let me in\r\n\r\n'],
    ['a TLS greeting', Buffer.from('16030100a5010000a10303', 'hex')],
    ['zeros', Buffer.alloc(64)],
    ['another protocol', 'GET / SMTP/1.0\r\n\r\n'],
    ['a header without a colon', 'GET /healthz HTTP/1.1\r\nhost a\r\n\r\n'],
    ['a header of 100,000 bytes', `GET /healthz HTTP/1.1\r\nhost: a\r\nx: ${'x'.repeat(100_000)}\r\n\r\n`],
    ['an address of 100,000 bytes', `GET /${'x'.repeat(100_000)} HTTP/1.1\r\nhost: a\r\n\r\n`],
    ['a length that is no number', `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: ten\r\n\r\n`],
    [
      'a length and chunks',
      `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['no host', 'GET /healthz HTTP/1.1\r\n\r\n'],
  ];
  for (const [name, sent] of garbage) {
    test(name, async () => {
      const reply = await exchange(sent);
      assert.match(reply, /^HTTP\/1\.1 400 Bad Request\r\n/);
      if (name !== 'no host') {
        assert.match(reply, /\r\ncontent-type: application\/problem\+json\r\n/);
        const problem = JSON.parse(reply.slice(reply.indexOf('\r\n\r\n') + 4));
        assert.equal(problem.code, 'malformed_body');
        assert.match(problem.detail, /^a request must be well-formed HTTP\/1\.1\. Received: ./);
      }
      assert.deepEqual(await snapshot(api), honest);
    });
  }

  test('chunks that are none, within a push', async () => {
    const head = `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`;
    assert.match(await exchange(head, `5\r\n{"gra\r\nxyz\r\n`), /^HTTP\/1\.1 400 |^$/);
    assert.deepEqual(await snapshot(api), honest);
  });
});

test('a body streamed beyond the limit without a length is refused while it comes', async () => {
  for (const type of ['application/json', safetensors]) {
    const sending = request({ port, host: '127.0.0.1', method: 'POST', path, headers: { 'content-type': type } });
    sending.on('error', () => undefined);
    let open = true;
    sending.once('close', () => {
      open = false;
    });
    const answered = once(sending, 'response');
    for (let sent = 0; open && sent < 100 * bodyBytesMax; sent += 10_000) {
      if (!sending.write(Buffer.alloc(10_000, ' '))) await Promise.race([once(sending, 'drain'), answered]);
      if (sending.destroyed) break;
    }
    const [response] = await answered;
    assert.equal(response.statusCode, 413);
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk);
    const problem = JSON.parse(Buffer.concat(chunks).toString());
    assert.equal(problem.code, 'body_too_large');
    assert.match(problem.detail, tooLarge('more'));
    sending.destroy();
    assert.deepEqual(await snapshot(api), honest);
  }
});

describe('an upload that ends half way changes nothing', () => {
  const heads = {
    'of a length': `content-length: ${gradient.length}\r\n\r\n${gradient.slice(0, -1)}`,
    'in chunks': `transfer-encoding: chunked\r\n\r\n${gradient.length.toString(16)}\r\n${gradient}\r\n`,
    'in chunks, compressed': `content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5\r\n`,
  };
  for (const [name, rest] of Object.entries(heads)) {
    for (const end of ['destroy', 'end', 'resetAndDestroy'] as const) {
      test(`${name}, by ${end}`, async () => {
        const socket = connect(port, '127.0.0.1');
        socket.on('error', () => undefined).resume();
        await once(socket, 'connect');
        socket.write(`POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n${rest}`);
        await setTimeout(20);
        socket[end]();
        await once(socket, 'close');
        await setTimeout(20);
        assert.deepEqual(await snapshot(api), honest);
      });
    }
  }
});

test('pushes to a session that is deleted meanwhile apply whole or find no session', async () => {
  for (let round = 0; round < 5; round++) {
    await create(api, 'short-lived', { w: { values: [1, 2] } });
    const target = '/v1/sessions/short-lived';
    const json = { gradients: { w: { values: [1, 1] } } };
    const before = Array.from({ length: 4 }, () => api.call('POST', `${target}/gradients`, { json }));
    const deletion = api.call('DELETE', target);
    const after = Array.from({ length: 4 }, () => api.call('POST', `${target}/gradients`, { json }));
    assert.equal((await deletion).status, 204);
    for (const { status, json: reply } of await Promise.all([...before, ...after])) {
      if (status === 200) assert.equal(reply.session, 'short-lived');
      else assert.deepEqual([status, reply.code, reply.applied], [404, 'session_not_found', false]);
    }
    assert.deepEqual(await snapshot(api), honest);
  }
});

test('a JSON body beyond 16 MiB is refused with the advice to send safetensors', async (t) => {
  const other = await startApi(t);
  await create(other, 'w', { w: { values: [1] } });
  const json = `{"gradients":{"w":{"values":[${'1,'.repeat(8 * 2 ** 20)}1]}}}`;
  const answer = await other.call('POST', '/v1/sessions/w/gradients', { json });
  assert.equal(answer.status, 413);
  assert.match(
    answer.json.detail,
    /^a body must have at most 16777216 bytes, decompressed; larger tensors travel as application\/vnd\.safetensors\. Received: 16777250 bytes$/,
  );
  const reply = await push(other, 'w', { w: { values: [0] } });
  assert.equal(reply.iterations, 1);
});
