/** The data of large records: on the disk before their record, to the bit, and gone when no record has them. */
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { ArrivedData } from '../../src/journal/arrived-data.ts';
import { type Change, encodeChange } from '../../src/journal/changes.ts';
import { DataFile } from '../../src/journal/data-file.ts';
import { Journal } from '../../src/journal/journal.ts';
import { SessionJournal } from '../../src/journal/session-journal.ts';
import { decodeSlicesFile } from '../../src/schemas/slices.ts';
import { noOrigin } from '../../src/session/workers.ts';
import { bodyPool } from '../../src/tensor/buffer-pool.ts';
import { parseSafetensors } from '../../src/tensor/safetensors.ts';
import { encodeFile, f32 } from '../support/api.ts';
import { temporaryFolder } from '../support/server-process.ts';

const id = Buffer.from('00000000000000aa', 'hex');
const [count, bytes] = [300_000, 1_200_000];

async function newJournal(t: TestContext, folder?: string) {
  const own = folder ?? join(await temporaryFolder(t), 'journal');
  const journal = await Journal.open(own, 100);
  t.after(() => journal.close());
  return { folder: own, journal, session: new SessionJournal(journal, id) };
}

function gradientsIn(body: Uint8Array): Change {
  return { kind: 'gradients', gradients: decodeSlicesFile(parseSafetensors(body)), origin: noOrigin };
}

/** A safetensors body of one tensor `w`, in memory as a request's is. */
function newBody(): Buffer {
  const file = encodeFile({ w: f32(new Array(count).fill(0)) });
  const body = bodyPool.take(file.length);
  body.set(file);
  randomFillSync(body, body.length - bytes);
  return body;
}

async function append(session: SessionJournal, revision: number, body: Buffer, arrived?: ArrivedData): Promise<void> {
  const { description, data } = encodeChange(gradientsIn(body));
  const taken = await session.take(data, revision, arrived);
  const place = { previous: revision - 1, revision, iterations: revision };
  await session.append('gradients', description, taken, place, 'always', []).acknowledged;
}

function valuesOf(session: SessionJournal, after = 0): Buffer[] {
  return [...session.read(after)].map(({ change }) => {
    assert(change.kind === 'gradients');
    return Buffer.concat([...change.gradients.values()].map(({ values }) => Buffer.from(values.bytes)));
  });
}

const filesOf = async (folder: string) => (await readdir(join(folder, 'data'))).sort();

/** In pieces of a size that is nobody's. */
function arrive(arrived: ArrivedData, body: Buffer, upTo = body.length): void {
  for (let filled = 5; ; filled = Math.min(upTo, filled + 65_521)) {
    arrived.take(body, filled);
    if (filled === upTo) return;
  }
}

describe('data of a record', () => {
  test('that have arrived are in a file of their own, and are those that come back', async (t) => {
    const { folder, journal, session } = await newJournal(t);
    const body = newBody();
    const arrived = new ArrivedData(session.begin(bytes) as DataFile, body.length);
    arrive(arrived, body);
    await append(session, 1, body, arrived);
    assert.deepEqual(await filesOf(folder), ['00000000000000aa-1']);
    assert.deepEqual(await readFile(join(folder, 'data/00000000000000aa-1')), Buffer.from(body.subarray(-bytes)));
    await arrived.discard();
    const expected = Buffer.from(body.subarray(-bytes));
    body.fill(0);
    assert.deepEqual(valuesOf(session), [expected]);
    await journal.close();
    const { session: again } = await newJournal(t, folder);
    assert.deepEqual(valuesOf(again), [expected]);
  });

  test('that have not arrived, or in another order, get a file too', async (t) => {
    const { folder, session } = await newJournal(t);
    await append(session, 1, newBody());
    const two = Buffer.from(encodeFile({ b: f32(new Array(count).fill(1)), a: f32(new Array(count).fill(2)) }));
    const arrived = new ArrivedData(session.begin(two.length) as DataFile, two.length);
    arrive(arrived, two);
    const { description, data } = encodeChange(gradientsIn(two));
    const turned = [...data].reverse();
    const taken = await session.take(turned, 2, arrived);
    await session.append('gradients', description, taken, { previous: 1, revision: 2, iterations: 2 }, 'always', [])
      .acknowledged;
    await arrived.discard();
    assert.deepEqual(await filesOf(folder), ['00000000000000aa-1', '00000000000000aa-2']);
    assert.deepEqual(valuesOf(session, 1), [Buffer.concat(turned)]);
  });

  test('below a mebibyte have none', async (t) => {
    const { folder, session } = await newJournal(t);
    assert.equal(session.begin(2 ** 20 - 1), undefined);
    await append(session, 1, Buffer.from(encodeFile({ w: f32(new Array(1000).fill(1)) })));
    assert.deepEqual(await filesOf(folder), []);
    assert.equal(valuesOf(session).length, 1);
  });

  for (const [what, start] of Object.entries({
    'a header that is too long': Buffer.from('ffffffffffffff7f', 'hex'),
    'a header that ends behind the body': Buffer.from('0000000001000000', 'hex'),
  })) {
    test(`what begins with ${what} is nothing, and leaves nothing`, async (t) => {
      const { folder, session } = await newJournal(t);
      const body = Buffer.concat([start, Buffer.alloc(bytes)]);
      const file = session.begin(bytes) as DataFile;
      const arrived = new ArrivedData(file, body.length);
      arrive(arrived, body);
      assert.equal(file.bytes, 0);
      assert.equal(arrived.fileOf([body.subarray(8)]), undefined);
      await arrived.discard();
      assert.deepEqual(await filesOf(folder), []);
    });
  }
});

