/**
 * The walk over lmdb's pages: of a sound file it finds exactly what lmdb has, and nothing wrong; of a damaged one it says so, and
 * which sessions it concerns. Files are made by lmdb itself, and what is expected is what it says.
 */
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { entryKey, keyPrefix, recordPrefix } from '../../src/journal/journal-entries.ts';
import { JournalFile } from '../../src/journal/journal-file.ts';
import { JournalPages, type SoundEntry } from '../../src/journal/journal-pages.ts';
import { encodeHead } from '../../src/journal/record.ts';
import { randomUnits } from '../support/floats.ts';
import { inUse, newestMeta, pageBytes } from '../support/lmdb-pages.ts';
import { temporaryFolder } from '../support/server-process.ts';

const seed = Number(process.env.DAMAGE_SEED ?? 1);
const flips = Number(process.env.DAMAGE_FLIPS ?? 1_500);
const sessions = ['1000000000000001', '2000000000000002', '3000000000000003'].map((id) => Buffer.from(id, 'hex'));
const [first, second, third] = sessions as [Buffer, Buffer, Buffer];

function head(session: Buffer, revision: number, data: Buffer): Buffer {
  const place = { chain: 0, session, previous: revision - 1, revision, iterations: revision };
  const sums = { dataBytes: data.length, dataChecksum: crc32(data) };
  return encodeHead({ kind: 'gradients', ...place, description: ['w'], ...sums }).bytes;
}

/** Transactions of records small and large and of keys; some are removed again, so that pages are free. */
async function fill(file: JournalFile, transactions: number): Promise<void> {
  for (let revision = 1; revision <= transactions; revision++) {
    await file.commit(() => {
      for (const [k, session] of sessions.entries()) {
        const bytes = revision === 7 && k === 1 ? 2_500_000 : revision % 9 === 3 ? 9_000 : 40 + revision;
        const data = Buffer.alloc(bytes, revision);
        file.putRecord(session, revision, head(session, revision, data), [data]);
        file.putKey(session, revision, Buffer.from(`key ${revision}`));
      }
    }, 3_000_000);
    if (revision % 20 === 0) {
      const removed = file.recordEntries(third, revision - 15, revision - 8, 1_000);
      await file.commit(
        () => file.remove([...removed, ...file.keyEntries(second, revision - 15, revision - 9, 9)]),
        1_000,
      );
    }
  }
}

async function newFile(t: TestContext, transactions = 60): Promise<{ path: string; entries: SoundEntry[] }> {
  const path = join(await temporaryFolder(t), 'journal.mdb');
  const file = new JournalFile(path, { make: true });
  await fill(file, transactions);
  await file.close();
  return { path, entries: await entriesOf(path) };
}

/** All but the format, as lmdb has them. */
async function entriesOf(path: string): Promise<SoundEntry[]> {
  const file = new JournalFile(path);
  const entries: SoundEntry[] = [];
  for (let batch = file.entries(); batch.length > 0; batch = file.entries(batch.at(-1)?.key)) entries.push(...batch);
  await file.close();
  return entries;
}

interface Walked {
  readonly reasons: string[];
  readonly concerned: Buffer[];
  /** But for the format. */
  readonly entries: SoundEntry[];
}

async function walk(path: string): Promise<Walked> {
  const pages = await JournalPages.examine(path);
  const entries = [...pages.sound()].filter(({ key }) => key.length > 1);
  const concerned = sessions.filter((session) => pages.reasonFor(session) !== undefined);
  pages.close();
  return { reasons: pages.faults.map(({ reason }) => reason), concerned, entries };
}

async function change(path: string, at: number, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, at);
  await file.close();
}

const names = (entries: readonly SoundEntry[]) => entries.map(({ key }) => key.toString('hex'));
const without = (entries: readonly SoundEntry[], session: Buffer) =>
  entries.filter(({ key }) => !key.subarray(1, 9).equals(session));

