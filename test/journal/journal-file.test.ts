/** One file of the journal: what was put comes back in order and to the bit, and a file that is none is refused. */
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import * as lmdb from 'lmdb';
import { JournalFile } from '../../src/journal/journal-file.ts';
import { encodeHead } from '../../src/journal/record.ts';
import { bodyPool } from '../../src/tensor/buffer-pool.ts';
import { temporaryFolder } from '../support/server-process.ts';

const [one, other] = [Buffer.from('0000000000000001', 'hex'), Buffer.from('0000000000000002', 'hex')];

async function newFile(t: TestContext): Promise<{ file: JournalFile; path: string; reopen(): Promise<JournalFile> }> {
  const path = join(await temporaryFolder(t), 'journal.mdb');
  let file = new JournalFile(path, { make: true });
  t.after(() => file.close());
  const reopen = async () => {
    await file.close();
    file = new JournalFile(path);
    return file;
  };
  return { file, path, reopen };
}

/** Puts a record whose data are these views, one behind the other. */
function put(file: JournalFile, session: Buffer, revision: number, data: readonly Uint8Array[] = []): Promise<void> {
  const whole = Buffer.concat(data);
  const dataBytes = whole.length;
  const place = { chain: 0, session, previous: revision - 1, revision, iterations: revision };
  const { bytes } = encodeHead({
    kind: 'gradients',
    ...place,
    description: `of ${revision}`,
    dataBytes,
    dataChecksum: crc32(whole),
  });
  return file.commit(() => file.putRecord(session, revision, bytes, data), dataBytes);
}

function revisions(file: JournalFile, session: Buffer, after = -1): number[] {
  return [...file.records(session, after)].map(({ head }) => head.revision);
}

describe('what is put in a file', () => {
  test('comes back by revision, whatever the order it came in, and of one session alone', async (t) => {
    const { file, reopen } = await newFile(t);
    // Numbers whose digits or bytes would sort another way.
    const numbers = [256, 9, 10, 0, 2 ** 40, 255, 2, 1_000_000];
    for (const revision of numbers) await put(file, one, revision);
    for (const revision of [3, 1]) await put(file, other, revision);
    const sorted = [...numbers].sort((a, b) => a - b);
    for (const take of [async () => file, reopen]) {
      const each = await take();
      assert.deepEqual(revisions(each, one), sorted);
      assert.deepEqual(revisions(each, other), [1, 3]);
      assert.deepEqual(revisions(each, one, 10), [255, 256, 1_000_000, 2 ** 40]);
      assert.deepEqual(revisions(each, one, 2 ** 40), []);
      assert.deepEqual(
        [...each.heads(one, 9)].map(({ revision, description }) => [revision, description]),
        sorted.slice(3).map((revision) => [revision, `of ${revision}`]),
      );
      assert.equal(each.lastRevision(one), 2 ** 40);
      assert.equal(each.headAt(one, 256)?.iterations, 256);
      assert.equal(each.headAt(other, 256), undefined);
      assert.deepEqual(
        each.sessions().map((id) => id.toString('hex')),
        [one, other].map((id) => id.toString('hex')),
      );
    }
  });

  test('keys come back by number, apart from the records and from those of other sessions', async (t) => {
    const { file, reopen } = await newFile(t);
    await put(file, one, 1);
    for (const number of [2, 300, 1]) {
      await file.commit(() => {
        file.putKey(one, number, Buffer.from(`key ${number}`));
        file.putKey(other, number + 1, Buffer.from('another'));
      }, 100);
    }
    const again = await reopen();
    assert.deepEqual(
      [...again.keys(one)].map(({ number, value }) => [number, value.toString()]),
      [1, 2, 300].map((number) => [number, `key ${number}`]),
    );
    assert.equal(again.lastKey(one), 300);
    assert.equal(again.lastKey(Buffer.alloc(8)), 0);
    assert.deepEqual(revisions(again, one), [1]);
  });

  test('is gone when it was removed, and nothing else is', async (t) => {
    const { file, reopen } = await newFile(t);
    for (let revision = 1; revision <= 5; revision++) {
      await put(file, one, revision, [Buffer.alloc(200_000, revision)]);
      await put(file, other, revision);
    }
    const entries = file.recordEntries(one, 2, 4, 1_000);
    await file.commit(() => file.remove(entries), 1_000);
    const again = await reopen();
    assert.deepEqual(revisions(again, one), [1, 5]);
    assert.deepEqual(revisions(again, other), [1, 2, 3, 4, 5]);
  });
});

