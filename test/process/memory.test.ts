/**
 * Memory comes back. What is in use is read from the server's own metrics just after it has collected garbage in earnest,
 * which it does soon after a session is deleted.
 */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeFile, f32, safetensors } from '../support/api.ts';
import { type ServerProcess, startServer, temporaryFolder } from '../support/server-process.ts';

const MB = 1e6;
/** Longer than the server takes to collect after a deletion. */
const collectedMs = 1500;

async function metric(server: ServerProcess, name: string): Promise<number> {
  const { bytes } = await server.call('GET', '/metrics');
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(bytes.toString())?.[1]);
}

const resident = (server: ServerProcess) => metric(server, 'process_resident_memory_bytes');

async function create(server: ServerProcess, name: string, elements: number): Promise<void> {
  const json = { variables: { w: { shape: [elements], initializer: 'ones' } }, durability: 'checkpoint' };
  assert.equal((await server.call('PUT', `/v1/sessions/${name}`, { json })).status, 201);
}

async function remove(server: ServerProcess, name: string): Promise<void> {
  assert.equal((await server.call('DELETE', `/v1/sessions/${name}`)).status, 204);
}

/** Of V8's heap, and of the memory that its objects hold outside. */
async function inUse(server: ServerProcess): Promise<number> {
  await create(server, 'short-lived', 1);
  await remove(server, 'short-lived');
  await sleep(collectedMs);
  return (await metric(server, 'nodejs_heap_size_used_bytes')) + (await metric(server, 'nodejs_external_memory_bytes'));
}

/** After the work memory is about where it was; what the allocator keeps of it is not counted as ours. */
async function assertComesBack(server: ServerProcess, work: () => Promise<void>): Promise<void> {
  const [before, used] = [await resident(server), await inUse(server)];
  await work();
  const [grown, kept] = [(await resident(server)) - before, (await inUse(server)) - used];
  assert.ok(grown < 150 * MB, `resident memory grew by ${Math.round(grown / MB)} MB`);
  assert.ok(kept < 5 * MB, `${kept} bytes more are in use`);
}

test('10,000 pushes leave nothing behind', async (t) => {
  const server = await startServer(t, await temporaryFolder(t));
  await create(server, 's', 1000);
  const body = encodeFile({ w: f32(new Array(1000).fill(0.5)) });
  const push = async (times: number): Promise<void> => {
    const url = new URL('/v1/sessions/s/gradients', server.url);
    const worker = async (): Promise<void> => {
      for (let k = 0; k < times / 8; k++) {
        const response = await fetch(url, { method: 'POST', headers: { 'content-type': safetensors }, body });
        assert.equal(response.status, 200);
        await response.arrayBuffer();
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
  };
  await push(2000);
  const before = await inUse(server);
  await push(10_000);
  const grown = (await inUse(server)) - before;
  // Of 80 MB that came and went; 500 bytes kept of each push would be 5 MB.
  assert.ok(grown < 5 * MB, `it grew by ${grown} bytes`);
});

test('100 sessions that come and go leave nothing behind', async (t) => {
  const server = await startServer(t, await temporaryFolder(t));
  // 1 M float32 parameters and their slots: 12 MB a session, 1.2 GB in all if nothing were freed.
  const comeAndGo = async (count: number): Promise<void> => {
    for (let k = 0; k < count; k++) {
      await create(server, `s${k}`, 1_000_000);
      await remove(server, `s${k}`);
    }
  };
  await comeAndGo(2);
  await assertComesBack(server, () => comeAndGo(100));
});

test('1,000 uploads that break off leave nothing behind, and change nothing', async (t) => {
  // Room for twenty bodies at a time beside the session: what were lent for good would soon be missing.
  const server = await startServer(t, await temporaryFolder(t), { MEMORY_BYTES_MAX: '200000000' });
  await create(server, 's', 1_000_000);
  const { port } = new URL(server.url);
  const head = `POST /v1/sessions/s/gradients HTTP/1.1\r\nhost: localhost\r\ncontent-type: ${safetensors}\r\n`;
  const part = Buffer.alloc(100_000);
  /** 100 KB of the 4 MB that were announced, and nobody there any more. */
  const breakOff = async (): Promise<void> => {
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(`${head}content-length: 4000000\r\n\r\n`);
    await new Promise((resolve) => socket.write(part, resolve));
    socket.destroy();
  };
  const breakOffMany = async (times: number): Promise<void> => {
    for (let k = 0; k < times; k += 20) await Promise.all(Array.from({ length: 20 }, breakOff));
  };
  await breakOffMany(100);
  // The bodies would be 4 GB.
  await assertComesBack(server, () => breakOffMany(1000));
  assert.equal((await server.call('GET', '/v1/sessions/s')).json.iterations, 0);
  const whole = encodeFile({ w: f32(new Array(1_000_000).fill(0.5)) });
  assert.equal((await server.call('POST', '/v1/sessions/s/gradients', { bytes: whole })).status, 200);
});

for (const [format, elements, workers, bytesEach] of [
  ['safetensors', 2_000_000, 16, 4],
  // Numbers of JSON stay the float64 that they are until they are worked on.
  ['JSON', 500_000, 8, 8],
] as const) {
  test(`gradients in ${format} that wait for others take no more memory than themselves`, async (t) => {
    const server = await startServer(t, await temporaryFolder(t));
    await create(server, 's', elements);
    const aggregation = { mode: 'sync', replicas_to_aggregate: workers + 1, timeout_ms: 60_000 };
    assert.equal((await server.call('PATCH', '/v1/sessions/s', { json: { aggregation } })).status, 200);
    const values = new Array<number>(elements).fill(0.5);
    const body = format === 'JSON' ? JSON.stringify({ gradients: { w: { values } } }) : encodeFile({ w: f32(values) });
    const contentType = format === 'JSON' ? 'application/json' : safetensors;
    const push = async (worker: number): Promise<number> => {
      const url = new URL(`/v1/sessions/s/gradients?worker=w${worker}&base=0`, server.url);
      const headers = { 'content-type': contentType, prefer: 'return=minimal' };
      return (await fetch(url, { method: 'POST', headers, body })).status;
    };
    const before = await inUse(server);
    const pushes = Array.from({ length: workers }, (_, worker) => push(worker));
    const waiting = async () => {
      const { json } = await server.call('GET', '/v1/sessions/s/workers');
      return json.workers.filter((worker: { waiting: boolean }) => worker.waiting).length;
    };
    while ((await waiting()) < workers) await sleep(20);
    const grown = (await inUse(server)) - before;
    const gradients = workers * bytesEach * elements;
    assert.ok(grown < 1.1 * gradients + 5 * MB, `${grown} bytes more are in use, for ${gradients} of gradients`);
    pushes.push(push(workers));
    assert.deepEqual(await Promise.all(pushes), new Array(workers + 1).fill(200));
  });
}
