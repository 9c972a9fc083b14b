/** The tail: what was acknowledged from it is there after a kill, and what a power cut tore or left behind is not taken for more. */
import assert from 'node:assert/strict';
import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { encodeHead } from '../../src/store/record.ts';
import { Tail, type TailFrame } from '../../src/store/tail.ts';
import { temporaryFolder } from '../support/server-process.ts';

const [one, other] = [Buffer.from('0000000000000001', 'hex'), Buffer.from('ffffffffffffffff', 'hex')];
const never = new Promise(() => undefined);
const done = Promise.resolve();

async function newTail(t: TestContext): Promise<{ tail: Tail; path: string }> {
  const path = join(await temporaryFolder(t), 'tail');
  return { tail: await open(t, path), path };
}

async function open(t: TestContext, path: string): Promise<Tail> {
  const tail = await Tail.open(path);
  t.after(() => tail.close());
  return tail;
}

function frame(session: Buffer, revision: number, data: readonly Uint8Array[] = [], key?: string): TailFrame {
  const whole = Buffer.concat(data);
  const { bytes } = encodeHead({
    kind: 'gradients',
    chain: 7,
    revision,
    previous: revision - 1,
    iterations: revision,
    description: ['größe'],
    dataBytes: whole.length,
    dataChecksum: crc32(whole),
  });
  return { session, key: key === undefined ? undefined : Buffer.from(key), head: bytes, data };
}

interface Left {
  readonly session: string;
  readonly revision: number;
  readonly key: string | undefined;
  readonly data: string;
}

/** What a process finds that opens the file after the one that wrote it was killed. */
async function left(t: TestContext, path: string): Promise<Left[]> {
  const found: Left[] = [];
  for await (const { session, head, key, data } of (await open(t, path)).frames()) {
    const { revision } = head;
    found.push({ session: session.toString('hex'), revision, key: key?.toString(), data: data.toString('latin1') });
  }
  return found;
}

async function revisionsLeft(t: TestContext, path: string): Promise<number[]> {
  return (await left(t, path)).map(({ revision }) => revision);
}

test('frames that were acknowledged are there after a kill: sessions, keys, heads and data, in order', async (t) => {
  const { tail, path } = await newTail(t);
  const frames = [
    frame(one, 1, [Buffer.from('ab'), Buffer.alloc(0), Buffer.from('c')], 'key'),
    frame(other, 2 ** 41, [Buffer.alloc(300_000, 'x')]),
    frame(one, 2),
    frame(one, 3, [Buffer.from('last')], 'another'),
  ];
  for (const each of frames.slice(0, 2)) await tail.append(each, never);
  await Promise.all(frames.slice(2).map((each) => tail.append(each, never)));
  assert.deepEqual(await left(t, path), [
    { session: one.toString('hex'), revision: 1, key: 'key', data: 'abc' },
    { session: other.toString('hex'), revision: 2 ** 41, key: undefined, data: 'x'.repeat(300_000) },
    { session: one.toString('hex'), revision: 2, key: undefined, data: '' },
    { session: one.toString('hex'), revision: 3, key: 'another', data: 'last' },
  ]);
});

test('more frames at once than one system call takes are all there', async (t) => {
  const { tail, path } = await newTail(t);
  const numbers = Array.from({ length: 700 }, (_, k) => k + 1);
  await Promise.all(numbers.map((revision) => tail.append(frame(one, revision, [Buffer.from('x')]), never)));
  assert.deepEqual(await revisionsLeft(t, path), numbers);
});

test('a frame that is torn at any byte is not there, and those before it are', async (t) => {
  const { tail, path } = await newTail(t);
  await tail.append(frame(one, 1, [Buffer.from('first')], 'k'), never);
  const whole = (await stat(path)).size;
  await tail.append(frame(one, 2, [Buffer.from('second')], 'k'), never);
  const bytes = await readFile(path);
  for (let length = bytes.length - 1; length >= whole; length--) {
    await truncate(path, length);
    assert.deepEqual(await revisionsLeft(t, path), [1], `cut to ${length}`);
  }
  // The file may have its length before its bytes.
  for (let length = bytes.length - 1; length >= whole; length--) {
    await writeFile(path, Buffer.concat([bytes.subarray(0, length), Buffer.alloc(bytes.length - length)]));
    assert.deepEqual(await revisionsLeft(t, path), [1], `zeros from ${length} on`);
  }
});

test('any bit flipped is noticed, and costs the frames from there on at most', async (t) => {
  const { tail, path } = await newTail(t);
  const frames = [1, 2, 3].map((revision) => frame(one, revision, [Buffer.from(`data ${revision}`)]));
  for (const each of frames) await tail.append(each, never);
  const bytes = await readFile(path);
  const expected = await left(t, path);
  const frameBytes = bytes.length / 3;
  for (let at = frameBytes; at < 2 * frameBytes; at++) {
    for (const bit of [0, 3, 7]) {
      const hurt = Buffer.from(bytes);
      hurt[at] = (hurt[at] as number) ^ (1 << bit);
      await writeFile(path, hurt);
      const found = await left(t, path);
      assert.deepEqual(found, expected.slice(0, found.length), `byte ${at - frameBytes} of a frame, bit ${bit}`);
      assert.ok(found.length === 1, `byte ${at - frameBytes} of a frame, bit ${bit}: ${found.length} frames`);
    }
  }
});

test('when all is in the journal the next frame begins at 0, and none is lost while one is not', async (t) => {
  const { tail, path } = await newTail(t);
  const settle: (() => void)[] = [];
  const append = (revision: number): Promise<void> => {
    const settled = new Promise<void>((resolve) => settle.push(resolve));
    return tail.append(frame(one, revision), settled);
  };
  for (const revision of [1, 2, 3]) await append(revision);
  settle[0]?.();
  settle[1]?.();
  await append(4);
  assert.deepEqual(await revisionsLeft(t, path), [1, 2, 3, 4]);
  const { size } = await stat(path);
  settle[2]?.();
  settle[3]?.();
  await append(5);
  assert.equal((await revisionsLeft(t, path))[0], 5);
  assert.equal((await stat(path)).size, size, 'the file must not grow when all is in the journal');
});

test('what is stale behind a shorter new frame is never taken for something new', async (t) => {
  const { tail, path } = await newTail(t);
  const long = [1, 2, 3, 4].map((revision) => tail.append(frame(one, revision, [Buffer.alloc(50)]), done));
  await Promise.all(long);
  await tail.append(frame(other, 9, [Buffer.alloc(50)]), never);
  const found = await left(t, path);
  assert.deepEqual(found[0], { session: other.toString('hex'), revision: 9, key: undefined, data: '\0'.repeat(50) });
  // Those that follow were in the journal before: whoever reads them knows their revisions.
  for (const { session, revision } of found.slice(1)) {
    assert.equal(session, one.toString('hex'));
    assert.ok(revision <= 4, `revision ${revision} was never written`);
  }
});

test('a cleared tail has nothing, and a later one only what came since', async (t) => {
  const { tail, path } = await newTail(t);
  await tail.append(frame(one, 1, [Buffer.alloc(1_000)]), never);
  await tail.clear();
  assert.deepEqual(await revisionsLeft(t, path), []);
  await tail.append(frame(one, 2), never);
  assert.deepEqual(await revisionsLeft(t, path), [2]);
});
