/** While sessions are being read back: the server listens already, and says so instead of answering wrongly. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startApi } from '../support/api.ts';
import { launch, temporaryFolder } from '../support/server-process.ts';
import { pathAt, pathVariables, servedState } from '../support/training-path.ts';

test('until every session is back, whatever asks for one is answered with recovering', {
  timeout: 120_000,
}, async (t) => {
  const dataDir = await temporaryFolder(t);
  const before = await startApi(t, {}, dataDir);
  for (const name of ['early', 'late']) {
    assert.equal(
      (await before.call('PUT', `/v1/sessions/${name}`, { json: { variables: pathVariables } })).status,
      201,
    );
  }
  await before.app.close();
  await before.store.close();
  // Reading a pipe waits until somebody writes to it: the recovery stands still at the second session.
  const pipe = join(dataDir, 'sessions/late/ckpt-000002.safetensors');
  await promisify(execFile)('mkfifo', [pipe]);

  const server = launch(t, { env: { DATA_DIR: dataDir } });
  await server.logged('Server listening at');
  const refused: [string, string, unknown?][] = [
    ['GET', '/readyz'],
    ['GET', '/v1/sessions'],
    ['GET', '/v1/sessions/early'],
    ['GET', '/v1/sessions/late'],
    ['GET', '/v1/sessions/late/variables'],
    ['PUT', '/v1/sessions/late', { variables: { w: { values: [1] } } }],
    ['PUT', '/v1/sessions/new', { variables: { w: { values: [1] } } }],
    ['DELETE', '/v1/sessions/late'],
  ];
  for (const [method, path, json] of refused) {
    const answer = await server.call(method, path, { json });
    assert.equal(answer.status, 503, `${method} ${path}`);
    assert.equal(answer.json.code, 'recovering');
    assert.ok(Number(answer.headers['retry-after']) > 0);
  }
  assert.match((await server.call('GET', '/readyz')).json.detail, /So far: 0 of /);
  for (const path of ['/healthz', '/metrics']) {
    assert.equal((await server.call('GET', path)).status, 200, path);
  }

  await (await open(pipe, 'w')).close();
  await server.logged('all sessions recovered');
  const ready = await server.call('GET', '/readyz');
  assert.equal(ready.status, 200);
  assert.equal(ready.json.sessions, 2);
  assert.deepEqual(
    ready.json.damaged.map(({ session, file }: { session: string; file: string }) => ({ session, file })),
    [{ session: 'late', file: join(dataDir, 'damaged/late/ckpt-000002.safetensors') }],
  );
  const late = await servedState((...call) => server.call(...call), 'late');
  assert.deepEqual({ ...late, revision: 0 }, { revision: 0, iterations: 0, digest: await pathAt(0) });
  assert.deepEqual(await server.end('SIGTERM'), { code: 0, signal: null });
});
