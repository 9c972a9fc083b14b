/** One server for one data folder, whoever comes, whenever, and whatever a dead server has left there. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { DataLock } from '../../src/store/data-lock.ts';
import { launch, startServer, temporaryFolder } from '../support/server-process.ts';

describe('the lock of a data folder', { concurrency: 2 }, () => {
  test('a second server refuses; when the first was killed, exactly one of five takes over', {
    timeout: 180_000,
  }, async (t) => {
    const dataDir = await temporaryFolder(t);
    const first = await startServer(t, dataDir);
    const second = launch(t, { env: { DATA_DIR: dataDir } });
    assert.deepEqual(await second.exited, { code: 1, signal: null });
    assert.match(second.stderr, /^adamax-server: DATA_DIR must be .*another one is using/);
    assert.ok(second.stderr.includes(dataDir));
    assert.equal((await first.call('GET', '/readyz')).status, 200);

    await first.end('SIGKILL');
    const starting = Array.from({ length: 5 }, () => launch(t, { env: { DATA_DIR: dataDir } }));
    const outcomes = await Promise.all(
      starting.map((server) =>
        Promise.race([
          server.exited.then(({ code }) => code),
          server.logged('all sessions recovered').then(() => 'won'),
        ]),
      ),
    );
    assert.deepEqual(outcomes.map(String).sort(), ['1', '1', '1', '1', 'won']);
    const winner = starting[outcomes.indexOf('won')];
    assert.equal((await winner?.call('GET', '/readyz'))?.status, 200);
  });

  test('of eight at once over a dead lock, one gets it, a hundred times', { timeout: 180_000 }, async (t) => {
    const folder = await temporaryFolder(t);
    for (let round = 0; round < 100; round++) {
      const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => DataLock.acquire(folder)));
      const won = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
      assert.equal(won.length, 1, `round ${round}`);
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') assert.match(String(outcome.reason), /another one is using/);
      }
      await won[0]?.release();
    }
    assert.match((await readdir(folder)).join(), /^lock-\d+\.sock$/, 'nothing else is left');
  });

  test('it can be taken again as soon as it is released', async (t) => {
    const folder = await temporaryFolder(t);
    await (await DataLock.acquire(folder)).release();
    const lock = await DataLock.acquire(folder);
    await assert.rejects(DataLock.acquire(folder), /another one is using/);
    await lock.release();
  });
});
