/** Whether the last step is durable, and where it lies: at each level, across changes of the level, and across a crash. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { HeldSession } from '../../src/store/held-session.ts';
import { crashedCopy } from '../support/crashed.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { createOnPath, openStore } from '../support/stores.ts';
import { pathStep } from '../support/training-path.ts';

async function step(held: HeldSession): Promise<void> {
  await held.applyGradients(new Map(Object.entries(pathStep)), {}, { receive: () => [] });
}

/** Whether all is durable, the iterations that a power cut and a killed process leave, and where the former lie. */
function told({ durable: { isLast, durable, written, in: where } }: HeldSession): unknown[] {
  return [isLast, durable.iterations, written.iterations, where];
}

async function newSession(t: TestContext, durability: 'always' | 'everysec' | 'checkpoint') {
  const folder = await temporaryFolder(t);
  const { store, close } = await openStore(t, folder);
  return { folder, store, close, held: await createOnPath(store, 'a', {}, durability) };
}

/** What a start finds after the process was killed at this moment. */
async function afterKill(t: TestContext, folder: string): Promise<HeldSession> {
  const { store } = await openStore(t, await crashedCopy(t, folder));
  return store.session('a');
}

test('under `always` a step is in the tail, then in the journal, then in the checkpoint', async (t) => {
  const { held } = await newSession(t, 'always');
  assert.deepEqual(told(held), [true, 0, 0, 'checkpoint']);
  await step(held);
  assert.deepEqual(told(held), [true, 1, 1, 'journal tail']);
  await held.live.log.journal.flush();
  assert.deepEqual(told(held), [true, 1, 1, 'journal']);
  await held.checkpoints.write();
  assert.deepEqual(told(held), [true, 1, 1, 'checkpoint']);
});

test('under `everysec` a step is written, and not durable before the journal or a fsync of the tail has it', async (t) => {
  const { store, held } = await newSession(t, 'everysec');
  await step(held);
  assert.deepEqual(told(held), [false, 0, 1, 'checkpoint']);
  await held.live.log.journal.flush();
  assert.deepEqual(told(held), [true, 1, 1, 'journal']);
  await step(held);
  assert.deepEqual(told(held), [false, 1, 2, 'journal']);
  const other = await createOnPath(store, 'b', {}, 'always');
  await held.live.log.journal.flush();
  await step(held);
  assert.deepEqual(told(held), [false, 2, 3, 'journal']);
  await step(other);
  assert.deepEqual(told(held), [true, 3, 3, 'journal tail'], 'a fsync of the tail is for all that is in it');
});

test('under `checkpoint` a step is durable with the next checkpoint, and not before', async (t) => {
  const { held } = await newSession(t, 'checkpoint');
  await step(held);
  await held.live.log.journal.flush();
  assert.deepEqual(told(held), [false, 0, 0, 'checkpoint']);
  await held.checkpoints.write();
  assert.deepEqual(told(held), [true, 1, 1, 'checkpoint']);
});

test('what came under another level before is known: the last step of `always` stays durable behind one of `everysec`', async (t) => {
  const { held } = await newSession(t, 'always');
  await step(held);
  await held.patch({ durability: 'everysec' }, {});
  await step(held);
  assert.deepEqual(told(held), [false, 1, 2, 'journal tail']);
  await held.patch({ durability: 'checkpoint' }, {});
  await step(held);
  await held.live.log.journal.flush();
  assert.deepEqual(told(held), [false, 2, 2, 'journal']);
});

test('records count when the checkpoint that they lead on from is on the disk, and never where it fails', async (t) => {
  const { folder, held } = await newSession(t, 'checkpoint');
  const { journal } = held.live.log;
  const flush = journal.flush.bind(journal);
  const seen: unknown[] = [];
  let fails = true;
  // The snapshot is taken, and the checkpoint not written yet.
  journal.flush = async () => {
    await step(held);
    await flush();
    seen.push(told(held));
    if (fails) throw new Error('the disk fails');
  };
  await step(held);
  await held.patch({ durability: 'always' }, {});
  assert.deepEqual(seen, [[false, 0, 0, 'checkpoint']]);
  assert.deepEqual(told(held), [false, 0, 0, 'checkpoint']);
  assert.equal(held.checkpoints.failures, 1);
  assert.equal((await afterKill(t, folder)).contents.iterations, 0);
  fails = false;
  await held.checkpoints.write();
  journal.flush = flush;
  assert.deepEqual(seen[1], [false, 0, 0, 'checkpoint']);
  assert.deepEqual(told(held), [true, 3, 3, 'journal']);
  assert.equal((await afterKill(t, folder)).contents.iterations, 3);
});

for (const durability of ['always', 'everysec', 'checkpoint'] as const) {
  test(`after a kill under \`${durability}\` there is what was said to be written, and it is durable`, async (t) => {
    const { folder, held } = await newSession(t, durability);
    await step(held);
    await held.checkpoints.write();
    await step(held);
    const { written } = held.durable;
    const again = await afterKill(t, folder);
    assert.equal(again.contents.iterations, written.iterations);
    const where = durability === 'checkpoint' ? 'checkpoint' : 'journal';
    assert.deepEqual(told(again), [true, written.iterations, written.iterations, where]);
    await again.patch({ iterations: 7 }, {});
    assert.equal(again.durable.isLast, durability === 'always');
  });
}
