/** One session's records: a chain that leads on or is damaged, gone where it was trimmed or cut, and on time for its level. */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as after } from 'node:timers/promises';
import { type Change, encodeChange } from '../../src/journal/changes.ts';
import { Journal } from '../../src/journal/journal.ts';
import type { JournalFile } from '../../src/journal/journal-file.ts';
import { takeTail } from '../../src/journal/left-in-tail.ts';
import { type Appended, SessionJournal } from '../../src/journal/session-journal.ts';
import { noOrigin } from '../../src/session/workers.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { dense } from '../support/sessions.ts';

const id = Buffer.from('00000000000000aa', 'hex');
const step: Change = { kind: 'gradients', gradients: new Map([['w', dense([1, 2], [2])]]), origin: noOrigin };

async function openJournal(t: TestContext, folder: string, keysMax = 100): Promise<Journal> {
  const journal = await Journal.open(folder, keysMax);
  t.after(() => journal.close());
  return journal;
}

/** A session without records at revision 0, in a journal of its own. */
async function newSession(t: TestContext, keysMax?: number) {
  const folder = join(await temporaryFolder(t), 'journal');
  const journal = await openJournal(t, folder, keysMax);
  return { folder, journal, session: new SessionJournal(journal, id) };
}

async function append(
  session: SessionJournal,
  revision: number,
  level: 'always' | 'everysec' = 'always',
  keys: readonly Buffer[] = [],
  previous = revision - 1,
): Promise<Appended> {
  const { description, data } = encodeChange(step);
  const taken = await session.take(data, revision);
  return session.append('gradients', description, taken, { previous, revision, iterations: revision }, level, keys);
}

async function appendAll(session: SessionJournal, revisions: readonly number[]): Promise<void> {
  for (const revision of revisions) await (await append(session, revision)).acknowledged;
  await session.flush();
}

function read(session: SessionJournal, from: number): number[] {
  return [...session.read(from)].map(({ head }) => head.revision);
}

describe('records', () => {
  test('lead on from any of them, to the last one, after the journal was opened again too', async (t) => {
    const { folder, journal, session } = await newSession(t);
    await appendAll(session, [1, 2, 3]);
    assert.deepEqual([read(session, 0), read(session, 2), read(session, 3)], [[1, 2, 3], [3], []]);
    await journal.close();
    const again = new SessionJournal(await openJournal(t, folder), id);
    again.goOnFrom(3);
    await appendAll(again, [4]);
    assert.deepEqual(read(again, 0), [1, 2, 3, 4]);
    assert.deepEqual(
      [...again.read(3)].map(({ change }) => change.kind),
      ['gradients'],
    );
  });

  test('of another past are damage, though each is whole', async (t) => {
    const { journal, session } = await newSession(t);
    await appendAll(session, [1, 2]);
    const stranger = new SessionJournal(journal, id);
    await appendAll(stranger, [3]);
    const damage = { name: 'JournalDamage', revision: 3 };
    assert.throws(() => read(session, 0), damage);
    const found: number[] = [];
    assert.throws(() => {
      for (const { head } of session.read(0)) found.push(head.revision);
    }, damage);
    assert.deepEqual(found, [1, 2], 'what comes before the damage must be read');
  });

  test('with a gap between them, or before the first, are damage', async (t) => {
    const { session } = await newSession(t);
    await appendAll(session, [1, 2]);
    await (await append(session, 5, 'always', [], 4)).committed;
    assert.throws(() => read(session, 0), { name: 'JournalDamage', revision: 5 });
    assert.throws(() => read(session, 2), { name: 'JournalDamage', revision: 5 });
    assert.deepEqual(read(session, 4), [5]);
    await session.trim(1);
    assert.throws(() => read(session, 0), { name: 'JournalDamage', revision: 2 });
  });
});

describe('records are removed:', () => {
  test('those up to a revision, and those behind read as before', async (t) => {
    const { session } = await newSession(t);
    await appendAll(session, [1, 2, 3, 4]);
    await session.trim(2);
    assert.deepEqual(
      [...session.heads(-1)].map(({ revision }) => revision),
      [3, 4],
    );
    assert.deepEqual(read(session, 2), [3, 4]);
    await appendAll(session, [5]);
    assert.deepEqual(read(session, 2), [3, 4, 5]);
    await session.trim(5);
    assert.deepEqual([...session.heads(-1)], []);
  });
});

describe('idempotency keys', () => {
  test('are there with their records, oldest first, and no longer when they are forgotten', async (t) => {
    const { folder, journal, session } = await newSession(t);
    await (await append(session, 1, 'always', [Buffer.from('a')])).committed;
    await session.appendKey(Buffer.from('b'));
    await (await append(session, 2, 'always', [Buffer.from('c')])).committed;
    const values = (from: SessionJournal) => from.readKeys().map(({ value }) => value.toString());
    assert.deepEqual(values(session), ['a', 'b', 'c']);
    await session.forgetKey(session.readKeys()[1]?.number as number);
    await journal.close();
    const again = new SessionJournal(await openJournal(t, folder), id);
    assert.deepEqual(values(again), ['a', 'c']);
    await again.appendKey(Buffer.from('e'));
    assert.deepEqual(values(again), ['a', 'c', 'e']);
  });

  test('of many the last ones stay, and not many more', async (t) => {
    const { session } = await newSession(t, 50);
    const all = Array.from({ length: 2_500 }, (_, k) => Buffer.from(String(k)));
    for (let first = 0; first < all.length; first += 100) {
      await Promise.all(all.slice(first, first + 100).map((key) => session.appendKey(key)));
    }
    for (let wait = 0; wait < 100 && session.readKeys().length > 1_100; wait++) await after(50);
    const values = session.readKeys().map(({ value }) => value.toString());
    assert.deepEqual(values.slice(-50), all.slice(-50).map(String));
    assert.ok(values.length <= 1_100, `${values.length} keys must not stay for ever`);
  });
});

