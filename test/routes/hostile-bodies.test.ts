/** Hostile bodies: bytes that are no JSON, formats and encodings that the server has not or that lie, and sizes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { deflateSync, gzipSync } from 'node:zlib';
import type { ProblemCode } from '../../src/errors.ts';
import { encodeFile, f32, safetensors, startApi } from '../support/api.ts';
import { create, push } from '../support/calls.ts';
import { createHonest, type Hostile, refuseAll, session, snapshot } from './hostile.ts';

const bodyBytesMax = 100_000;
const api = await startApi({ after }, { bodyBytesMax });
await createHonest(api);

const path = `${session}/gradients`;
const gradient = '{"gradients":{"d":{"values":[1,2]}}}';
const file = encodeFile({ d: f32([1, 2]) });

type Row = readonly [name: string, call: Partial<Hostile>, code: ProblemCode, detail: RegExp];
/** Rows of pushes, unless they say another method or path. */
const pushes = (rows: readonly Row[]): Hostile[] =>
  rows.map(([name, call, code, detail]) => ({ method: 'POST', path, ...call, name, code, detail }));
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

test('a body streamed beyond the limit without a length is refused while it comes', async () => {
  const honest = await snapshot(api);
  const { port } = api.app.server.address() as AddressInfo;
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
