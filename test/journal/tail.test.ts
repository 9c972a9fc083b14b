/** The tail: what was acknowledged from it is there after a kill, and what a power cut tore or left behind is not taken for more. */
import assert from 'node:assert/strict';
import { readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { encodeHead } from '../../src/journal/record.ts';
import { Tail } from '../../src/journal/tail.ts';
import { readLeft, type TailFrame } from '../../src/journal/tail-frames.ts';
import { temporaryFolder } from '../support/server-process.ts';

const [one, other] = [Buffer.from('0000000000000001', 'hex'), Buffer.from('ffffffffffffffff', 'hex')];
const never = new Promise(() => undefined);
const done = Promise.resolve();

async function newTail(t: TestContext): Promise<{ tail: Tail; path: string }> {
  const tail = await open(t, await temporaryFolder(t));
  return { tail, path: tail.paths[0] as string };
}

async function open(t: TestContext, folder: string): Promise<Tail> {
  const tail = await Tail.open(folder);
  t.after(() => tail.close());
  return tail;
}

function frame(session: Buffer, revision: number, data: readonly Uint8Array[] = [], ...keys: string[]): TailFrame {
  const whole = Buffer.concat(data);
  const { bytes } = encodeHead({
    kind: 'gradients',
    chain: 7,
    session,
    revision,
    previous: revision - 1,
    iterations: revision,
    description: ['größe'],
    dataBytes: whole.length,
    dataChecksum: crc32(whole),
  });
  return { session, keys: keys.map((key) => Buffer.from(key)), head: bytes, data };
}

interface Found {
  readonly session: string;
  readonly revision: number;
  readonly keys: readonly string[];
  readonly data: string;
}

/** What a process finds after the one that wrote it was killed, and the sessions of which it finds that something is lost. */
async function found({ paths }: Tail): Promise<{ frames: Found[]; lost: (string | undefined)[] }> {
  const left = await readLeft(paths);
  const frames: Found[] = [];
  for await (const { session, head, keys, data } of left.frames()) {
    const { revision } = head;
    frames.push({ session: session.toString('hex'), revision, keys: keys.map(String), data: data.toString('latin1') });
  }
  await left.close();
  return { frames, lost: left.lost.map((session) => session?.toString('hex')) };
}

async function revisionsLeft(tail: Tail): Promise<number[]> {
  return (await found(tail)).frames.map(({ revision }) => revision);
}

/** Where the frames end in a file that has grown by more than they are. */
async function endOfFrames(path: string): Promise<number> {
  const bytes = await readFile(path);
  let end = bytes.length;
  while (bytes[end - 1] === 0) end--;
  return end;
}

for (const isSynced of [true, false]) {
  const how = isSynced ? 'fsynced' : 'written';
  test(`frames that were ${how} are there after a kill: sessions, keys, heads and data, in order`, async (t) => {
    const { tail } = await newTail(t);
    const frames = [
      frame(one, 1, [Buffer.from('ab'), Buffer.alloc(0), Buffer.from('c')], 'key'),
      frame(other, 2 ** 41, [Buffer.alloc(300_000, 'x')]),
      frame(one, 2),
      frame(one, 3, [Buffer.from('last')], 'another', '', 'a third'),
    ];
    for (const each of frames.slice(0, 2)) await tail.append(each, isSynced, never);
    await Promise.all(frames.slice(2).map((each) => tail.append(each, isSynced, never)));
    assert.deepEqual(await found(tail), {
      frames: [
        { session: one.toString('hex'), revision: 1, keys: ['key'], data: 'abc' },
        { session: other.toString('hex'), revision: 2 ** 41, keys: [], data: 'x'.repeat(300_000) },
        { session: one.toString('hex'), revision: 2, keys: [], data: '' },
        { session: one.toString('hex'), revision: 3, keys: ['another', '', 'a third'], data: 'last' },
      ],
      lost: [],
    });
  });
}

test('more frames at once than one system call takes are all there', async (t) => {
  const { tail } = await newTail(t);
  const numbers = Array.from({ length: 700 }, (_, k) => k + 1);
  await Promise.all(numbers.map((revision) => tail.append(frame(one, revision, [Buffer.from('x')]), true, never)));
  assert.deepEqual(await revisionsLeft(tail), numbers);
});

test('a frame that is torn at any byte is not there, and those before it are', async (t) => {
  const { tail, path } = await newTail(t);
  await tail.append(frame(one, 1, [Buffer.from('first')], 'k'), true, never);
  const whole = await endOfFrames(path);
  await tail.append(frame(one, 2, [Buffer.from('second')], 'k'), false, never);
  const bytes = (await readFile(path)).subarray(0, await endOfFrames(path));
  const expected = { frames: (await found(tail)).frames.slice(0, 1), lost: [] };
  for (let length = bytes.length - 1; length >= whole; length--) {
    await writeFile(path, bytes);
    await truncate(path, length);
    assert.deepEqual(await found(tail), expected, `cut to ${length}`);
    // The file may have its length before its bytes.
    await writeFile(path, Buffer.concat([bytes.subarray(0, length), Buffer.alloc(bytes.length - length)]));
    assert.deepEqual(await found(tail), expected, `zeros from ${length} on`);
  }
});

test('any bit flipped costs one frame, and what was fsynced before others were written is missed', async (t) => {
  const { tail, path } = await newTail(t);
  for (const revision of [1, 2, 3]) await tail.append(frame(one, revision, [Buffer.from('data')]), true, never);
  const bytes = (await readFile(path)).subarray(0, await endOfFrames(path));
  const { frames } = await found(tail);
  const frameBytes = bytes.length / 3;
  for (let at = frameBytes; at < 2 * frameBytes; at++) {
    for (const bit of [0, 3, 7]) {
      const hurt = Buffer.from(bytes);
      hurt[at] = (hurt[at] as number) ^ (1 << bit);
      await writeFile(path, hurt);
      const what = `byte ${at - frameBytes} of a frame, bit ${bit}`;
      const { frames: readable, lost } = await found(tail);
      assert.deepEqual(readable, [frames[0], frames[2]], what);
      // Whose it was is known as long as its own header reads.
      assert.deepEqual(lost, [at - frameBytes < 64 ? undefined : one.toString('hex')], what);
    }
  }
});

test('when all is in lmdb the next frame begins at 0, and none is lost while one is not, or cannot be', async (t) => {
  const { tail, path } = await newTail(t);
  const settle: { resolve: () => void; reject: (error: Error) => void }[] = [];
  const append = (revision: number): Promise<number> => {
    const settled = new Promise<void>((resolve, reject) => settle.push({ resolve, reject }));
    return tail.append(frame(one, revision, [Buffer.alloc(50)]), true, settled);
  };
  for (const revision of [1, 2, 3]) await append(revision);
  settle[0]?.resolve();
  settle[1]?.resolve();
  await append(4);
  assert.deepEqual(await revisionsLeft(tail), [1, 2, 3, 4]);
  const end = await endOfFrames(path);
  settle[2]?.resolve();
  settle[3]?.resolve();
  await append(5);
  assert.deepEqual(await found(tail), {
    frames: [{ session: one.toString('hex'), revision: 5, keys: [], data: '\0'.repeat(50) }],
    lost: [],
  });
  assert.equal(await endOfFrames(path), end, 'the file must not grow when all is in lmdb');
  settle[4]?.reject(new Error('lmdb has failed'));
  await append(6);
  assert.deepEqual(await revisionsLeft(tail), [5, 6]);
});

test('the two files take turns, and the one that is left has nothing that the next one would be read without', async (t) => {
  const { tail } = await newTail(t);
  const settle: (() => void)[] = [];
  const append = (revision: number): Promise<number> => {
    const settled = new Promise<void>((resolve) => settle.push(resolve));
    return tail.append(frame(one, revision, [Buffer.alloc(6_000_000, revision)]), false, settled);
  };
  const sizes = async () =>
    Promise.all(tail.paths.map(async (path) => Math.floor((await stat(path)).size / 6_000_000)));
  for (const revision of [1, 2, 3, 4]) await append(revision);
  assert.deepEqual(await sizes(), [3, 1]);
  assert.deepEqual(await revisionsLeft(tail), [1, 2, 3, 4]);
  for (const k of [0, 1]) settle[k]?.();
  for (const revision of [5, 6, 7]) await append(revision);
  assert.deepEqual(await sizes(), [3, 4], 'the first file is not free while lmdb lacks its third frame');
  settle[2]?.();
  await append(8);
  assert.deepEqual(await revisionsLeft(tail), [4, 5, 6, 7, 8]);
});

test('what is stale behind a shorter new frame is not read', async (t) => {
  const { tail } = await newTail(t);
  const long = [1, 2, 3, 4].map((revision) => tail.append(frame(one, revision, [Buffer.alloc(50)]), true, done));
  await Promise.all(long);
  await tail.append(frame(other, 9, [Buffer.alloc(50)]), true, never);
  assert.deepEqual(await found(tail), {
    frames: [{ session: other.toString('hex'), revision: 9, keys: [], data: '\0'.repeat(50) }],
    lost: [],
  });
});

test('a frame within the data of another is not taken for one', async (t) => {
  const { tail, path } = await newTail(t);
  await tail.append(frame(one, 1, [Buffer.from('bait')]), true, done);
  const bait = (await readFile(path)).subarray(0, await endOfFrames(path));
  for (const revision of [5, 6, 7]) await tail.append(frame(other, revision, [bait]), true, never);
  // Even where the frame around it is damaged, so that the next one is searched for.
  const bytes = await readFile(path);
  const second = bytes.indexOf('TAIL', bytes.indexOf(bait) + bait.length);
  bytes[second + 30] = 255;
  await writeFile(path, bytes);
  assert.deepEqual(await revisionsLeft(tail), [5, 7]);
});

test('a cleared tail has nothing, and a later one only what came since', async (t) => {
  const { tail } = await newTail(t);
  await tail.append(frame(one, 1, [Buffer.alloc(1_000)]), true, never);
  await tail.clear();
  assert.deepEqual(await revisionsLeft(tail), []);
  await tail.append(frame(one, 2), true, never);
  assert.deepEqual(await revisionsLeft(tail), [2]);
});

test('after a failure nothing is taken until it is cleared', async (t) => {
  const folder = await temporaryFolder(t);
  await symlink('/dev/full', join(folder, 'tail.0'));
  const tail = await open(t, folder);
  const errors = [];
  for (const revision of [1, 2]) {
    errors.push(await tail.append(frame(one, revision), true, never).catch((error: unknown) => error));
  }
  assert.equal((errors[0] as NodeJS.ErrnoException).code, 'ENOSPC');
  assert.equal(errors[1], errors[0], 'it must not have been tried again');
});