describe('a change is acknowledged', () => {
  /** Holds every transaction up until it is called. */
  function holdUp(file: JournalFile): () => void {
    const commit = file.commit.bind(file);
    let open = (): void => undefined;
    const opened = new Promise<void>((resolve) => (open = resolve));
    file.commit = async (task, bytes) => {
      await opened;
      await commit(task, bytes);
    };
    return open;
  }

  async function isOver(promise: Promise<unknown>, milliseconds = 100): Promise<boolean> {
    return Promise.race([promise.then(() => true), after(milliseconds, false)]);
  }

  test('under always when lmdb has it, where it is large or the disk was not looked at, and not before', async (t) => {
    const { journal, session } = await newSession(t);
    const open = holdUp(journal.file);
    const { acknowledged } = await append(session, 1);
    assert.equal(await isOver(acknowledged), false);
    open();
    await acknowledged;
    assert.deepEqual(read(session, 0), [1]);
    assert.equal(journal.isQuick(4_000), true);
    assert.equal(journal.isQuick(100_000), false);
  });

  for (const level of ['always', 'everysec'] as const) {
    test(`under ${level} when the tail has it, and a kill then costs neither the change nor its key`, async (t) => {
      const { folder, journal, session } = await newSession(t);
      await (await append(session, 1)).committed;
      const open = holdUp(journal.file);
      const second = await append(session, 2, level, [Buffer.from('key 2')]);
      const third = await append(session, 3, level);
      await Promise.all([second.acknowledged, third.acknowledged]);
      assert.equal(await isOver(second.committed, 50), false, 'it must not have been committed yet');
      await cp(folder, `${folder}-killed`, { recursive: true });
      open();
      await third.committed;

      const left = await openJournal(t, `${folder}-killed`);
      assert.deepEqual(await takeTail(left, new Map([[id.toString('hex'), 0]])), new Set());
      const again = new SessionJournal(left, id);
      assert.deepEqual(read(again, 0), [1, 2, 3]);
      assert.deepEqual(
        again.readKeys().map(({ value }) => value.toString()),
        ['key 2'],
      );
      again.goOnFrom(3);
      await appendAll(again, [4]);
      assert.deepEqual(read(again, 0), [1, 2, 3, 4]);
    });
  }

  test('not where one before it has failed, and a kill then brings back neither', async (t) => {
    const { folder, journal, session } = await newSession(t);
    await (await append(session, 1)).committed;
    const { file } = journal;
    file.commit = () =>
      Promise.reject(Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO', syscall: 'write' }));
    const isQuick = journal.isQuick.bind(journal);
    journal.isQuick = () => false;
    const large = await append(session, 2);
    journal.isQuick = isQuick;
    const small = await append(session, 3);
    await assert.rejects(large.acknowledged, { code: 'storage_failed' });
    await assert.rejects(small.acknowledged, { code: 'storage_failed' });
    await assert.rejects((await append(session, 4, 'everysec')).acknowledged, { code: 'storage_failed' });
    await cp(folder, `${folder}-killed`, { recursive: true });
    const left = await openJournal(t, `${folder}-killed`);
    await takeTail(left, new Map([[id.toString('hex'), 0]]));
    assert.deepEqual(read(new SessionJournal(left, id), 0), [1]);
  });

  test('not where the tail has failed, which takes no more then', async (t) => {
    const { journal, session } = await newSession(t);
    await (await append(session, 1)).committed;
    journal.tail.append = () =>
      Promise.reject(Object.assign(new Error('EIO: i/o error'), { code: 'EIO', syscall: 'write' }));
    const { acknowledged, committed } = await append(session, 2);
    await assert.rejects(acknowledged, { code: 'storage_failed', applied: 'unknown' });
    await assert.rejects(committed, { code: 'storage_failed' });
    assert.equal(journal.problem?.code, 'storage_failed');
    await assert.rejects((await append(session, 3)).acknowledged, { code: 'storage_failed' });
  });

  test('under everysec not at all while the disk is a second behind', async (t) => {
    const { journal, session } = await newSession(t);
    const open = holdUp(journal.file);
    const begun = performance.now();
    let [acknowledged, revision] = [0, 0];
    while (performance.now() - begun < 1_500) {
      const appended = await append(session, ++revision, 'everysec');
      const sent = performance.now();
      if (!(await isOver(appended.acknowledged, 300))) break;
      acknowledged = sent - begun;
      await after(50);
    }
    assert.ok(acknowledged > 0 && acknowledged < 1_000, `acknowledged ${acknowledged} ms behind the disk`);
    open();
    await (await append(session, ++revision, 'everysec')).committed;
    assert.equal(read(session, 0).length, revision);
  });
});
