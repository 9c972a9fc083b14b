/** `Expect: 100-continue`: who asks first is told to send its body when nothing speaks against it, and not before. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { encodeFile, f32, safetensors, startApi } from '../support/api.ts';
import { create } from '../support/calls.ts';
import { head, jsonRequest, RawConnection } from '../support/raw-connection.ts';

const api = await startApi({ after }, { bodyBytesMax: 10_000_000 });
await create(api, 'asked', { w: { values: [1, 2] } });
const path = '/v1/sessions/asked/gradients';
const body = JSON.stringify({ gradients: { w: { values: [1, 1] } } });
const expect = { expect: '100-continue' };
const asking = { ...expect, 'content-type': 'application/json', 'content-length': body.length };

async function iterations(): Promise<number> {
  return (await api.call('GET', '/v1/sessions/asked')).json.iterations;
}

describe('a body that is wanted is asked for', () => {
  test('as JSON, and the connection goes on', async () => {
    const before = await iterations();
    const connection = await RawConnection.open(api);
    for (const round of [1, 2]) {
      connection.write(head('POST', path, asking));
      const told = await connection.next();
      assert.deepEqual([told.status, told.headers], [100, {}]);
      assert.equal(await iterations(), before + round - 1);
      connection.write(body);
      const reply = await connection.next();
      assert.equal(reply.status, 200);
      assert.equal(reply.headers.connection, 'keep-alive');
      assert.equal(reply.json.iterations, before + round);
    }
    connection.write(jsonRequest('POST', path, JSON.parse(body)));
    assert.equal((await connection.next()).json.iterations, before + 3);
    assert.ok(connection.isQuiet);
    connection.socket.destroy();
  });

  test('as safetensors, in chunks, and compressed', async () => {
    const file = encodeFile({ w: f32([1, 1]) });
    const packed = gzipSync(body);
    const json = { 'content-type': 'application/json' };
    const requests: [Record<string, string | number>, (string | Uint8Array)[]][] = [
      [{ 'content-type': safetensors, 'content-length': file.length }, [file]],
      [{ ...json, 'transfer-encoding': 'chunked' }, [`${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`]],
      [{ ...json, 'content-encoding': 'gzip', 'content-length': packed.length }, [packed]],
    ];
    const connection = await RawConnection.open(api);
    for (const [headers, parts] of requests) {
      connection.write(head('POST', path, { ...expect, ...headers }));
      assert.equal((await connection.next()).status, 100);
      connection.write(...parts);
      assert.equal((await connection.next()).status, 200);
    }
    connection.socket.destroy();
  });

  test('though it is on its way already', async () => {
    const connection = await RawConnection.open(api);
    connection.write(head('POST', path, asking), body);
    assert.equal((await connection.next()).status, 100);
    assert.equal((await connection.next()).status, 200);
    connection.socket.destroy();
  });
});

describe('a body that is not wanted is not asked for, and the connection ends', () => {
  const refusals: [string, string, string, Record<string, string | number>, number][] = [
    ['too large', 'POST', path, { 'content-type': safetensors, 'content-length': 4_000_000_000 }, 413],
    ['too large for JSON', 'POST', path, { ...asking, 'content-length': 10_000_001 }, 413],
    ['of another type', 'POST', path, { 'content-type': 'text/plain', 'content-length': 10 }, 415],
    ['for no route', 'POST', '/v1/nowhere', asking, 404],
    ['for a method that the address does not take', 'PUT', path, asking, 405],
    ['for an address that cannot be read', 'POST', '/v1/sessions/%zz/gradients', asking, 400],
  ];
  for (const [name, method, to, headers, status] of refusals) {
    test(name, async () => {
      const before = await iterations();
      const connection = await RawConnection.open(api);
      connection.write(head(method, to, { ...headers, ...expect }));
      const reply = await connection.next();
      assert.equal(reply.status, status);
      assert.equal(reply.headers['content-type']?.split(';')[0], 'application/problem+json');
      assert.equal(reply.headers.connection, 'close');
      await connection.closed();
      assert.ok(connection.isQuiet);
      assert.equal(await iterations(), before);
    });
  }
});

test('where memory is short nothing is asked for', async (t) => {
  const small = await startApi(t, { memoryBytesMax: 1_000_000 });
  await create(small, 'asked', { w: { values: [1, 2] } });
  const connection = await RawConnection.open(small);
  connection.write(head('POST', path, { ...expect, 'content-type': safetensors, 'content-length': 5_000_000 }));
  const reply = await connection.next();
  assert.ok([503, 507].includes(reply.status), String(reply.status));
  await connection.closed();
});

test('a client that was asked and goes away leaves no trace', async () => {
  const before = await iterations();
  const connection = await RawConnection.open(api);
  connection.write(head('POST', path, asking));
  assert.equal((await connection.next()).status, 100);
  connection.socket.destroy();
  await setTimeout(20);
  assert.equal(await iterations(), before);
});

test('a request without a body that asks all the same is answered', async () => {
  const connection = await RawConnection.open(api);
  connection.write(head('GET', '/v1/sessions/asked', expect));
  assert.equal((await connection.next()).status, 200);
  connection.socket.destroy();
});