describe('data', () => {
  const sizes = [0, 1, 65_535, 1_000_001];
  for (const size of sizes) {
    test(`of ${size} bytes come back to the bit, from ordinary and from shared memory`, async (t) => {
      const { file, reopen } = await newFile(t);
      const shared = bodyPool.take(2_000_000);
      assert.ok(shared.buffer instanceof SharedArrayBuffer, 'the pool must give shared memory for a large body');
      const [own, lent] = [Buffer.alloc(size), shared.subarray(1, size + 1)];
      for (const data of [own, lent]) randomFillSync(data);
      await put(file, one, 1, [own]);
      await put(file, one, 2, [lent]);
      // What stands in them afterwards must not matter.
      const copies = [Buffer.from(own), Buffer.from(lent)];
      for (const data of [own, lent]) data.fill(0);
      bodyPool.give(shared);
      let k = 0;
      for (const { data } of (await reopen()).records(one, 0)) {
        assert.equal(Buffer.compare(data, copies[k++] as Buffer), 0, `record ${k} has other data`);
      }
      assert.equal(k, 2);
    });
  }

  test('in several views, next to each other and apart, shared and not, come back as one', async (t) => {
    const { file, reopen } = await newFile(t);
    const shared = bodyPool.take(4_000_000);
    randomFillSync(shared);
    const own = randomFillSync(Buffer.alloc(1_500_000));
    const views = [
      shared.subarray(3, 1_000_003),
      shared.subarray(1_000_003, 2_500_000),
      own.subarray(7),
      shared.subarray(3_000_000, 3_000_000),
      shared.subarray(3_000_001),
      own.subarray(0, 5),
    ];
    await put(file, one, 1, views);
    const expected = Buffer.concat(views);
    bodyPool.give(shared);
    const [record] = [...(await reopen()).records(one, 0)].map(({ data }) => Buffer.from(data));
    assert.equal(Buffer.compare(record as Buffer, expected), 0, 'the data must be the views in order');
  });
});

describe('a record', () => {
  test('under a revision that is not its own is damage, and so is one with other data', async (t) => {
    const { file } = await newFile(t);
    const head = { kind: 'gradients' as const, chain: 0, session: one, previous: 1, iterations: 2, description: [] };
    const empty = encodeHead({ ...head, revision: 2, dataBytes: 0, dataChecksum: 0 }).bytes;
    await file.commit(() => file.putRecord(one, 3, empty, []), 100);
    assert.throws(() => revisions(file, one), {
      name: 'JournalDamage',
      revision: 3,
      message: /stand under its revision/,
    });
    assert.throws(() => file.headAt(one, 3), { name: 'JournalDamage' });
    const foreign = encodeHead({ ...head, revision: 1, dataBytes: 0, dataChecksum: 0 }).bytes;
    await file.commit(() => file.putRecord(other, 1, foreign, []), 100);
    assert.throws(() => file.headAt(other, 1), { name: 'JournalDamage', message: /stand under its session/ });
    const wrong = encodeHead({ ...head, session: other, revision: 2, dataBytes: 1, dataChecksum: 7 }).bytes;
    await file.commit(() => file.putRecord(other, 2, wrong, [Buffer.from('x')]), 100);
    assert.throws(() => revisions(file, other, 1), { name: 'JournalDamage', revision: 2 });
  });
});

describe('a file that is no journal is refused:', () => {
  test("another database of lmdb's, and one of another format", async (t) => {
    const folder = await temporaryFolder(t);
    for (const format of [undefined, 'adamax-journal/2']) {
      const path = join(folder, `${format?.length}.mdb`);
      const db = lmdb.open<Buffer, Buffer>({ path, encoding: 'binary', keyEncoding: 'binary', noSubdir: true });
      await db.put(Buffer.from([format === undefined ? 7 : 0]), Buffer.from(format ?? 'x'));
      await db.close();
      assert.throws(() => new JournalFile(path), {
        name: 'JournalDamage',
        message: `a journal must have the format "adamax-journal/1". Received: ${JSON.stringify(format ?? 'none')}`,
      });
    }
  });
});
