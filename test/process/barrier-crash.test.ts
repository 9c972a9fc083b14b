/**
 * `kill -9` while workers make steps together: some wait at the barrier, some have been answered, some have not. All send again
 * what they got no answer to, with the same key. In the end each step is there once, with the bits of a server that never
 * crashed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { type Json, startApi } from '../support/api.ts';
import { DisturbedServer } from '../support/disturbed-server.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { pushOf } from '../support/workers.ts';

const workers = ['a', 'b', 'c'];
const kills = 3;

/** Of one worker for one step: dense, and rows that some of the others have too. */
function gradientsOf(worker: string, base: number): object {
  const number = workers.indexOf(worker) + 1;
  const values = [number / 3, -1 / (base + number), 0.1 * number];
  return { w: { values }, e: { indices: [base % 5, number], values: [[base / 7], [number / 9]] } };
}

function creation(durability: string): Json {
  const aggregation = { mode: 'sync', replicas_to_aggregate: workers.length };
  return { variables: { w: { values: [1, 2, 3] }, e: { shape: [5, 1] } }, durability, aggregation };
}

for (const durability of ['always', 'everysec']) {
  test(`steps of several workers outlive ${kills} kills, once each, under ${durability}`, async (t) => {
    const training = { creation: creation(durability), push: {} };
    const server = await DisturbedServer.start(t, await temporaryFolder(t), training);
    let last = Number.POSITIVE_INFINITY;
    const bases = new Map(workers.map((worker) => [worker, 0]));
    const work = async (worker: string): Promise<void> => {
      for (let base = 0; base < last; base++) {
        bases.set(worker, base);
        const json = { gradients: gradientsOf(worker, base) };
        const headers = { 'idempotency-key': `${worker}-${base}`, prefer: 'return=minimal' };
        const path = `/v1/sessions/s/gradients?worker=${worker}&base=${base}`;
        const answer = await server.insist('POST', path, { json, headers }, ({ bytes }) =>
          assert.fail(bytes.toString()),
        );
        assert.equal(answer.json.iterations, base + 1);
      }
    };
    const all = Promise.all(workers.map(work));
    for (let kill = 0; kill < kills; kill++) {
      // At another place of a step each time.
      await pause(100 + 17 * kill);
      await server.restart();
    }
    last = Math.max(...bases.values()) + 3;
    await all;

    const reference = await startApi(t);
    await reference.call('PUT', '/v1/sessions/s', { json: creation('checkpoint') });
    for (let base = 0; base < last; base++) {
      // Whoever comes first.
      const order = workers.map((_, k) => workers[(k + base) % workers.length] as string);
      await Promise.all(order.map((worker) => pushOf(reference, 's', worker, base, gradientsOf(worker, base))));
    }
    const [found, expected] = [
      await server.call('GET', '/v1/sessions/s/fingerprint'),
      await reference.call('GET', '/v1/sessions/s/fingerprint'),
    ];
    assert.equal(found.json.iterations, last);
    assert.deepEqual(found.json, expected.json);
    t.diagnostic(`${last} steps`);
  });
}
