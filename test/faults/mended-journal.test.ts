/**
 * Damaged pages of the journal, and what a start makes of them: who is concerned is named and goes on, who is not keeps all that
 * there was, the past too, and a crash on the way changes neither.
 */
import assert from 'node:assert/strict';
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { JournalPages } from '../../src/journal/journal-pages.ts';
import { tailPaths } from '../../src/journal/tail.ts';
import { startApi } from '../support/api.ts';
import { succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';
import { inUse, newestMeta, pageBytes } from '../support/lmdb-pages.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { advance, createOnPath, openStore } from '../support/stores.ts';
import { heldState, pathAt } from '../support/training-path.ts';

const journal = 'journal/000001.mdb';
const steps = 80;
const names = ['a', 'b', 'c'];

/** Sessions with a checkpoint half way, and so many records that each has pages of its own. Without a tail, unless it is to stay. */
async function prepare(t: TestContext, { tail = false, closed = false } = {}): Promise<string> {
  const own = await temporaryFolder(t);
  const { store, close } = await openStore(t, own);
  for (const name of names) {
    const held = await createOnPath(store, name, {}, 'always');
    await advance(held, steps / 2);
    await held.checkpoints.write();
    await advance(held, steps / 2);
  }
  if (closed) await close();
  const folder = await crashedCopy(t, own);
  if (!tail) for (const path of tailPaths(join(folder, 'journal'))) await truncate(path);
  return folder;
}

async function change(folder: string, task: (file: Buffer) => void): Promise<void> {
  const path = join(folder, journal);
  const file = await readFile(path);
  task(file);
  await writeFile(path, file);
}

async function idOf(folder: string, name: string): Promise<Buffer> {
  const record = JSON.parse(await readFile(join(folder, 'sessions', name, 'session.json'), 'utf8'));
  return Buffer.from(record.journal, 'hex');
}

/** Overwrites a page that only the session's records are in; returns where it begins. */
async function damagePageOf(folder: string, name: string): Promise<number> {
  const id = await idOf(folder, name);
  let begin = 0;
  await change(folder, (file) => {
    const pages = new Map<number, boolean>();
    for (const { at } of inUse(file).values) {
      const page = Math.floor(at / pageBytes);
      pages.set(page, (pages.get(page) ?? true) && file[at - 17] === 1 && file.subarray(at - 16, at - 8).equals(id));
    }
    const own = [...pages].filter(([, isOwn]) => isOwn);
    // The keys on either side of it are the session's too.
    assert.ok(own.length >= 4, `the session must have some pages of its own: ${own.length}`);
    const [page] = own[own.length - 2] as [number, boolean];
    begin = page * pageBytes;
    file.fill(0xff, begin, begin + pageBytes);
  });
  return begin;
}

/** Flips a bit of the data of a late record of the session; returns where its page begins. */
async function damageRecordOf(folder: string, name: string): Promise<number> {
  const id = await idOf(folder, name);
  let begin = 0;
  await change(folder, (file) => {
    const own = inUse(file).values.filter(
      ({ at }) => file[at - 17] === 1 && file.subarray(at - 16, at - 8).equals(id) && file.readDoubleBE(at - 8) === 70,
    );
    assert.equal(own.length, 1, 'the record must be in the file');
    const [{ at, bytes }] = own as [{ at: number; bytes: number }];
    const last = at + bytes - 1;
    file[last] = (file[last] as number) ^ 4;
    begin = last - (last % pageBytes);
  });
  return begin;
}

async function isSound(folder: string): Promise<void> {
  const [name] = (await readdir(join(folder, 'journal'))).filter((each) => each.endsWith('.mdb'));
  const pages = await JournalPages.examine(join(folder, 'journal', name as string));
  pages.close();
  assert.deepEqual(pages.faults, []);
}

for (const [what, damage] of Object.entries({ 'a page': damagePageOf, 'the data of a record': damageRecordOf })) {
  test(`${what} of one session: it goes on from where its records lead, the others keep all, their past too`, async (t) => {
    const folder = await prepare(t);
    const page = await damage(folder, 'b');
    const damaged = (await readFile(join(folder, journal))).subarray(page, page + pageBytes);
    const api = await startApi(t, {}, folder);
    const { store } = api;
    assert.deepEqual(
      store.status.damaged.map(({ session }) => session),
      ['b'],
    );
    const kept = await readdir(join(folder, 'damaged/journal'));
    assert.equal(kept.length, 1);
    const copy = await readFile(join(folder, 'damaged/journal', kept[0] as string));
    assert.ok(damaged.equals(copy.subarray(page, page + pageBytes)), 'what was damaged must be kept');
    const { iterations } = heldState(store.session('b'));
    assert.ok(iterations >= steps / 2 && iterations < steps, `b is at ${iterations}`);
    for (const name of names) {
      const state = heldState(store.session(name));
      assert.equal(state.digest, await pathAt(name === 'b' ? iterations : steps));
      assert.equal(store.session(name).live.log.level('always'), 'always', name);
    }
    for (const name of ['a', 'c']) {
      for (const past of [1, 39, 41, 79]) {
        const into = `${name}-${past}`;
        succeeded(await api.call('POST', `/v1/sessions/${name}/fork`, { json: { name: into, iterations: past } }), 201);
        assert.equal(heldState(store.session(into)).digest, await pathAt(past));
      }
    }
    for (const name of names) await advance(store.session(name), 3);
    const again = await openStore(t, await crashedCopy(t, folder));
    assert.deepEqual(again.store.status.damaged, []);
    assert.equal(heldState(again.store.session('b')).digest, await pathAt(iterations + 3));
    assert.equal(heldState(again.store.session('a')).digest, await pathAt(steps + 3));
    await isSound(folder);
  });
}

test('the list of free pages: it is named without a session, and costs nothing', async (t) => {
  const folder = await prepare(t);
  await change(folder, (file) => {
    const { free } = newestMeta(file);
    file.fill(0xff, free * pageBytes, (free + 1) * pageBytes);
  });
  const api = await startApi(t, {}, folder);
  const [damage, ...others] = api.store.status.damaged;
  assert.deepEqual([damage?.session, others], [undefined, []]);
  assert.match(damage?.reason ?? '', /^it costs no session anything: in the list of free pages: /);
  const ready = succeeded(await api.call('GET', '/readyz'));
  assert.deepEqual(ready.json.damaged, [damage]);
  for (const name of names) {
    assert.equal(heldState(api.store.session(name)).digest, await pathAt(steps));
    assert.equal(heldState(api.store.session(name)).revision, steps);
    succeeded(
      await api.call('POST', `/v1/sessions/${name}/fork`, { json: { name: `${name}-past`, iterations: 5 } }),
      201,
    );
  }
});

test('the last records, which the tail has too, are brought back from there', async (t) => {
  const folder = await prepare(t, { tail: true });
  // The newest root; the transaction before has all but the last records.
  await change(folder, (file) => {
    const { main } = newestMeta(file);
    file.fill(0xff, main * pageBytes, (main + 1) * pageBytes);
  });
  const { store } = await openStore(t, folder);
  // And what has none: the keys of requests that have made or deleted sessions.
  assert.deepEqual(store.status.damaged.map(({ session }) => session ?? '').sort(), ['', ...names]);
  for (const name of names) assert.equal(heldState(store.session(name)).digest, await pathAt(steps), name);
});

test('after a clean end damage costs the past alone', async (t) => {
  const folder = await prepare(t, { closed: true });
  await damagePageOf(folder, 'b');
  const { store } = await openStore(t, folder);
  const [damage, ...others] = store.status.damaged;
  assert.deepEqual([damage?.session, others], ['b', []]);
  assert.match(damage?.reason ?? '', /^its history up to iteration 80 may have gaps: page \d+ /);
  for (const name of names) {
    const { digest, revision } = heldState(store.session(name));
    assert.deepEqual([digest, revision], [await pathAt(steps), steps]);
    await advance(store.session(name), 1);
    assert.equal(heldState(store.session(name)).revision, steps + 1);
  }
});

test('a crash between the new file and the recovery: the next start names who is concerned, and no revision comes again', async (t) => {
  const folder = await prepare(t);
  const id = await idOf(folder, 'c');
  // The last record of the last session: behind it nothing shows that it was there.
  await change(folder, (file) => {
    const own = inUse(file).values.filter(({ at }) => file[at - 17] === 1 && file.subarray(at - 16, at - 8).equals(id));
    const { at } = own.at(-1) as { at: number };
    file[at + 16] = (file[at + 16] as number) ^ 1;
  });
  const first = await openStore(t, await crashedCopy(t, folder));
  const { revision, iterations } = heldState(first.store.session('c'));
  const [report] = first.store.status.damaged;
  assert.ok(report?.session === 'c' && iterations === steps - 1 && revision > steps, `${iterations} at ${revision}`);
  assert.match(report.reason, /^changes after iteration 79 may be lost: a record must stand under its session/);

  const { openJournal } = await import('../../src/store/whole-journal.ts');
  const { findSession } = await import('../../src/store/recovery.ts');
  const place = (name: string) => ({
    name,
    path: join(folder, 'sessions', name),
    aside: join(folder, 'damaged', name),
  });
  const found = await Promise.all(names.map((name) => findSession(place(name) as Parameters<typeof findSession>[0])));
  const sessions = found.filter((each) => each !== undefined);
  const aside = join(folder, 'damaged/journal');
  const opened = await openJournal(join(folder, 'journal'), aside, 100, sessions, () => undefined);
  await opened.journal.close();
  await isSound(folder);
  const { store } = await openStore(t, folder);
  assert.deepEqual(
    store.status.damaged.map(({ session }) => session),
    ['c'],
  );
  assert.ok(heldState(store.session('c')).revision > steps);
  assert.deepEqual(
    (await readdir(join(folder, 'journal'))).filter((name) => name.endsWith('.json')),
    [],
  );
});
