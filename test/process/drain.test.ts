/**
 * What an orchestrator sees of the end of the process: not ready from the signal on, alive to the last moment, everybody told to
 * go elsewhere, and an exit code that says whether all was saved. And of a fault: no process that only looks alive.
 */
import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type Answer, encodeFile, f32 } from '../support/api.ts';
import { BegunRequest } from '../support/begun-request.ts';
import { type ServerProcess, startServer, temporaryFolder } from '../support/server-process.ts';

const options = { timeout: 120_000 };
const rows = { indices: [7, 3], values: [1, 2, 3, 4] };

async function create(server: ServerProcess, name: string, json: object): Promise<void> {
  const { status, bytes } = await server.call('PUT', `/v1/sessions/${name}`, { json });
  assert.equal(status, 201, bytes.toString());
}

async function push(server: ServerProcess, name: string, gradients: object, query = ''): Promise<Answer> {
  return server.call('POST', `/v1/sessions/${name}/gradients${query}`, { json: { gradients } });
}

async function fingerprint(server: ServerProcess, name: string): Promise<object> {
  return (await server.call('GET', `/v1/sessions/${name}/fingerprint`)).json;
}

function assertShuttingDown(answer: Answer): void {
  assert.equal(answer.status, 503, answer.bytes.toString());
  assert.equal(answer.json.code, 'shutting_down');
  assert.ok(Number(answer.headers['retry-after']) > 0, 'a refusal says when to come again');
}

describe('the end of the process, seen from outside', { concurrency: 2 }, () => {
  test('SIGTERM turns readiness off, leaves liveness on, and lets nobody wait for others', options, async (t) => {
    const server = await startServer(t, await temporaryFolder(t));
    const w = { values: [1, 2] };
    await create(server, 'joint', { variables: { w }, aggregation: { mode: 'sync', replicas_to_aggregate: 2 } });
    await create(server, 'plain', { variables: { w } });
    const waiting = push(server, 'joint', { w }, '?worker=a&base=0');
    while (!(await server.call('GET', '/v1/sessions/joint/workers')).json.workers[0]?.waiting);
    const json = JSON.stringify({ gradients: { w } });
    const underWay = await BegunRequest.open(t, server.url, '/v1/sessions/plain/gradients', json);
    server.kill('SIGTERM');
    await server.logged('shutting down');
    // The push under way holds the end up for as long as this takes.
    assertShuttingDown(await waiting);
    assertShuttingDown(await server.call('GET', '/readyz'));
    assertShuttingDown(await push(server, 'plain', { w }));
    assert.equal((await server.call('GET', '/healthz')).status, 200);
    assert.equal((await underWay.finish()).statusCode, 200);
    assert.deepEqual(await server.exited, { code: 0, signal: null });
  });

  test(
    'while the last checkpoints are written, requests are refused and not met by a closed port',
    options,
    async (t) => {
      const server = await startServer(t, await temporaryFolder(t));
      await create(server, 'large', { variables: { e: { shape: [5_000_000, 2] } } });
      assert.equal((await push(server, 'large', { e: rows })).status, 200);
      server.kill('SIGTERM');
      await server.logged('shutting down');
      let answered = 0;
      try {
        for (; ; answered++) {
          assert.equal((await server.call('GET', '/healthz')).status, 200);
          assertShuttingDown(await server.call('GET', '/readyz'));
        }
      } catch (error) {
        assert.ok(error instanceof TypeError, String(error));
      }
      assert.deepEqual(await server.exited, { code: 0, signal: null });
      assert.ok(answered > 2, `answered ${answered} times while 120 MB were written`);
    },
  );

  test(
    'checkpoints that are not over in time cost nothing that was acknowledged, and the exit code says so',
    options,
    async (t) => {
      const dataDir = await temporaryFolder(t);
      const server = await startServer(t, dataDir, { SHUTDOWN_TIMEOUT_MS: '2' });
      const durability = 'everysec';
      await create(server, 'large', { variables: { e: { shape: [1_000_000, 2] } }, durability });
      for (let step = 0; step < 20; step++) assert.equal((await push(server, 'large', { e: rows })).status, 200);
      const before = await fingerprint(server, 'large');
      assert.deepEqual(await server.end('SIGTERM'), { code: 1, signal: null });
      await server.logged('SHUTDOWN_TIMEOUT_MS is over');
      const again = await startServer(t, dataDir);
      assert.deepEqual(await fingerprint(again, 'large'), before);
    },
  );

  test('a last checkpoint that cannot be written makes the exit code 1', options, async (t) => {
    const dataDir = await temporaryFolder(t);
    const server = await startServer(t, dataDir);
    for (const name of ['lost', 'saved']) {
      await create(server, name, { variables: { w: { values: [1] } } });
      assert.equal((await push(server, name, { w: { values: [1] } })).status, 200);
    }
    await rm(join(dataDir, 'sessions/lost'), { recursive: true });
    assert.deepEqual(await server.end('SIGTERM'), { code: 1, signal: null });
    const { session } = await server.logged('the last checkpoint could not be written');
    assert.equal(session, 'lost');
    const files = await readdir(join(dataDir, 'sessions/saved'));
    assert.ok(files.includes('ckpt-000002.safetensors'), files.join());
  });

  test('a thread that dies in a step ends the process at once; the restart has the step', options, async (t) => {
    const dataDir = await temporaryFolder(t);
    const server = await startServer(t, dataDir, {
      THREADS: '1',
      NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} ${dying}`,
    });
    const elements = 1_200_000;
    const bytes = encodeFile({ w: f32(new Array(elements).fill(0.5)) });
    const step = (to: ServerProcess, name: string) => to.call('POST', `/v1/sessions/${name}/gradients`, { bytes });
    await create(server, 'torn', { variables: { w: { shape: [elements] } } });
    await assert.rejects(step(server, 'torn'), TypeError);
    assert.deepEqual(await server.exited, { code: 1, signal: null });
    assert.match((await server.logged('a fault that only a restart mends')).err.message, /a thread dies/);
    const files = await readdir(join(dataDir, 'sessions/torn'));
    assert.ok(!files.some((file) => file.startsWith('ckpt-000002')), files.join());

    const again = await startServer(t, dataDir);
    await create(again, 'whole', { variables: { w: { shape: [elements] } } });
    assert.equal((await step(again, 'whole')).status, 200);
    assert.deepEqual(await fingerprint(again, 'torn'), await fingerprint(again, 'whole'));
  });
});

/** Makes the threads that share large steps fail in the first one. */
const dying = `--import=data:text/javascript,${encodeURIComponent(`
  import { parentPort } from 'node:worker_threads';
  const on = parentPort?.on.bind(parentPort);
  if (on) parentPort.on = (event, listen) => on(event, (order) => {
    if (order.works?.some(({ kind }) => kind === 'dense')) throw new Error('a thread dies');
    listen(order);
  });
`)}`;
