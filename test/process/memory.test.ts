import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startServer, temporaryFolder } from '../support/server-process.ts';

const MB = 1e6;

test('a deleted session gives its memory back', async (t) => {
  const server = await startServer(t, await temporaryFolder(t));
  const resident = async (): Promise<number> => {
    const { bytes } = await server.call('GET', '/metrics');
    return Number(/^process_resident_memory_bytes (\S+)$/m.exec(bytes.toString())?.[1]);
  };
  // 1 M float32 parameters and their slots: 12 MB a session, 480 MB in all if nothing were freed.
  const json = { variables: { w: { shape: [1_000_000], initializer: 'ones' } } };
  let before = 0;
  for (let k = 0; k < 42; k++) {
    if (k === 2) before = await resident();
    assert.equal((await server.call('PUT', `/v1/sessions/s${k}`, { json })).status, 201);
    assert.equal((await server.call('DELETE', `/v1/sessions/s${k}`)).status, 204);
  }
  const grown = (await resident()) - before;
  assert.ok(grown < 150 * MB, `it grew by ${Math.round(grown / MB)} MB`);
});