describe('a sound file', () => {
  for (const transactions of [0, 1, 2, 19, 20, 60]) {
    test(`of ${transactions} transactions has nothing wrong, and what lmdb has`, async (t) => {
      const { path, entries } = await newFile(t, transactions);
      const walked = await walk(path);
      assert.deepEqual(walked.reasons, []);
      assert.deepEqual(names(walked.entries), names(entries));
      for (const [k, { value }] of walked.entries.entries()) assert.ok(value.equals((entries[k] as SoundEntry).value));
    });
  }

  test('has nothing wrong after any transaction, of one that is opened again and again and loses most of what it had', async (t) => {
    const path = join(await temporaryFolder(t), 'journal.mdb');
    await new JournalFile(path, { make: true }).close();
    const random = randomUnits(seed);
    for (let round = 0, revision = 1; round < 12; round++) {
      const file = new JournalFile(path);
      for (let transaction = 0; transaction < 12; transaction++) {
        await file.commit(() => {
          for (let k = 0; k < random() * 30; k++, revision++) {
            const data = Buffer.alloc(Math.floor(10 ** (random() * 5)), k);
            const session = sessions[k % 3] as Buffer;
            file.putRecord(session, revision, head(session, revision, data), [data]);
          }
        }, 4_000_000);
        const removed = file.recordEntries(sessions[transaction % 3] as Buffer, 0, revision * random(), 500);
        await file.commit(() => (removed.length === 0 ? file.putFormat() : file.remove(removed)), 100_000);
        assert.deepEqual((await walk(path)).reasons, [], `round ${round}, transaction ${transaction}`);
      }
      await file.close();
      assert.deepEqual(names((await walk(path)).entries), names(await entriesOf(path)));
    }
  });
});

