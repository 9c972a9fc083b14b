/**
 * The real server on a real disk that gets full under pushes: what does not fit is refused and changes nothing, reads go on,
 * and once there is room again the server is back by itself, without an acknowledged push lost or taken twice.
 */
import assert from 'node:assert/strict';
import { mkdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { encodeFile, f32 } from '../support/api.ts';
import { DisturbedServer } from '../support/disturbed-server.ts';
import { startServer } from '../support/server-process.ts';
import { megabyte, mountSmallDisk, takeSpace } from '../support/small-disk.ts';

/** From a record that takes part of a page to one whose data have a file of their own; and how much is taken away of the disk. */
const sizes = [
  { size: 50, megabytes: 8, taken: 7.4 },
  { size: 20_000, megabytes: 8, taken: 4 },
  { size: 270_000, megabytes: 24, taken: 12 },
];

for (const { size, megabytes, taken } of sizes) {
  test(`a disk that is full after pushes of ${size} elements`, { timeout: 300_000 }, async (t) => {
    const folder = await mountSmallDisk(t, megabytes);
    if (folder === undefined) return;
    // Small records would take long to fill it all.
    const giveBack = await takeSpace(folder, taken * megabyte);
    const dataDir = join(folder, 'data');
    await mkdir(dataDir);
    const values = Array.from({ length: size }, (_, index) => ((index % 7) - 3) / 64);
    const disturbed = await DisturbedServer.start(t, dataDir, {
      creation: {
        variables: { w: { shape: [size] } },
        durability: 'always',
        checkpointing: { every_steps: null, every_seconds: null },
      },
      push: {
        bytes: encodeFile({ w: f32(values) }),
        headers: { accept: 'application/json', prefer: 'return=minimal' },
      },
    });

    // Each key is sent until it is acknowledged, so these end when there is room again.
    const clients = Promise.all(
      Array.from({ length: 3 }, async () => {
        while (disturbed.refusals.length === 0) await disturbed.push();
      }),
    );
    await disturbed.refused(clients);
    for (const { status } of disturbed.refusals) assert.equal(status, 507);
    await disturbed.assertReadOnly('ENOSPC');
    await giveBack();
    await clients;
    await disturbed.assertBack();
    await disturbed.assertAgreement();
    await disturbed.push();
    await disturbed.restart();
    await disturbed.assertAgreement();
    t.diagnostic(`${disturbed.acknowledged.length} pushes, ${disturbed.refusals.length} refusals`);
  });
}

test('a full disk and kill -9: the server starts, serves reads, and takes pushes once there is room', async (t) => {
  const folder = await mountSmallDisk(t);
  if (folder === undefined) return;
  const giveBack = await takeSpace(folder, 4 * megabyte);
  const dataDir = join(folder, 'data');
  await mkdir(dataDir);
  const values = Array.from({ length: 5_000 }, (_, index) => ((index % 7) - 3) / 64);
  const disturbed = await DisturbedServer.start(t, dataDir, {
    creation: {
      variables: { w: { shape: [values.length] } },
      durability: 'always',
      checkpointing: { every_steps: null, every_seconds: null },
    },
    push: { bytes: encodeFile({ w: f32(values) }), headers: { accept: 'application/json', prefer: 'return=minimal' } },
  });
  const client = (async () => {
    while (disturbed.refusals.length === 0) await disturbed.push('ENOSPC');
  })();
  await disturbed.refused(client);
  await disturbed.restart();
  const { iterations } = (await disturbed.call('GET', '/v1/sessions/s/fingerprint')).json;
  assert.ok(iterations >= disturbed.acknowledged.length, `${iterations}, ${disturbed.acknowledged.length}`);
  await giveBack();
  await client;
  await disturbed.assertBack();
  await disturbed.assertAgreement();
  await disturbed.restart();
  await disturbed.assertAgreement();
});

test('a disk that is watched does not get full: pushes are refused before, and taken again when there is room', async (t) => {
  const folder = await mountSmallDisk(t, 16);
  if (folder === undefined) return;
  const giveBack = await takeSpace(folder, 4 * megabyte);
  const least = 4 * megabyte;
  const server = await startServer(t, join(folder, 'data'), { DISK_FREE_BYTES_MIN: String(least) });
  const size = 20_000;
  const json = { variables: { w: { shape: [size] } } };
  assert.equal((await server.call('PUT', '/v1/sessions/s', { json })).status, 201);
  const bytes = encodeFile({ w: f32(Array(size).fill(0.5)) });
  const push = () => server.call('POST', '/v1/sessions/s/gradients', { bytes });
  let acknowledged = 0;
  let answer = await push();
  for (; answer.status === 200; answer = await push()) acknowledged++;
  assert.equal(answer.status, 507);
  assert.equal(answer.json.code, 'insufficient_storage');
  assert.match(answer.json.detail, /DISK_FREE_BYTES_MIN/);
  const { bavail, bsize } = await statfs(folder);
  assert.ok(bavail * bsize > least / 2, `${bavail * bsize} bytes are free`);
  const ready = await server.call('GET', '/readyz');
  assert.equal(ready.status, 200);
  assert.notEqual(ready.json.disk.level, 'low');
  const read = async () => (await server.call('GET', '/v1/sessions/s/fingerprint')).json;
  const before = await read();
  assert.equal(before.iterations, acknowledged);
  await giveBack();
  while ((await push()).status !== 200) await pause(100);
  assert.equal((await read()).iterations, acknowledged + 1);
  t.diagnostic(`${acknowledged} pushes before the first was refused`);
});
