/**
 * Every call that writes, syncs or renames fails in turn, once or for good. Whichever it is: memory and disk agree, what was
 * saved before stays, nothing half-written is taken for whole, and the store goes on.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, type FileHandle, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Problem } from '../../src/errors.ts';
import type { HeldSession } from '../../src/store/held-session.ts';
import { FailingDisk, type Failure, type Operation } from '../support/failing-disk.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { advance, createOnPath, openStore } from '../support/stores.ts';
import { heldState, pathAt } from '../support/training-path.ts';

const writes: readonly Operation[] = ['open', 'write', 'writeFile', 'sync', 'rename'];

/** The task's calls, each failing by itself, as a broken disk or as a full one in turn; or with all calls after it, if `lasting`. */
async function failuresOf(
  disk: FailingDisk,
  operations: readonly Operation[],
  lasting: boolean,
  task: () => Promise<unknown>,
): Promise<Failure[]> {
  const calls = await disk.count(operations, task);
  return Array.from({ length: calls }, (_, at) => {
    return { operations, at, code: at % 2 === 0 ? 'EIO' : 'ENOSPC', lasting } as const;
  });
}

function assertStorageProblem(error: unknown, { code }: Failure): void {
  assert.ok(error instanceof Problem, String(error));
  assert.equal(error.code, code === 'EIO' ? 'storage_failed' : 'insufficient_storage');
  assert.equal(error.applied, false);
}

/** The checkpoints in memory are those in the folder, whole, and nothing else is there but what says nothing by itself. */
async function assertAgreement(held: HeldSession, folder: string): Promise<void> {
  const files = await readdir(folder);
  const expected = held.checkpoints.list.flatMap(({ id }) => [`${id}.safetensors`, `${id}.safetensors.sha256`]);
  const alone = files.filter((file) => file.endsWith('.sha256') && !files.includes(file.slice(0, -'.sha256'.length)));
  assert.deepEqual(files.filter((file) => !alone.includes(file)).sort(), [...expected, 'session.json'].sort());
  for (const { id, sha256 } of held.checkpoints.list) {
    const bytes = await readFile(join(folder, `${id}.safetensors`));
    assert.equal(createHash('sha256').update(bytes).digest('hex'), sha256);
  }
}