describe('a file of data', () => {
  test('goes with its record, and with its session', async (t) => {
    const { folder, journal, session } = await newJournal(t);
    const other = new SessionJournal(journal, Buffer.from('00000000000000bb', 'hex'));
    for (const revision of [1, 2, 3]) await append(session, revision, newBody());
    await append(other, 1, newBody());
    await session.trim(2);
    assert.deepEqual(await filesOf(folder), ['00000000000000aa-3', '00000000000000bb-1']);
    await journal.forget(id);
    assert.deepEqual(await filesOf(folder), ['00000000000000bb-1']);
    assert.equal(valuesOf(other).length, 1);
  });

  test('that no record has goes at the next start; what is not ours stays', async (t) => {
    const { folder, journal, session } = await newJournal(t);
    await append(session, 1, newBody());
    // Written, and then the server was killed: while they arrived, and when their record was about to come.
    const half = new ArrivedData(session.begin(bytes) as DataFile, bytes);
    half.take(newBody(), bytes / 2);
    t.after(() => half.discard());
    const taken = await session.take(encodeChange(gradientsIn(newBody())).data, 2);
    assert.equal(taken.bytes, bytes);
    await mkdir(join(folder, 'data/of-somebody-else'));
    assert.equal((await filesOf(folder)).length, 4);
    await journal.close();
    const { journal: again } = await newJournal(t, folder);
    const aside = join(await temporaryFolder(t), 'aside');
    await again.clearData(undefined);
    assert.deepEqual(await filesOf(folder), ['00000000000000aa-1', 'of-somebody-else']);
    // Where records may have been lost by damage, what they had is kept.
    await writeFile(join(folder, 'data/00000000000000aa-2'), 'of a record that could not be read');
    await again.clearData(aside);
    assert.deepEqual(await filesOf(folder), ['00000000000000aa-1', 'of-somebody-else']);
    assert.deepEqual(await readdir(aside), ['00000000000000aa-2']);
  });

  test('that is cut, changed or not there is damage to its record alone', async (t) => {
    const { folder, session } = await newJournal(t);
    for (const revision of [1, 2, 3]) await append(session, revision, newBody());
    const path = join(folder, 'data/00000000000000aa-2');
    const whole = await readFile(path);
    const damages = {
      flipped: () => writeFile(path, Buffer.from(whole).fill((whole[7] as number) ^ 1, 7, 8)),
      cut: () => truncate(path, bytes - 1),
      emptied: () => truncate(path, 0),
      longer: () => truncate(path, bytes + 1),
      removed: () => rm(path),
    };
    for (const [what, damage] of Object.entries(damages)) {
      await damage();
      assert.throws(() => valuesOf(session), { name: 'JournalDamage', revision: 2 }, what);
      assert.equal(valuesOf(session, 2).length, 1, `${what}: the record behind it must be as it was`);
      await writeFile(path, whole);
    }
    assert.equal(valuesOf(session).length, 3);
  });

  test('has the checksum and the length of all that was put, from several places', async (t) => {
    const folder = await temporaryFolder(t);
    const written: number[] = [];
    const file = new DataFile(join(folder, 'arriving'), (more) => written.push(more));
    const [one, other] = [randomFillSync(Buffer.alloc(9_000_001)), randomFillSync(Buffer.alloc(3))];
    const parts = [one.subarray(0, 1), one.subarray(1, 5_000_000), one.subarray(5_000_000), other];
    for (const part of parts) file.put(part);
    await file.keepAs(join(folder, 'kept'));
    const expected = Buffer.concat([one, other]);
    assert.deepEqual([file.bytes, file.checksum], [expected.length, crc32(expected)]);
    assert.equal(Buffer.compare(await readFile(join(folder, 'kept')), expected), 0);
    assert.equal(
      written.reduce((sum, each) => sum + each, 0),
      expected.length,
    );
    await file.discard();
    assert.deepEqual(await readdir(folder), ['kept']);
  });

  test('that cannot be written refuses its change and those behind it, until the journal is set right', async (t) => {
    const { folder, journal, session } = await newJournal(t);
    await append(session, 1, newBody());
    await rm(join(folder, 'data'), { recursive: true });
    await assert.rejects(append(session, 2, newBody()), { code: 'storage_failed', applied: false });
    assert.equal(journal.problem?.code, 'storage_failed');
    assert.equal(session.begin(bytes), undefined);
    await assert.rejects(append(session, 2, Buffer.from(encodeFile({ w: f32([1]) }))), { code: 'storage_failed' });
  });
});
