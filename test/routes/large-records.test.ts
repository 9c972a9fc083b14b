/** Large gradients under each level: they come back to the bit after a crash, and nothing is left of those that were refused. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import type { ProblemCode } from '../../src/errors.ts';
import { type Api, encodeFile, f32, type Json, safetensors, startApi } from '../support/api.ts';
import { create, refused, succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';

const count = 300_000;
const path = '/v1/sessions/a/gradients';
const byHand = { every_steps: null, every_seconds: null };

async function begin(t: TestContext, durability: string, checkpointing: object = {}): Promise<Api> {
  const api = await startApi(t);
  const variables = { w: { shape: [count] }, e: { shape: [1000, 500] } };
  await create(api, 'a', variables, { durability, checkpointing: { ...byHand, ...checkpointing } });
  return api;
}

const gradientOf = (value: number) => encodeFile({ w: f32(Array.from({ length: count }, (_, k) => value + k)) });

function sparse(): Buffer {
  const rows = BigInt64Array.from({ length: 900 }, (_, k) => BigInt((k * 7) % 1000));
  const indices = { dtype: 'I64', shape: [900], bytes: new Uint8Array(rows.buffer) } as const;
  const values = { ...f32(new Array(900 * 500).fill(0.5)), shape: [900, 500] };
  return encodeFile({ 'e:indices': indices, 'e:values': values });
}

async function fingerprint(api: Api): Promise<Json> {
  return succeeded(await api.call('GET', '/v1/sessions/a/fingerprint')).json;
}

async function dataFiles(api: Api): Promise<string[]> {
  return readdir(join(api.folder, 'journal/data'));
}

/** What is removed behind a reply is gone soon. */
async function assertFiles(api: Api, expected: number): Promise<void> {
  for (let wait = 0; wait < 100 && (await dataFiles(api)).length !== expected; wait++) await pause(20);
  assert.equal((await dataFiles(api)).length, expected, String(await dataFiles(api)));
}

for (const durability of ['always', 'everysec']) {
  test(`${durability}: dense and sparse, keyed and not, compressed and as they are, are there after a crash`, async (t) => {
    const api = await begin(t, durability);
    succeeded(await api.call('POST', path, { bytes: gradientOf(1) }));
    succeeded(await api.call('POST', path, { bytes: sparse() }));
    const packed = { bytes: gzipSync(gradientOf(2)), headers: { 'content-encoding': 'gzip' } };
    succeeded(await api.call('POST', path, packed));
    const keyed = { bytes: gradientOf(3), headers: { 'idempotency-key': 'one' } };
    const first = succeeded(await api.call('POST', path, keyed));
    assert.equal(first.headers.durability, durability);
    const again = succeeded(await api.call('POST', path, keyed));
    assert.equal(again.headers['idempotency-replayed'], 'true');
    const assigned = { w: { values: new Array(count).fill(0.25) } };
    succeeded(await api.call('PUT', '/v1/sessions/a/variables', { json: { variables: assigned } }));
    await assertFiles(api, 5);
    const print = await fingerprint(api);
    const crashed = await startApi(t, {}, await crashedCopy(t, api.folder));
    assert.deepEqual((await fingerprint(crashed)).sha256, print.sha256);
    assert.equal((await fingerprint(crashed)).iterations, 4);
    succeeded(await crashed.call('POST', path, keyed));
    assert.equal((await fingerprint(crashed)).iterations, 4, 'the key must be known');
    const restarted = await api.restart();
    assert.deepEqual(await fingerprint(restarted), print);
  });
}

test('checkpoint: nothing of a gradient is written', async (t) => {
  const api = await begin(t, 'checkpoint');
  succeeded(await api.call('POST', path, { bytes: gradientOf(1) }));
  assert.deepEqual(await dataFiles(api), []);
});

describe('nothing is left of', () => {
  const refusals: Record<string, [bytes: Buffer, code: ProblemCode, headers?: Record<string, string>]> = {
    'a gradient that is not finite': [encodeFile({ w: f32(new Array(count).fill(Number.NaN)) }), 'gradient_not_finite'],
    'one of another shape': [encodeFile({ w: f32(new Array(count + 1).fill(1)) }), 'shape_mismatch'],
    'one of an unknown variable': [encodeFile({ x: f32(new Array(count).fill(1)) }), 'unknown_variable'],
    'one at another revision': [gradientOf(1), 'precondition_failed', { 'if-match': '"99"' }],
    'a body that is no file': [Buffer.alloc(2_000_000, 1), 'malformed_body'],
    'a body whose header is none': [
      Buffer.concat([Buffer.from('0800000000000000', 'hex'), Buffer.alloc(2_000_000, 2)]),
      'malformed_body',
    ],
  };
  for (const [what, [bytes, code, headers = {}]] of Object.entries(refusals)) {
    test(what, async (t) => {
      const api = await begin(t, 'always');
      const before = await fingerprint(api);
      refused(await api.call('POST', path, { bytes, headers }), code);
      await assertFiles(api, 0);
      assert.deepEqual(await fingerprint(api), before);
    });
  }

  test('one that is broken off', async (t) => {
    const api = await begin(t, 'always');
    const body = gradientOf(1);
    const { port } = api.app.server.address() as { port: number };
    const socket = connect(port, '127.0.0.1');
    socket.write(
      `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: ${safetensors}\r\ncontent-length: ${body.length}\r\n\r\n`,
    );
    socket.write(body.subarray(0, body.length / 2));
    await assertFiles(api, 1);
    socket.destroy();
    await assertFiles(api, 0);
  });

  test('those before a checkpoint, when they are not kept, and those of a deleted session', async (t) => {
    const api = await begin(t, 'always', { keep_journal_steps: 0 });
    for (const value of [1, 2]) succeeded(await api.call('POST', path, { bytes: gradientOf(value) }));
    await assertFiles(api, 2);
    succeeded(await api.call('POST', '/v1/sessions/a/checkpoints'), 201);
    await assertFiles(api, 0);
    succeeded(await api.call('POST', path, { bytes: gradientOf(3) }));
    await assertFiles(api, 1);
    succeeded(await api.call('DELETE', '/v1/sessions/a'), 204);
    await assertFiles(api, 0);
  });
});

test('a fork at an earlier iteration goes through large gradients', async (t) => {
  const api = await begin(t, 'always');
  const prints: Json[] = [];
  for (const value of [1, 2, 3]) {
    succeeded(await api.call('POST', path, { bytes: gradientOf(value) }));
    prints.push(await fingerprint(api));
  }
  succeeded(await api.call('POST', '/v1/sessions/a/fork', { json: { name: 'b', iterations: 2 } }), 201);
  const { sha256 } = succeeded(await api.call('GET', '/v1/sessions/b/fingerprint')).json;
  assert.equal(sha256, prints[1].sha256);
});
