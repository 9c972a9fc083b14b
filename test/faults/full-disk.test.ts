/**
 * A disk that is full though it is watched (as others may fill it), and one that takes no writes: file systems of their own,
 * mounted for the test where root may.
 */
import assert from 'node:assert/strict';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Problem } from '../../src/errors.ts';
import { Store } from '../../src/store/store.ts';
import { type Answer, type Api, startApi } from '../support/api.ts';
import { makeReadOnly, megabyte, mountSmallDisk } from '../support/small-disk.ts';
import { advance, createOnPath, openStore } from '../support/stores.ts';
import { heldState, pathAt, pathGradients, pathVariables } from '../support/training-path.ts';

/** Fills the disk to the last byte, and returns what frees it again. */
async function fill(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, 'filler');
  await assert.rejects(writeFile(path, Buffer.alloc(16 * megabyte)), { code: 'ENOSPC' });
  return () => rm(path);
}

function assertFull(answer: Answer): void {
  assert.equal(answer.status, 507, answer.bytes.toString());
  assert.equal(answer.json.code, 'insufficient_storage');
  assert.equal(answer.json.applied, false);
}

async function create(api: Api, name: string, json: object): Promise<Answer> {
  return api.call('PUT', `/v1/sessions/${name}`, { json });
}

test('a session that does not fit on the disk is not created and leaves nothing behind; the others go on', async (t) => {
  const folder = await mountSmallDisk(t);
  if (folder === undefined) return;
  const api = await startApi(t, { diskFreeBytesMin: 0 }, folder);
  assert.equal((await create(api, 'small', { variables: pathVariables })).status, 201);
  // 3 parts of 4 bytes for each of a million elements.
  const large = { variables: { w: { shape: [megabyte] } } };
  assertFull(await create(api, 'large', large));
  assert.equal((await api.call('GET', '/v1/sessions/large')).status, 404);
  assert.deepEqual(await readdir(join(folder, 'sessions')), ['small']);
  const pushed = await api.call('POST', '/v1/sessions/small/gradients', { json: { gradients: pathGradients } });
  assert.equal(pushed.status, 200);
  assert.equal((await api.call('POST', '/v1/sessions/small/checkpoints')).status, 201);
  assert.equal((await api.call('GET', '/readyz')).status, 200);
  assert.equal((await create(api, 'large', { variables: { w: { shape: [megabyte / 4] } } })).status, 201);
});

test('a checkpoint that does not fit is refused, the older ones stay, and steps go on until there is room again', async (t) => {
  const folder = await mountSmallDisk(t);
  if (folder === undefined) return;
  const api = await startApi(t, { diskFreeBytesMin: 0 }, folder);
  const json = { variables: pathVariables, durability: 'checkpoint', checkpointing: { every_steps: 2 } };
  assert.equal((await create(api, 'small', json)).status, 201);
  const before = await readdir(join(folder, 'sessions/small'));
  const free = await fill(folder);

  assertFull(await api.call('POST', '/v1/sessions/small/checkpoints'));
  assertFull(await create(api, 'other', { variables: { w: { values: [1] } } }));
  const ready = await api.call('GET', '/readyz');
  assert.equal(ready.status, 507);
  for (let step = 1; step <= 6; step++) {
    const pushed = await api.call('POST', '/v1/sessions/small/gradients', { json: { gradients: pathGradients } });
    assert.equal(pushed.json.iterations, step);
  }
  assertFull(await api.call('POST', '/v1/sessions/small/checkpoints'));
  const { checkpoints } = (await api.call('GET', '/v1/sessions/small/checkpoints')).json;
  assert.deepEqual(
    checkpoints.map(({ id }: { id: string }) => id),
    ['ckpt-000001'],
  );
  assert.deepEqual(await readdir(join(folder, 'sessions/small')), before);
  assert.deepEqual(await readdir(join(folder, 'sessions')), ['small']);

  await free();
  assert.equal((await api.call('GET', '/readyz')).status, 200);
  assert.equal((await api.call('POST', '/v1/sessions/small/checkpoints')).status, 201);
  const state = heldState(api.store.session('small'));
  assert.deepEqual(heldState((await api.restart()).store.session('small')), state);
  assert.equal(state.digest, await pathAt(6));
});

test('a full disk does not keep the server from starting: what is there can be read, and changed once there is room', async (t) => {
  const folder = await mountSmallDisk(t);
  if (folder === undefined) return;
  const first = await openStore(t, folder);
  await advance(await createOnPath(first.store, 'a'), 3);
  const free = await fill(folder);
  await first.close();
  assert.ok(first.log.some((line) => line.startsWith('error the last checkpoint could not be written')));

  const { store } = await openStore(t, folder);
  const held = store.session('a');
  assert.equal(heldState(held).digest, await pathAt(0));
  await assert.rejects(advance(held, 1), ({ code }: Problem) => code === 'insufficient_storage');
  assert.equal(heldState(held).digest, await pathAt(0));
  await free();
  await advance(held, 1);
  assert.equal(heldState(held).digest, await pathAt(1));
});

test('a folder that takes no writes is refused at the start, with the reason', async (t) => {
  const folder = await mountSmallDisk(t);
  if (folder === undefined) return;
  await (await openStore(t, folder)).close();
  await makeReadOnly(folder);
  const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
  await assert.rejects(
    Store.open({ dataDir: folder, memoryBytesMax: 1, threads: 0, keysMax: 100 }, silent),
    ({ message }: Error) => {
      assert.match(message, /^DATA_DIR must be a folder that this server can write to .*EROFS/);
      assert.ok(message.includes(folder));
      return true;
    },
  );
});