describe('a damaged file', () => {
  test(`with any bit flipped that is not of a value is noticed, or lmdb has the same entries (seed ${seed})`, async (t) => {
    const { path, entries } = await newFile(t);
    const file = await readFile(path);
    const { used, values } = inUse(file);
    const isValue = (at: number) => values.some((value) => at >= value.at && at < value.at + value.bytes);
    const places = used.flatMap(({ at, bytes }) => Array.from({ length: bytes }, (_, k) => at + k));
    const structure = places.filter((at) => !isValue(at));
    const random = randomUnits(seed);
    let noticed = 0;
    for (let k = 0; k < flips; k++) {
      const at = structure[Math.floor(random() * structure.length)] as number;
      const bit = Math.floor(random() * 8);
      await change(path, at, Buffer.of((file[at] as number) ^ (1 << bit)));
      const { reasons, concerned, entries: left } = await walk(path);
      const what = `byte ${at % pageBytes} of page ${Math.floor(at / pageBytes)}, bit ${bit}: ${reasons[0]}`;
      if (reasons.length > 0) noticed++;
      else assert.deepEqual(names(await entriesOf(path)), names(entries), what);
      // Whatever is missing is of a session that is named, and so is what was removed before and is there again.
      const [there, here] = [new Set(names(entries)), new Set(names(left))];
      for (const key of [...there, ...here]) {
        const isNamed = concerned.some((session) => session.toString('hex') === key.slice(2, 18));
        assert.ok(isNamed || (there.has(key) && here.has(key)), `${what}: ${key} is lost or back, unnamed`);
      }
      await writeFile(path, file);
    }
    assert.ok(noticed > flips / 2, `only ${noticed} of ${flips} were noticed`);
  });

  test('of which a page of one session is overwritten keeps all that the others have', async (t) => {
    const { path, entries } = await newFile(t);
    const file = await readFile(path);
    const ownPages = pagesOf(file, second).filter(
      (page) => pagesOf(file, first).concat(pagesOf(file, third)).indexOf(page) < 0,
    );
    assert.ok(ownPages.length > 1, 'the session must have pages of its own');
    for (const page of ownPages) {
      await change(path, page * pageBytes, Buffer.alloc(pageBytes, 0xff));
      const walked = await walk(path);
      assert.ok(walked.concerned.includes(second));
      const others = walked.concerned.filter((session) => session !== second);
      assert.ok(others.length < 2, 'at most the session beside it may be concerned');
      assert.deepEqual(names(without(walked.entries, second)), names(without(entries, second)));
      assert.ok(walked.entries.length < entries.length);
      await writeFile(path, file);
    }
  });

  test('whose newest root is lost has what the transaction before had, and concerns all', async (t) => {
    const { path } = await newFile(t, 30);
    const before = await entriesOf(path);
    const file = new JournalFile(path);
    await file.commit(() => file.putRecord(first, 99, head(first, 99, Buffer.alloc(0)), []), 1_000);
    await file.close();
    const { main } = newestMeta(await readFile(path));
    await change(path, main * pageBytes + 18, Buffer.of(0xff));
    const walked = await walk(path);
    assert.deepEqual(walked.concerned, sessions);
    assert.deepEqual(names(walked.entries), names(before));
  });

  test('whose newest transaction is hidden by its number has it all the same, and concerns all', async (t) => {
    const { path, entries } = await newFile(t, 30);
    const { at } = newestMeta(await readFile(path));
    for (const number of [0, 1, 2 ** 30]) {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt(number));
      await change(path, at + 152, bytes);
      const walked = await walk(path);
      assert.deepEqual([walked.concerned, names(walked.entries)], [sessions, names(entries)]);
    }
  });

  test('whose list of free pages has one that is used, or is none, loses nothing', async (t) => {
    const { path, entries } = await newFile(t);
    const file = await readFile(path);
    const { free, main, at } = newestMeta(file);
    const list = free * pageBytes + 24 + file.readUInt16LE(free * pageBytes + 24);
    const ids = list + 8 + 8;
    const id = Array.from({ length: file.readUInt32LE(ids) }, (_, k) => ids + 8 * (k + 1)).find(
      (each) => file.readBigInt64LE(each) > 0n,
    );
    assert.ok(id !== undefined, 'there must be a free page');
    const number = (value: bigint) => Buffer.from(new BigInt64Array([value]).buffer);
    const wrong: [string, number, bigint, RegExp][] = [
      ['a used one', id, BigInt(main), /must be used or free\. It is both/],
      ['a meta page', id, 1n, /must lie from 2 to/],
      ['one behind the last', id, file.readBigInt64LE(at + 144) + 1n, /must lie from 2 to/],
      ['a block of too many', id, -(2n ** 40n), /must lie from 2 to|must have a number|must be (used|free)/],
      ['more numbers than there are', ids, 9_999n, /must not claim more/],
      ['a transaction to come', list + 8, 2n ** 40n, /of a later one/],
    ];
    for (const [what, place, value, rule] of wrong) {
      await change(path, place, number(value));
      const walked = await walk(path);
      assert.ok(
        walked.reasons.some((reason) => rule.test(reason)),
        `${what}: ${walked.reasons}`,
      );
      assert.deepEqual(names(walked.entries), names(entries), what);
      await writeFile(path, file);
    }
  });

  const others: Record<string, (path: string) => Promise<void>> = {
    emptied: (path) => truncate(path, 0),
    'cut within its header': (path) => truncate(path, 5_000),
    'of garbage': (path) => writeFile(path, randomFillSync(Buffer.alloc(65_536))),
    'of zeros': (path) => writeFile(path, Buffer.alloc(65_536)),
  };
  for (const [what, damage] of Object.entries(others)) {
    test(`that is ${what} concerns all, and has nothing`, async (t) => {
      const { path } = await newFile(t, 3);
      await damage(path);
      const walked = await walk(path);
      assert.deepEqual([walked.concerned, walked.entries], [sessions, []]);
    });
  }

  test('of which one meta page is none of lmdb, or of another version, concerns all and loses at most the last transaction', async (t) => {
    const { path, entries } = await newFile(t, 30);
    const file = await readFile(path);
    for (const [at, byte] of [
      [18, 2],
      [24, 0xff],
      [28, 1],
      [0, 7],
    ] as const) {
      for (const page of [0, 1]) {
        await change(path, page * pageBytes + at, Buffer.of(byte));
        const walked = await walk(path);
        if (file[page * pageBytes + at] === byte) continue;
        assert.deepEqual(walked.concerned, sessions);
        assert.ok(walked.entries.length >= entries.length - 6);
        await writeFile(path, file);
      }
    }
  });

  test('that is not there, or is a folder, is no matter of its pages', async (t) => {
    const folder = await temporaryFolder(t);
    await mkdir(join(folder, 'one'));
    await assert.rejects(JournalPages.examine(join(folder, 'none')), { code: 'ENOENT' });
    await assert.rejects(JournalPages.examine(join(folder, 'one')), { code: 'EISDIR' });
  });
});

