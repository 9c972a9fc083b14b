/** A user's path over HTTP/2, and what HTTP/2 does otherwise: streams that are reset, windows, GOAWAY. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { constants } from 'node:http2';
import { Agent, request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { encodeFile, f32, numbers, safetensors, startApi } from '../support/api.ts';
import { lentBytes, refused, succeeded } from '../support/calls.ts';
import { ca, closed, EventBlocks, Http2Client, replyTo, serverFiles } from '../support/http2-client.ts';

const api = await startApi({ after }, { tls: serverFiles, bodyBytesMax: 200_000_000 });
const client = await Http2Client.open({ after }, api);
const warnings: Error[] = [];
process.on('warning', (warning) => warnings.push(warning));

async function create(name: string, variables: object = { w: { values: [1, 2, 3] } }): Promise<void> {
  succeeded(await client.call('PUT', `/v1/sessions/${name}`, { json: { variables } }), 201);
}

const gradients = { gradients: { w: { values: [1, 1, 1] } } };

describe('over HTTP/2', () => {
  test('a session is created, trained in both formats, read, forked and deleted', async () => {
    await create('path');
    const pushed = succeeded(await client.call('POST', '/v1/sessions/path/gradients', { json: gradients }));
    assert.equal(pushed.json.iterations, 1);
    assert.equal(pushed.headers.etag, '"1"');
    assert.equal(pushed.headers.durability, 'always');
    const bytes = encodeFile({ w: f32([1, 1, 1]) });
    const file = succeeded(await client.call('POST', '/v1/sessions/path/gradients', { bytes })).file;
    const read = succeeded(await client.call('GET', '/v1/sessions/path/variables')).json;
    assert.deepEqual(numbers(file.tensors.get('w') as never), read.variables.w.values.map(Math.fround));
    const packed = { headers: { 'content-encoding': 'gzip', 'content-type': 'application/json' } };
    const compressed = gzipSync(JSON.stringify(gradients));
    assert.equal(
      succeeded(await client.call('POST', '/v1/sessions/path/gradients', { bytes: compressed, ...packed })).json
        .revision,
      3,
    );
    succeeded(await client.call('POST', '/v1/sessions/path/fork', { json: { name: 'forked' } }), 201);
    succeeded(await client.call('POST', '/v1/sessions/path/checkpoints'), 201);
    const ranged = await client.call('GET', '/v1/sessions/path/checkpoints/latest', {
      headers: { range: 'bytes=0-7' },
    });
    assert.equal(succeeded(ranged, 206).bytes.length, 8);
    const same = await client.call('GET', '/v1/sessions/path/variables', { headers: { 'if-none-match': '"3"' } });
    assert.equal(same.status, 304);
    succeeded(await client.call('DELETE', '/v1/sessions/path'), 204);
  });

  test('problems come as they do over HTTP/1.1', async () => {
    await create('problems');
    const path = '/v1/sessions/problems/gradients';
    refused(await client.call('GET', '/v1/sessions/nobody'), 'session_not_found');
    refused(await client.call('GET', '/nowhere'), 'route_not_found');
    refused(await client.call('GET', '/v1/sessions/%zz'), 'invalid_parameter');
    const other = await client.call('DELETE', path);
    assert.equal(refused(other, 'method_not_allowed').instance, path);
    assert.equal(other.headers.allow, 'POST');
    refused(await client.call('POST', path, { json: { gradients: { w: { values: [1] } } } }), 'shape_mismatch');
    refused(await client.call('POST', path, { bytes: Buffer.from('no file') }), 'malformed_body');
  });

  test('100 MB go in and come out, and the connection serves others meanwhile', { timeout: 240_000 }, async () => {
    const count = 25_000_000;
    await create('large', { w: { shape: [count] } });
    const values = new Float32Array(count).fill(1);
    const bytes = encodeFile({ w: { dtype: 'F32', shape: [count], bytes: new Uint8Array(values.buffer) } });
    const pushing = client.call('POST', '/v1/sessions/large/gradients', { bytes });
    await pause(20);
    succeeded(await client.call('GET', '/healthz'));
    const { tensors } = succeeded(await pushing).file;
    await create('small-too', { w: { shape: [1] } });
    const one = await client.call('POST', '/v1/sessions/small-too/gradients', { bytes: encodeFile({ w: f32([1]) }) });
    const value = one.file.tensors.get('w')?.bytes as Uint8Array;
    const expected = Buffer.alloc(4 * count, value);
    assert.ok(expected.equals(tensors.get('w')?.bytes as Uint8Array), 'each value must be that of one alone');
    succeeded(await client.call('DELETE', '/v1/sessions/large'), 204);
    for (let k = 0; k < 100 && lentBytes(api) > 0; k++) await pause(10);
    assert.equal(lentBytes(api), 0);
  });

  test('events come as they happen and end with the session', async () => {
    await create('followed');
    const stream = client.stream('GET', '/v1/sessions/followed/events', { accept: 'text/event-stream' });
    const [headers] = await once(stream, 'response');
    assert.equal(headers['content-type'], 'text/event-stream');
    assert.equal(headers['x-content-type-options'], 'nosniff');
    const events = new EventBlocks(stream);
    for (let step = 1; step <= 3; step++) {
      succeeded(await client.call('POST', '/v1/sessions/followed/gradients', { json: gradients }));
      const told = await events.next();
      assert.deepEqual([told?.event, JSON.parse(told?.data ?? '').iterations], ['step', step]);
    }
    succeeded(await client.call('DELETE', '/v1/sessions/followed'), 204);
    assert.equal((await events.next())?.event, 'session');
    assert.equal(await events.next(), undefined);
    assert.equal(stream.rstCode, constants.NGHTTP2_NO_ERROR);
  });

  test('a listener that is gone is forgotten', async () => {
    await create('heard');
    const stream = client.stream('GET', '/v1/sessions/heard/events');
    await once(stream, 'response');
    assert.equal(api.app.eventStreams.size, 1);
    stream.close(constants.NGHTTP2_CANCEL);
    while (api.app.eventStreams.size > 0) await pause(2);
    succeeded(await client.call('POST', '/v1/sessions/heard/gradients', { json: gradients }));
  });

  test('a read waits for a change, and one that is given up is over', async () => {
    await create('awaited');
    const path = '/v1/sessions/awaited/variables';
    const headers = { 'if-none-match': '"0"', prefer: 'wait=30' };
    const given = client.stream('GET', path, headers);
    const waiting = client.call('GET', path, { headers });
    await pause(50);
    given.close(constants.NGHTTP2_CANCEL);
    while ([...api.app.replies].length > 1) await pause(2);
    succeeded(await client.call('POST', '/v1/sessions/awaited/gradients', { json: gradients }));
    assert.equal(succeeded(await waiting).json.revision, 1);
  });

  test('an upload that is given up changes nothing and gives its memory back', async () => {
    await create('cut', { w: { shape: [1_000_000] } });
    const file = encodeFile({ w: f32(new Array(1_000_000).fill(1)) });
    const lengths: Record<string, number>[] = [{ 'content-length': file.length }, {}];
    for (const length of lengths) {
      const headers = { 'content-type': safetensors, ...length };
      const stream = client.stream('POST', '/v1/sessions/cut/gradients', headers);
      stream.write(file.subarray(0, 2_000_000));
      while (lentBytes(api) === 0) await pause(2);
      stream.close(constants.NGHTTP2_CANCEL);
      while (lentBytes(api) > 0) await pause(2);
    }
    // One that ends early is refused, as HTTP/2 itself has it.
    const early = client.stream('POST', '/v1/sessions/cut/gradients', {
      'content-type': safetensors,
      'content-length': file.length,
    });
    early.end(file.subarray(0, 1_000_000));
    assert.equal(await closed(early), constants.NGHTTP2_PROTOCOL_ERROR);
    while (lentBytes(api) > 0) await pause(2);
    assert.equal((await client.call('GET', '/v1/sessions/cut')).json.iterations, 0);
  });

  test('a body that is too large is refused before it has come, and the connection goes on', async () => {
    await create('small');
    const path = '/v1/sessions/small/gradients';
    const announced = client.stream('POST', path, { 'content-type': safetensors, 'content-length': 200_000_001 });
    announced.write(Buffer.alloc(100_000));
    refused(await replyTo(announced), 'body_too_large');
    assert.equal(await closed(announced), constants.NGHTTP2_NO_ERROR);
    // Of this one it is seen while it comes.
    const growing = client.stream('POST', path, { 'content-type': 'application/json' });
    const sent = Buffer.alloc(1_000_000, ' ');
    const reply = replyTo(growing);
    for (let k = 0; k < 18 && !growing.closed; k++) {
      growing.write(sent);
      await pause(1);
    }
    refused(await reply, 'body_too_large');
    assert.equal(await closed(growing), constants.NGHTTP2_NO_ERROR);
    while (lentBytes(api) > 0) await pause(2);
    succeeded(await client.call('POST', path, { json: gradients }));
  });

  test('a client that asks is told to go on', async () => {
    await create('asked');
    const body = Buffer.from(JSON.stringify(gradients));
    const headers = { 'content-type': 'application/json', 'content-length': body.length, expect: '100-continue' };
    const stream = client.stream('POST', '/v1/sessions/asked/gradients', headers);
    const reply = replyTo(stream);
    await once(stream, 'continue');
    assert.equal((await client.call('GET', '/v1/sessions/asked')).json.iterations, 0);
    stream.end(body);
    assert.equal(succeeded(await reply).json.iterations, 1);
    const unwanted = client.stream('POST', '/v1/sessions/nobody/gradients', {
      ...headers,
      'content-type': 'text/plain',
    });
    let isAsked = false;
    unwanted.once('continue', () => {
      isAsked = true;
    });
    refused(await replyTo(unwanted), 'unsupported_media_type');
    assert.equal(isAsked, false);
  });

  test('many requests at a time are all answered', async () => {
    await create('many');
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => client.call('POST', '/v1/sessions/many/gradients', { json: gradients })),
    );
    const iterations = answers.map((answer) => succeeded(answer).json.iterations).sort((a, b) => a - b);
    assert.deepEqual(
      iterations,
      Array.from({ length: 200 }, (_, index) => index + 1),
    );
  });

  test('no reply had a header that HTTP/2 does not allow', () => assert.deepEqual(warnings, []));
});

test('HTTP/1.1 is served on the same port, with its connections kept', async () => {
  await create('older');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const { port } = api.app.server.address() as AddressInfo;
  const body = JSON.stringify(gradients);
  for (const step of [1, 2]) {
    const headers = { 'content-type': 'application/json' };
    const path = '/v1/sessions/older/gradients';
    const sent = httpsRequest({ host: '127.0.0.1', port, path, method: 'POST', ca, agent, headers });
    sent.end(body);
    const [response] = await once(sent, 'response');
    assert.deepEqual([response.httpVersion, response.statusCode, sent.reusedSocket], ['1.1', 200, step === 2]);
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += chunk;
    assert.equal(JSON.parse(text).iterations, step);
  }
  agent.destroy();
});

test('the end of the server answers what is under way and tells connections to go elsewhere', async (t) => {
  const server = await startApi(t, { tls: serverFiles });
  const own = await Http2Client.open(t, server);
  const idle = await Http2Client.open(t, server);
  succeeded(await own.call('PUT', '/v1/sessions/ended', { json: { variables: { w: { values: [1, 2, 3] } } } }), 201);
  const waiting = own.call('GET', '/v1/sessions/ended/variables', {
    headers: { 'if-none-match': '"0"', prefer: 'wait=50' },
  });
  const stream = own.stream('GET', '/v1/sessions/ended/events').resume();
  await once(stream, 'response');
  const body = Buffer.from(JSON.stringify(gradients));
  const headers = { 'content-type': 'application/json', 'content-length': body.length };
  const push = own.stream('POST', '/v1/sessions/ended/gradients', headers);
  push.write(body.subarray(0, 10));
  await pause(50);
  const goneAway = once(own.session, 'goaway');
  const begun = performance.now();
  const closing = server.app.close();
  assert.equal((await goneAway)[0], constants.NGHTTP2_NO_ERROR);
  const reply = replyTo(push);
  push.end(body.subarray(10));
  assert.equal(succeeded(await reply).json.iterations, 1);
  assert.ok([200, 304].includes((await waiting).status));
  assert.equal(await closed(stream), constants.NGHTTP2_NO_ERROR);
  await closing;
  assert.ok(performance.now() - begun < 3_000, `${performance.now() - begun} ms`);
  while (!idle.session.closed) await pause(2);
});
