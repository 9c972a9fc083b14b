/** How the process ends: what is under way is answered and saved, nobody can hold the end up, and a restart goes on exactly. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { BegunRequest } from '../support/begun-request.ts';
import { EventClient } from '../support/event-client.ts';
import { type ServerProcess, startServer, temporaryFolder } from '../support/server-process.ts';
import { pathAt, pathGradients, pathVariables, servedState } from '../support/training-path.ts';

/** Above what a busy machine takes, and far below the idle and wait timeouts (55 s and more) that could hold the end up. */
const soonMs = 10_000;
const options = { timeout: 180_000 };

describe('the end of the process', { concurrency: 2 }, () => {
  test(
    'SIGTERM answers what is under way, saves everything and exits 0; a restart is the same to the bit',
    options,
    async (t) => {
      const dataDir = await temporaryFolder(t);
      const server = await startServer(t, dataDir);
      for (const name of ['pushed', 'quiet']) {
        assert.equal((await create(server, name)).status, 201);
      }
      const idle = await openConnection(t, server);
      const halfHeader = await openConnection(t, server);
      halfHeader.write('GET /healthz HTTP/1.1\r\nhost');
      const waiters = Array.from({ length: 10 }, () => waitForChange(server, 'quiet'));
      const held = await beginPush(t, server, 'pushed');
      const workers = Array.from({ length: 4 }, () => pushUntilRefused(server, 'pushed'));
      while ((await server.call('GET', '/v1/sessions/pushed')).json.iterations < 20);

      server.kill('SIGTERM');
      const signalled = performance.now();
      await server.logged('shutting down');
      const answer = await held.finish();
      assert.equal(answer.statusCode, 200);
      assert.equal(answer.headers.connection, 'close');
      assert.deepEqual(await server.exited, { code: 0, signal: null });
      const elapsed = performance.now() - signalled;
      assert.ok(elapsed < soonMs, `${elapsed} ms must be less than ${soonMs}`);
      for (const waiter of waiters) assert.equal((await waiter).status, 304);
      for (const socket of [idle, halfHeader])
        assert.ok(socket.destroyed || socket.readableEnded || (await once(socket, 'close')));
      const acknowledged = (await Promise.all(workers)).reduce((sum, each) => sum + each, 0) + 1;

      const again = await startServer(t, dataDir);
      const pushed = await stateOf(again, 'pushed');
      assert.deepEqual(pushed, {
        revision: acknowledged,
        iterations: acknowledged,
        digest: await pathAt(acknowledged),
      });
      assert.deepEqual(await stateOf(again, 'quiet'), { revision: 0, iterations: 0, digest: await pathAt(0) });
      assert.deepEqual((await again.call('GET', '/readyz')).json, { status: 'ready', sessions: 2, damaged: [] });
    },
  );

  test('those who follow events hear of all that was still done, and of its end', options, async (t) => {
    const dataDir = await temporaryFolder(t);
    const server = await startServer(t, dataDir);
    await create(server, 'followed');
    const port = Number(new URL(server.url).port);
    const path = '/v1/sessions/followed/events';
    const clients = await Promise.all(Array.from({ length: 20 }, () => EventClient.open(port, path)));
    const workers = Array.from({ length: 4 }, () => pushUntilRefused(server, 'followed'));
    await clients[0]?.take(20);
    const signalled = performance.now();
    assert.deepEqual(await server.end('SIGTERM'), { code: 0, signal: null });
    assert.ok(performance.now() - signalled < soonMs);
    const acknowledged = (await Promise.all(workers)).reduce((sum, each) => sum + each, 0);
    for (const client of clients) {
      assert.equal(await client.ended, 'whole');
      assert.equal(client.received.at(-1)?.id, String(acknowledged));
    }
    const again = await startServer(t, dataDir);
    const headers = { 'last-event-id': String(acknowledged) };
    const back = await EventClient.open(Number(new URL(again.url).port), path, headers);
    assert.equal((await push(again, 'followed')).status, 200);
    const ids = (await back.take(2)).map(({ id }) => id);
    assert.deepEqual(ids, [`${acknowledged}+ckpt-000002`, String(acknowledged + 1)]);
    back.close();
  });

  test(
    'a client that stalls in its request costs nobody the last checkpoints, and SIGINT is as good',
    options,
    async (t) => {
      const dataDir = await temporaryFolder(t);
      const server = await startServer(t, dataDir, { SHUTDOWN_TIMEOUT_MS: '3000' });
      await create(server, 'saved');
      assert.equal((await push(server, 'saved')).status, 200);
      const stalled = await beginPush(t, server, 'saved');
      assert.deepEqual(await server.end('SIGINT'), { code: 0, signal: null });
      await assert.rejects(stalled.finish());
      const files = await readdir(join(dataDir, 'sessions/saved'));
      assert.ok(files.includes('ckpt-000002.safetensors'), files.join());
    },
  );

  test(
    'while it waits for what is under way, new requests are refused as shutting_down, and a second signal ends it at once',
    options,
    async (t) => {
      const server = await startServer(t, await temporaryFolder(t));
      await create(server, 'a');
      await beginPush(t, server, 'a');
      server.kill('SIGINT');
      await server.logged('shutting down');
      const refused = await server.call('GET', '/v1/sessions/a');
      assert.equal(refused.status, 503);
      assert.equal(refused.json.code, 'shutting_down');
      assert.ok(Number(refused.headers['retry-after']) > 0);
      assert.equal((await server.call('GET', '/healthz')).status, 200);
      const signalled = performance.now();
      assert.deepEqual(await server.end('SIGINT'), { code: 1, signal: null });
      assert.ok(performance.now() - signalled < soonMs);
    },
  );

  test(
    'a second SIGTERM ends it while a large checkpoint is being written, and the one before stays',
    options,
    async (t) => {
      const dataDir = await temporaryFolder(t);
      const server = await startServer(t, dataDir);
      // 240 MB: even a fast disk needs some hundred milliseconds.
      const json = { variables: { w: { shape: [20_000_000] } } };
      assert.equal((await server.call('PUT', '/v1/sessions/large', { json })).status, 201);
      assert.equal((await server.call('PATCH', '/v1/sessions/large', { json: { metadata: { a: 1 } } })).status, 200);
      server.kill('SIGTERM');
      await server.logged('shutting down');
      const signalled = performance.now();
      assert.deepEqual(await server.end('SIGTERM'), { code: 1, signal: null });
      assert.ok(performance.now() - signalled < soonMs);
      const files = await readdir(join(dataDir, 'sessions/large'));
      assert.deepEqual(
        files.filter((file) => file.endsWith('.safetensors')),
        ['ckpt-000001.safetensors'],
      );
    },
  );
});