describe('an entry in sound pages', () => {
  const record = (revision: number) => entryKey(recordPrefix, second, revision);
  const wrong: Record<string, (entries: Map<string, Buffer>) => void> = {
    'a record of another session': (entries) => entries.set(hex(record(99)), head(third, 99, Buffer.alloc(0))),
    'a record of another revision': (entries) => entries.set(hex(record(99)), head(second, 98, Buffer.alloc(0))),
    'a record that is none': (entries) => entries.set(hex(record(99)), Buffer.from('none')),
    'a record with less data than it says': (entries) =>
      entries.set(hex(record(99)), Buffer.concat([head(second, 99, Buffer.alloc(9)), Buffer.alloc(8)])),
    'a fractional revision': (entries) => entries.set(hex(record(8.5)), head(second, 8.5, Buffer.alloc(0))),
    'an idempotency key under another number': (entries) =>
      entries.set(hex(entryKey(keyPrefix, second, 99)), entries.get(hex(entryKey(keyPrefix, second, 5))) as Buffer),
    'an idempotency key that is none': (entries) =>
      entries.set(hex(entryKey(keyPrefix, second, 98)), Buffer.from('none')),
    'a key that is too short': (entries) => entries.set(hex(record(9)).slice(0, 30), Buffer.from('short')),
  };
  for (const [what, damage] of Object.entries(wrong)) {
    test(`that is ${what} is named with its session`, async (t) => {
      const { path, entries } = await newFile(t, 12);
      const changed = new Map(entries.map(({ key, value }) => [hex(key), value]));
      damage(changed);
      const other = join(await temporaryFolder(t), 'other.mdb');
      const file = new JournalFile(other, { make: true });
      await file.commit(() => {
        for (const [key, value] of changed) file.putEntry({ key: Buffer.from(key, 'hex'), value });
      }, 9_000_000);
      await file.close();
      const walked = await walk(other);
      assert.ok(walked.concerned.includes(second), walked.reasons.join());
      assert.ok(walked.concerned.length < 3, walked.reasons.join());
      assert.deepEqual(names(without(walked.entries, second)), names(without(entries, second)));
      const kept = names(walked.entries);
      for (const [key] of changed) if (!names(entries).includes(key)) assert.ok(!kept.includes(key));
      assert.ok(path !== other);
    });
  }

  test('that is the format, another one or none, is named without a session', async (t) => {
    const { path, entries } = await newFile(t, 3);
    const file = new JournalFile(path);
    await file.commit(() => file.putEntry({ key: Buffer.of(0), value: Buffer.from('adamax-journal/2') }), 1_000);
    await file.close();
    const walked = await walk(path);
    assert.match(walked.reasons.join(), /^a journal must have the format "adamax-journal\/1"\. It has another$/);
    assert.deepEqual([walked.concerned, names(walked.entries)], [[], names(entries)]);
  });
});

function hex(key: Buffer): string {
  return key.toString('hex');
}

/** The leaves that have values of the session's records or keys. */
function pagesOf(file: Buffer, session: Buffer): number[] {
  const { values } = inUse(file);
  const own = values.filter(({ at }) => file.subarray(at - 16, at - 8).equals(session));
  return [...new Set(own.map(({ at }) => Math.floor(at / pageBytes)))];
}
