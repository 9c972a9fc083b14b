/** What a server does whose memory or clients are at their limits: it refuses in time, and nobody waits for a slow one. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { parseSafetensors } from '../../src/tensor/safetensors.ts';
import { type Api, encodeFile, f32, safetensors, startApi } from '../support/api.ts';
import { create, getDocument, refused, succeeded } from '../support/calls.ts';

const MB = 1_000_000;

function gradient(floats: number): Buffer {
  return encodeFile({ w: f32(Array(floats).fill(1)) });
}

function push(api: Api, name: string, bytes: Buffer) {
  return api.call('POST', `/v1/sessions/${name}/gradients`, { bytes });
}

/** A push over a connection of its own, the body yet to be written. */
function beginPush(api: Api, name: string, length: number): ClientRequest {
  const { port } = api.app.server.address() as AddressInfo;
  const headers = { 'content-type': safetensors, 'content-length': length };
  const path = `/v1/sessions/${name}/gradients`;
  return request({ host: '127.0.0.1', port, path, method: 'POST', headers, agent: false }).on('error', () => undefined);
}

describe('memory', () => {
  test('that sessions leave bounds a body: more is 507, before any of it is read', async (t) => {
    const api = await startApi(t, { memoryBytesMax: 4 * MB });
    await create(api, 's', { w: { shape: [100_000] } });
    const before = await getDocument(api, 's');
    const large = beginPush(api, 's', 3 * MB);
    large.flushHeaders();
    const [reply] = (await once(large, 'response')) as [IncomingMessage];
    assert.equal(reply.statusCode, 507);
    large.destroy();
    assert.deepEqual(await getDocument(api, 's'), before);
  });

  test('that other requests have makes it 503 overloaded, with Retry-After, until they are over', async (t) => {
    // The session takes 1.2 of 2.4 MB, so that there is room for one push of 0.4 MB with its reply, and for no second body.
    const api = await startApi(t, { memoryBytesMax: 2.4 * MB });
    await create(api, 's', { w: { shape: [100_000] } });
    const bytes = gradient(100_000);
    const stalled = [beginPush(api, 's', bytes.length), beginPush(api, 's', bytes.length)];
    for (const each of stalled) each.write(bytes.subarray(0, 1000));
    await setTimeout(100);
    const answer = await push(api, 's', bytes);
    refused(answer, 'overloaded');
    assert.equal(answer.headers['retry-after'], '1');
    assert.equal((await getDocument(api, 's')).iterations, 0);
    for (const each of stalled) each.destroy();
    await setTimeout(100);
    succeeded(await push(api, 's', bytes));
    assert.equal((await getDocument(api, 's')).iterations, 1);
  });

  test('that a reply does not get leaves the step untaken', async (t) => {
    // 1.2 MB for the session, 0.4 for the body, and less than 0.4 for the reply; BF16 would fit.
    const api = await startApi(t, { memoryBytesMax: 1.9 * MB });
    await create(api, 's', { w: { shape: [100_000] } });
    refused(await push(api, 's', gradient(100_000)), 'overloaded');
    assert.equal((await getDocument(api, 's')).iterations, 0);
    succeeded(await api.call('POST', '/v1/sessions/s/gradients?dtype=BF16', { bytes: gradient(100_000) }));
  });

  test('is there again when a client has gone while its push waited for its turn', async (t) => {
    // Room for one body and one reply beside the session, and no more.
    const api = await startApi(t, { memoryBytesMax: 2.05 * MB });
    await create(api, 's', { w: { shape: [100_000] } });
    const { turns } = api.store.session('s').live;
    let open = (): void => undefined;
    const busy = turns.alone(() => new Promise<void>((resolve) => (open = resolve)));
    const bytes = gradient(100_000);
    const leaving = beginPush(api, 's', bytes.length);
    leaving.end(bytes);
    await setTimeout(200);
    leaving.destroy();
    await setTimeout(200);
    open();
    await busy;
    succeeded(await push(api, 's', bytes));
    assert.equal((await getDocument(api, 's')).iterations, 2);
  });

  test('that a body takes piece by piece is bounded as well', async (t) => {
    const api = await startApi(t, { memoryBytesMax: 2 * MB });
    await create(api, 's', { w: { shape: [100_000] } });
    const { port } = api.app.server.address() as AddressInfo;
    const options = { host: '127.0.0.1', port, path: '/v1/sessions/s/gradients', method: 'POST', agent: false };
    const chunked = request({ ...options, headers: { 'content-type': safetensors } }).on('error', () => undefined);
    chunked.write(Buffer.alloc(1.5 * MB));
    const [reply] = (await once(chunked, 'response')) as [IncomingMessage];
    assert.equal(reply.statusCode, 507);
    chunked.destroy();
  });
});

describe('a slow client', () => {
  const floats = 2_000_000;

  test('that does not read its reply holds up no other push to its session', async () => {
    const api = await startApi({ after });
    await create(api, 'slow', { w: { shape: [floats] } });
    const bytes = gradient(floats);
    const slow = beginPush(api, 'slow', bytes.length);
    slow.end(bytes);
    const [reply] = (await once(slow, 'response')) as [IncomingMessage];
    reply.pause();
    for (let step = 2; step <= 3; step++) {
      const answer = succeeded(await push(api, 'slow', bytes));
      assert.equal(answer.file.metadata.get('iterations'), String(step));
    }
    // What was kept for it is still its own step's, as another session takes it.
    await create(api, 'twin', { w: { shape: [floats] } });
    const twin = succeeded(await push(api, 'twin', bytes));
    const late = parseSafetensors(Buffer.concat(await reply.toArray()));
    assert.ok(
      Buffer.from(late.tensors.get('w')?.bytes ?? []).equals(twin.file.tensors.get('w')?.bytes ?? Buffer.alloc(1)),
    );
  });

  test('that goes away in the middle of its upload has changed nothing, a hundred times over', async () => {
    const api = await startApi({ after });
    await create(api, 'gone', { w: { shape: [floats] } });
    const before = await getDocument(api, 'gone');
    const bytes = gradient(floats);
    for (let k = 0; k < 100; k++) {
      const upload = beginPush(api, 'gone', bytes.length);
      upload.write(bytes.subarray(0, 100_000 * (k % 20)));
      await setTimeout(2);
      upload.destroy();
    }
    await setTimeout(200);
    assert.deepEqual(await getDocument(api, 'gone'), before);
    assert.equal(succeeded(await push(api, 'gone', bytes)).file.metadata.get('iterations'), '1');
  });
});