function create(server: ServerProcess, name: string) {
  return server.call('PUT', `/v1/sessions/${name}`, { json: { variables: pathVariables } });
}

function push(server: ServerProcess, name: string) {
  return server.call('POST', `/v1/sessions/${name}/gradients`, { json: { gradients: pathGradients } });
}

function stateOf(server: ServerProcess, name: string) {
  return servedState((...call) => server.call(...call), name);
}

function waitForChange(server: ServerProcess, name: string) {
  return server.call('GET', `/v1/sessions/${name}/variables`, {
    headers: { prefer: 'wait=55', 'if-none-match': '"0"' },
  });
}

/** How many pushes were acknowledged; every other answer must say that the server goes. */
async function pushUntilRefused(server: ServerProcess, name: string): Promise<number> {
  for (let count = 0; ; count++) {
    const answer = await push(server, name).catch((error: Error) => error);
    if (answer instanceof TypeError) return count;
    if (answer instanceof Error) throw answer;
    if (answer.status === 503) {
      assert.equal(answer.json.code, 'shutting_down');
      return count;
    }
    assert.equal(answer.status, 200);
  }
}

/** A push whose headers the server has, and whose body is still to come. */
function beginPush(t: TestContext, server: ServerProcess, name: string): Promise<BegunRequest> {
  const body = JSON.stringify({ gradients: pathGradients });
  return BegunRequest.open(t, server.url, `/v1/sessions/${name}/gradients`, body);
}

async function openConnection(t: TestContext, server: ServerProcess): Promise<Socket> {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname).on('error', () => undefined);
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  return socket.resume();
}