/** What a server would find that starts now, after a crash. */
async function crashed(t: TestContext, folder: string) {
  const copy = await temporaryFolder(t);
  await cp(folder, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
  const { store, close } = await openStore(t, copy);
  const found = {
    damaged: store.status.damaged,
    states: new Map(store.list().map((held) => [held.name, heldState(held)])),
  };
  await close();
  return found;
}

test('a checkpoint fails whole, and the ones before it stay', { timeout: 300_000 }, async (t) => {
  const folder = await temporaryFolder(t);
  const { store } = await openStore(t, folder);
  const held = await createOnPath(store, 'a', { keep: 2 });
  const checkpoint = async () => {
    await advance(held, 1);
    await held.checkpoints.write().finally(() => held.checkpoints.idle());
  };
  await checkpoint();
  const disk = await FailingDisk.install(t);
  // At the least: the file, its .sha256 and the removal of the oldest, each with a sync of its own and of the folder.
  const once = await failuresOf(disk, [...writes, 'rm'], false, checkpoint);
  const lasting = await failuresOf(disk, writes, true, checkpoint);
  assert.ok(once.length > lasting.length && lasting.length >= 11, `${once.length}, ${lasting.length}`);

  for (const failure of [...once, ...lasting]) {
    const what = JSON.stringify(failure);
    const saved = held.view.lastCheckpoint?.iterations;
    const { error } = await disk.during(failure, checkpoint);
    const { iterations, digest } = heldState(held);
    assert.equal(digest, await pathAt(iterations), what);
    if (error !== undefined) assertStorageProblem(error, failure);
    assert.equal(held.view.lastCheckpoint?.iterations, error === undefined ? iterations : saved, what);

    const { damaged, states } = await crashed(t, folder);
    assert.deepEqual(damaged, [], what);
    const found = states.get('a')?.iterations as number;
    assert.equal(found, held.view.lastCheckpoint?.iterations, what);
    assert.equal(states.get('a')?.digest, await pathAt(found), what);
    await checkpoint();
    await assertAgreement(held, join(folder, 'sessions/a'));
  }
});

test('a creation fails whole: there is no such session, nothing of it is left, and the name is free', {
  timeout: 300_000,
}, async (t) => {
  const folder = await temporaryFolder(t);
  const { store } = await openStore(t, folder);
  await createOnPath(store, 'other');
  const disk = await FailingDisk.install(t);
  const create = () => createOnPath(store, 'new');
  const remove = () => store.delete('new', false, {});
  const once = await failuresOf(disk, writes, false, create);
  await remove();
  const lasting = once.filter(({ code }) => code === 'EIO').map((failure) => ({ ...failure, lasting: true }));
  assert.ok(once.length >= 14, `${once.length}`);
  for (const failure of [...once, ...lasting]) {
    const what = JSON.stringify(failure);
    assertStorageProblem((await disk.during(failure, create)).error, failure);
    assert.deepEqual(
      store.list().map(({ name }) => name),
      ['other'],
      what,
    );
    assert.deepEqual(await readdir(join(folder, 'sessions')), ['other'], what);
    const { damaged, states } = await crashed(t, folder);
    assert.deepEqual({ damaged, names: [...states.keys()] }, { damaged: [], names: ['other'] }, what);
  }
  await assertAgreement(await create(), join(folder, 'sessions/new'));
});

for (const keep of [false, true]) {
  test(`a deletion that ${keep ? 'keeps' : 'takes'} the checkpoints happens, or fails and changes nothing`, {
    timeout: 300_000,
  }, async (t) => {
    const folder = await temporaryFolder(t);
    const { store } = await openStore(t, folder);
    const disk = await FailingDisk.install(t);
    const remove = () => store.delete('a', keep, {});
    await createOnPath(store, 'a');
    const failures = await failuresOf(disk, [...writes, 'rm'], false, remove);
    assert.ok(failures.length >= 4, `${failures.length}`);
    for (const failure of failures) {
      const what = JSON.stringify(failure);
      const held = await createOnPath(store, 'a');
      await advance(held, 1);
      const { error } = await disk.during(failure, remove);
      const names = error === undefined ? [] : ['a'];
      if (error !== undefined) {
        assertStorageProblem(error, failure);
        await advance(held, 1);
        await held.checkpoints.write();
      }
      assert.deepEqual(
        store.list().map(({ name }) => name),
        names,
        what,
      );
      const { damaged, states } = await crashed(t, folder);
      assert.deepEqual({ damaged, names: [...states.keys()] }, { damaged: [], names }, what);
      if (error !== undefined) {
        assert.equal(states.get('a')?.digest, await pathAt(2), what);
        await remove();
      }
    }
  });
}

test('a first step whose revision cannot be reserved is refused and changes nothing', {
  timeout: 300_000,
}, async (t) => {
  const folder = await temporaryFolder(t);
  const before = await openStore(t, folder);
  await createOnPath(before.store, 'a');
  await before.close();
  const disk = await FailingDisk.install(t);
  for (let at = 0; ; at++) {
    const { store, close } = await openStore(t, folder);
    const held = store.session('a');
    const state = heldState(held);
    const failure = { operations: writes, at, code: 'EIO' as const };
    const { calls, error } = await disk.during(failure, () => advance(held, 1));
    if (calls <= at) {
      assert.equal(error, undefined);
      assert.ok(at >= 6, `${at}`);
      return;
    }
    assertStorageProblem(error, failure);
    assert.deepEqual(heldState(held), state);
    await advance(held, 1);
    assert.deepEqual(heldState(held), {
      revision: state.revision + 1,
      iterations: state.iterations + 1,
      digest: await pathAt(state.iterations + 1),
    });
    await close();
  }
});

test('a checkpoint by rule that fails is logged, costs no step, and is tried again by the rule', {
  timeout: 300_000,
}, async (t) => {
  const folder = await temporaryFolder(t);
  const { store, log } = await openStore(t, folder);
  const held = await createOnPath(store, 'a', { every_steps: 2 });
  const disk = await FailingDisk.install(t);
  const failed = () => log.filter((line) => line.startsWith('error a checkpoint could not be written')).length;
  const { error } = await disk.during({ operations: ['sync'], at: 0, code: 'EIO', lasting: true }, async () => {
    await advance(held, 2);
    while (failed() === 0) await nextTurn();
  });
  assert.equal(error, undefined);
  const saved = () => held.view.lastCheckpoint?.iterations;
  assert.equal(saved(), 0);
  assert.equal(held.checkpoints.failures, 1);
  await advance(held, 2);
  while (saved() !== 4) await nextTurn();
  assert.equal(failed(), 1);
  await assertAgreement(held, join(folder, 'sessions/a'));
});

test('at the end, one session that cannot be saved is logged and costs the others nothing', async (t) => {
  const folder = await temporaryFolder(t);
  const { store, log, close } = await openStore(t, folder);
  for (const name of ['a', 'b', 'c']) await advance(await createOnPath(store, name), 3);
  const disk = await FailingDisk.install(t);
  const { error } = await disk.during({ operations: ['sync'], at: 0, code: 'EIO' }, close);
  assert.equal(error, undefined);
  assert.equal(log.filter((line) => line.startsWith('error the last checkpoint could not be written')).length, 1);
  const { store: again } = await openStore(t, folder);
  assert.deepEqual(
    again.list().map(({ contents }) => contents.iterations),
    [0, 3, 3],
  );
});

test('a disk that takes a few bytes at a time gets all of them', async (t) => {
  const folder = await temporaryFolder(t);
  const { store } = await openStore(t, folder);
  const held = await createOnPath(store, 'a');
  const file = await open(join(folder, 'sessions/a/session.json'), 'r');
  const handle: FileHandle = Object.getPrototypeOf(file);
  await file.close();
  const write = handle.write as (...values: unknown[]) => Promise<unknown>;
  t.mock.method(handle, 'write', function (this: FileHandle, bytes: Buffer, from: number, count: number, at: number) {
    return write.call(this, bytes, from, Math.min(count, 100), at);
  });
  await advance(held, 1);
  await held.checkpoints.write();
  t.mock.restoreAll();
  await assertAgreement(held, join(folder, 'sessions/a'));
  const { damaged, states } = await crashed(t, folder);
  assert.deepEqual(damaged, []);
  assert.equal(states.get('a')?.digest, await pathAt(1));
});
