import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { type Api, encodeFile, f32, safetensors, startApi } from '../support/api.ts';

// Above the size from which buffers are used again.
const count = 400_000;

async function create(api: Api, name: string): Promise<void> {
  const { status } = await api.call('PUT', `/v1/sessions/${name}`, { json: { variables: { w: { shape: [count] } } } });
  assert.equal(status, 201);
}

/** Starts a push and breaks off in the middle of its body. */
async function abort(api: Api, path: string, body: Buffer): Promise<void> {
  const address = api.app.server.address() as { port: number };
  const socket = connect(address.port, '127.0.0.1');
  const head = `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: ${safetensors}\r\ncontent-length: ${body.length}\r\n\r\n`;
  socket.write(head);
  await new Promise((resolve) => socket.write(body.subarray(0, body.length / 2), resolve));
  socket.destroy();
}

test('large pushes side by side, some of them broken off, each get their own values', async (t) => {
  const api = await startApi(t);
  const names = ['a', 'b', 'c', 'd'];
  for (const name of names) await create(api, name);
  const push = async (name: string, sign: number): Promise<void> => {
    const path = `/v1/sessions/${name}/gradients`;
    const bytes = encodeFile({ w: f32(new Array(count).fill(sign)) });
    for (let step = 1; step <= 4; step++) {
      await abort(api, path, encodeFile({ w: f32(new Array(count).fill(-sign)) }));
      const { status, file } = await api.call('POST', path, { bytes });
      assert.equal(status, 200);
      const values = file.tensors.get('w')?.bytes as Uint8Array;
      const first = Buffer.from(values).readFloatLE(0);
      // Each step of a constant gradient moves against it by about the learning rate.
      assert.ok(Math.abs(first + sign * step * 0.001) < 1e-5, `${name} after ${step}: ${first}`);
      const all = new Float32Array(Uint8Array.from(values).buffer);
      assert.ok(
        all.every((value) => value === first),
        `${name} after ${step} is mixed`,
      );
    }
  };
  await Promise.all(names.map((name, k) => push(name, k % 2 === 0 ? 1 : -1)));
});

test('a large reply in JSON has all values, compressed or not', async (t) => {
  const api = await startApi(t);
  await create(api, 'text');
  const sent = Float32Array.from({ length: count }, (_, k) => (k % 1000) / 7);
  const bytes = encodeFile({ w: f32([...sent]) });
  assert.equal((await api.call('PUT', '/v1/sessions/text/variables', { bytes })).status, 200);
  for (const encoding of ['identity', 'gzip']) {
    const headers = { 'accept-encoding': encoding };
    const answer = await api.call('GET', '/v1/sessions/text/variables', { headers });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['content-encoding'] ?? 'identity', encoding);
    assert.deepEqual(Float32Array.from(answer.json.variables.w.values), sent);
  }
});
