/** Damaged files: named in the log and on /readyz, set aside and never deleted; the newest good checkpoint is used. */
import assert from 'node:assert/strict';
import { appendFile, cp, mkdir, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { startApi } from '../support/api.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { advance, createOnPath, type OpenStore, openStore } from '../support/stores.ts';
import { heldState, pathAt } from '../support/training-path.ts';

const newest = 'ckpt-000003.safetensors';

/** Two sessions; `hurt` has checkpoints of 0, 2 and 4 iterations, the last one at revision 4, and was closed cleanly. */
async function prepare(t: Parameters<typeof openStore>[0], folder: string): Promise<void> {
  const { store, close } = await openStore(t, folder);
  await createOnPath(store, 'well');
  const hurt = await createOnPath(store, 'hurt');
  for (let k = 0; k < 2; k++) {
    await advance(hurt, 2);
    await hurt.checkpoints.write();
  }
  await close();
}

const damages: Record<string, (path: string) => Promise<void>> = {
  'cut in half': async (path) => truncate(path, (await readFile(path)).length >> 1),
  emptied: (path) => truncate(path, 0),
  'shorter than a header length': (path) => truncate(path, 5),
  'longer by a byte': (path) => appendFile(path, '\0'),
  'with another bit in its last value': (path) => flip(path, -1),
  'with another bit in its first value': (path) => flipFirst(path),
  'with another bit in its header': (path) => flip(path, 20),
  'with another bit in its header length': (path) => flip(path, 7),
  'without its .sha256': (path) => rm(`${path}.sha256`),
  'with an empty .sha256': (path) => truncate(`${path}.sha256`, 0),
  'with another digit in its .sha256': async (path) => {
    const text = await readFile(`${path}.sha256`, 'utf8');
    await writeFile(`${path}.sha256`, (text.startsWith('0') ? '1' : '0') + text.slice(1));
  },
};

describe('the newest checkpoint', () => {
  for (const [what, damage] of Object.entries(damages)) {
    test(`${what} is named and set aside, and the one before it used`, async (t) => {
      const folder = await temporaryFolder(t);
      await prepare(t, folder);
      await damage(join(folder, 'sessions/hurt', newest));
      const damaged = await readFile(join(folder, 'sessions/hurt', newest));

      const { store, log } = await openStore(t, folder);
      const aside = join(folder, 'damaged/hurt', newest);
      assert.deepEqual(await readFile(aside), damaged);
      const { ready, sessions, damaged: reports } = store.status;
      assert.deepEqual({ ready, sessions }, { ready: true, sessions: 2 });
      assert.deepEqual(
        reports.map(({ session, file }) => ({ session, file })),
        [{ session: 'hurt', file: aside }],
      );
      assert.ok(reports[0]?.reason);
      assert.equal(log.filter((line) => line.startsWith('error ') && line.includes(aside)).length, 1);

      const { revision, iterations, digest } = heldState(store.session('hurt'));
      assert.deepEqual({ iterations, digest }, { iterations: 2, digest: await pathAt(2) });
      assert.ok(revision > 4, `revision 4 stood for other contents. Received: ${revision}`);
      assert.deepEqual(heldState(store.session('well')), { revision: 0, iterations: 0, digest: await pathAt(0) });
    });
  }

  test('set aside twice under one name keeps both files', async (t) => {
    const folder = await temporaryFolder(t);
    await prepare(t, folder);
    for (const text of ['one', 'other']) {
      await writeFile(join(folder, 'sessions/hurt', newest), text);
      await (await openStore(t, folder)).close();
    }
    const files = (await readdir(join(folder, 'damaged/hurt'))).filter((file) => !file.endsWith('.sha256'));
    const texts = await Promise.all(files.map((file) => readFile(join(folder, 'damaged/hurt', file), 'utf8')));
    assert.deepEqual(texts.sort(), ['one', 'other']);
  });
});

test('a session with no good checkpoint is named as gone, the server starts, and the name is free again', async (t) => {
  const folder = await temporaryFolder(t);
  await prepare(t, folder);
  const files = ['ckpt-000001.safetensors', 'ckpt-000002.safetensors', newest];
  for (const file of files) await truncate(join(folder, 'sessions/hurt', file), 50);
  const { store, log } = await openStore(t, folder);
  assert.deepEqual(
    store.list().map(({ name }) => name),
    ['well'],
  );
  assert.equal(store.status.damaged.filter(({ reason }) => reason.includes('the session is gone')).length, 1);
  assert.ok(log.some((line) => line.startsWith('error ') && line.includes('the session is gone')));
  const aside = await readdir(join(folder, 'damaged/hurt'));
  for (const file of files) assert.ok(aside.includes(file), aside.join());
  assert.ok(
    aside.some((file) => file.startsWith('session.json')),
    aside.join(),
  );
  assert.equal(heldState(await createOnPath(store, 'hurt')).digest, await pathAt(0));
});

describe('a session.json', () => {
  for (const text of [
    '',
    'garbage',
    'null',
    '[]',
    '{"format":2}',
    '{"format":1,"first_checkpoint":1}',
    '{"format":1,"first_checkpoint":1,"revision_limit":"9"}',
  ]) {
    test(`that says ${text || 'nothing'} is named and set aside, and the session is back with a new revision`, async (t) => {
      const folder = await temporaryFolder(t);
      await prepare(t, folder);
      await writeFile(join(folder, 'sessions/hurt/session.json'), text);
      const { store, log } = await openStore(t, folder);
      const report = store.status.damaged[0];
      assert.equal(report?.session, 'hurt');
      assert.equal(await readFile(report.file, 'utf8'), text);
      assert.match(report.file, /damaged\/hurt\/session\.json/);
      assert.ok(log.some((line) => line.startsWith('error ') && line.includes(report.file)));
      const { revision, iterations, digest } = heldState(store.session('hurt'));
      assert.deepEqual({ iterations, digest }, { iterations: 4, digest: await pathAt(4) });
      assert.ok(revision > 4 && Number.isSafeInteger(revision), String(revision));
    });
  }
});

interface Ending {
  readonly steps: number;
  readonly crash?: boolean;
  readonly damage?: 'checkpoint' | 'record';
}

/** Each is how one run of the server goes and ends. */
const endings: readonly Ending[] = [
  { steps: 0 },
  { steps: 1 },
  { steps: 1, crash: true },
  { steps: 0, crash: true },
  { steps: 0, crash: true, damage: 'checkpoint' },
  { steps: 2, crash: true },
  { steps: 0, damage: 'checkpoint' },
  { steps: 1, damage: 'record' },
  { steps: 0 },
  { steps: 3, crash: true, damage: 'record' },
  { steps: 1, damage: 'checkpoint' },
];

test('a revision that was given out once stands for one state, through crashes and damage in any order', async (t) => {
  const folder = await temporaryFolder(t);
  await prepare(t, folder);
  const sessions = join(folder, 'sessions');
  const own = join(sessions, 'hurt');
  const seen = new Map<number, string>();
  const look = (store: OpenStore['store']): void => {
    const { revision, digest } = heldState(store.session('hurt'));
    assert.equal(digest, seen.get(revision) ?? digest, `revision ${revision} stood for another state`);
    assert.ok(revision >= Math.max(0, ...seen.keys()), `revision ${revision} goes back`);
    seen.set(revision, digest);
  };
  for (const { steps, crash, damage } of endings) {
    const { store, close } = await openStore(t, folder);
    look(store);
    await advance(store.session('hurt'), steps);
    look(store);
    // A crash leaves what is there before the end.
    await cp(sessions, `${sessions}-now`, { recursive: true });
    await close();
    if (crash) {
      await rm(sessions, { recursive: true });
      await rename(`${sessions}-now`, sessions);
    } else await rm(`${sessions}-now`, { recursive: true });
    const last = (await readdir(own))
      .filter((file) => file.endsWith('.safetensors'))
      .sort()
      .at(-1);
    if (damage === 'checkpoint') await truncate(join(own, last as string), 60);
    if (damage === 'record') await writeFile(join(own, 'session.json'), 'garbage');
  }
  look((await openStore(t, folder)).store);
});

test('after a clean end, the revision and everything else is the same, as often as one starts', async (t) => {
  const folder = await temporaryFolder(t);
  await prepare(t, folder);
  for (let start = 0; start < 3; start++) {
    const { store, close } = await openStore(t, folder);
    assert.deepEqual(heldState(store.session('hurt')), { revision: 4, iterations: 4, digest: await pathAt(4) });
    assert.deepEqual(heldState(store.session('well')), { revision: 0, iterations: 0, digest: await pathAt(0) });
    await close();
  }
  assert.equal((await readdir(join(folder, 'sessions/well'))).length, 3, 'no start has written another checkpoint');
});

test('what is foreign in the data folder is left alone', async (t) => {
  const folder = await temporaryFolder(t);
  await prepare(t, folder);
  const foreign = [
    'sessions/README.txt',
    'sessions/.DS_Store',
    'sessions/notes/todo.tmp',
    'sessions/well/notes.txt',
    'other/file',
  ];
  for (const path of foreign) {
    await mkdir(join(folder, path, '..'), { recursive: true });
    await writeFile(join(folder, path), 'mine');
  }
  const { store } = await openStore(t, folder);
  assert.deepEqual(
    store.list().map(({ name }) => name),
    ['hurt', 'well'],
  );
  assert.deepEqual(store.status.damaged, []);
  for (const path of foreign) assert.equal(await readFile(join(folder, path), 'utf8'), 'mine');
});

test('what a crash left half-written is removed and never used, in sessions and in those that were not to be', async (t) => {
  const folder = await temporaryFolder(t);
  await prepare(t, folder);
  const left = ['hurt/ckpt-000004.safetensors.tmp', 'hurt/session.json.tmp', 'unborn/ckpt-000001.safetensors.tmp'];
  await mkdir(join(folder, 'sessions/unborn'));
  for (const path of left)
    await writeFile(join(folder, 'sessions', path), await readFile(join(folder, 'sessions/hurt', newest)));
  const { store } = await openStore(t, folder);
  assert.deepEqual(heldState(store.session('hurt')), { revision: 4, iterations: 4, digest: await pathAt(4) });
  assert.deepEqual(
    store.list().map(({ name }) => name),
    ['hurt', 'well'],
  );
  const files = await readdir(folder, { recursive: true });
  assert.deepEqual(
    files.filter((file) => file.endsWith('.tmp')),
    [],
  );
});

test('/readyz names the damage, and a restore to a damaged checkpoint is refused and changes nothing', async (t) => {
  const folder = await temporaryFolder(t);
  await prepare(t, folder);
  await truncate(join(folder, 'sessions/hurt', newest), 60);
  const api = await startApi(t, {}, folder);
  const ready = await api.call('GET', '/readyz');
  assert.equal(ready.status, 200);
  assert.equal(ready.json.damaged.length, 1);
  assert.equal(ready.json.damaged[0].file, join(folder, 'damaged/hurt', newest));

  await flip(join(folder, 'sessions/hurt/ckpt-000001.safetensors'), -1);
  const before = heldState(api.store.session('hurt'));
  const restored = await api.call('POST', '/v1/sessions/hurt/checkpoints/ckpt-000001/restore');
  assert.equal(restored.status, 503);
  assert.equal(restored.json.code, 'storage_failed');
  assert.deepEqual(heldState(api.store.session('hurt')), before);
  const { checkpoints } = (await api.call('GET', '/v1/sessions/hurt/checkpoints')).json;
  assert.deepEqual(
    checkpoints.map(({ id }: { id: string }) => id),
    ['ckpt-000002'],
  );
  assert.equal((await api.call('GET', '/readyz')).json.damaged.length, 2);
});

/** Flips the lowest bit of a byte; a negative `at` counts from the end. */
async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  const index = at < 0 ? bytes.length + at : at;
  bytes[index] = (bytes[index] as number) ^ 1;
  await writeFile(path, bytes);
}

/** Flips the lowest bit of the byte behind the header. */
async function flipFirst(path: string): Promise<void> {
  const bytes = await readFile(path);
  await flip(path, 8 + Number(bytes.readBigUInt64LE(0)));
}
