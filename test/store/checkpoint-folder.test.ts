/**
 * The checkpoints of a session in their folder: numbered upwards, found by id or as the latest, trimmed; and damaged ones
 * set aside, named and never deleted, while the newest good one is used.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { Session } from '../../src/session/session.ts';
import { takeSnapshot } from '../../src/session/snapshot.ts';
import { CheckpointFolder, type Damage } from '../../src/store/checkpoint-folder.ts';
import { applyStep, dense, sessionOf, valuesOf } from '../support/sessions.ts';

let root: string;
let path: string;
let aside: string;
let damages: Damage[];

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'checkpoint-folder-'));
});
after(() => rm(root, { recursive: true }));
beforeEach(async () => {
  const own = await mkdtemp(join(root, 'case-'));
  path = join(own, 'checkpoints');
  aside = join(own, 'aside');
  damages = [];
});

const openFolder = () => CheckpointFolder.open(path, aside, 's', (damage) => damages.push(damage));
const fileOf = (id: string) => join(path, `${id}.safetensors`);
const ids = (folder: CheckpointFolder) => folder.list().map(({ id }) => id);

async function write(folder: CheckpointFolder, session: Session, giveUp: () => Error | undefined = () => undefined) {
  const snapshot = takeSnapshot(session);
  try {
    return await folder.write(snapshot, { savedAt: '2026-03-04T05:06:07.890Z', journal: '00000000000000ff' }, giveUp);
  } finally {
    snapshot.end();
  }
}

/** A folder of `count` checkpoints, numbered from 1, each one step further. */
async function folderOf(count: number): Promise<CheckpointFolder> {
  const folder = await openFolder();
  const session = sessionOf({ w: { shape: [2], values: [1, 2] } });
  for (let k = 0; k < count; k++) {
    await applyStep(session, { w: dense([1, 1], [2]) });
    await write(folder, session);
  }
  return folder;
}

/** Changes the last byte, which is a value's. */
async function damage(id: string): Promise<Buffer> {
  const file = await readFile(fileOf(id));
  file[file.length - 1] = (file.at(-1) as number) ^ 1;
  await writeFile(fileOf(id), file);
  return file;
}

describe('a folder of checkpoints', () => {
  test('numbers them upwards, lists the newest first, and finds each by its id', async () => {
    const folder = await folderOf(3);
    assert.deepEqual(ids(folder), ['ckpt-000003', 'ckpt-000002', 'ckpt-000001']);
    assert.deepEqual(
      folder.list().map(({ iterations }) => iterations),
      [3, 2, 1],
    );
    assert.equal(folder.next, 4);
    assert.equal(folder.find('latest'), folder.newest);
    assert.equal(folder.find('ckpt-000002').iterations, 2);
    const { contents, description } = await folder.load('ckpt-000002');
    assert.deepEqual([contents.iterations, description.session], [2, 's']);
    for (const id of ['ckpt-000004', 'ckpt-2', '../x', '']) {
      assert.throws(() => folder.find(id), {
        code: 'checkpoint_not_found',
        message: /ckpt-000003, ckpt-000002, ckpt-000001/,
      });
    }
  });

  test('is the same after a restart', async () => {
    const folder = await folderOf(3);
    const again = await openFolder();
    assert.deepEqual(again.list(), folder.list());
    assert.equal(again.next, 4);
    assert.deepEqual(damages, []);
  });

  test('is empty at first', async () => {
    const folder = await openFolder();
    assert.deepEqual([folder.list(), folder.newest, folder.next], [[], undefined, 1]);
    assert.throws(() => folder.find('latest'), { code: 'checkpoint_not_found' });
    assert.equal(await folder.loadNewest(1), undefined);
  });

  test('keeps beside each file what `sha256sum --check` reads', async () => {
    const { newest } = await folderOf(1);
    const sidecar = await readFile(`${fileOf('ckpt-000001')}.sha256`, 'utf8');
    assert.equal(sidecar, `${newest?.sha256}  ckpt-000001.safetensors\n`);
  });

  test('gives any range of a file, which stays readable when it is removed meanwhile', async () => {
    const folder = await folderOf(1);
    const file = await readFile(fileOf('ckpt-000001'));
    const stream = await folder.read('latest', { start: 5, end: 20 });
    await folder.remove('ckpt-000001');
    assert.deepEqual(Buffer.concat(await stream.toArray()), file.subarray(5, 21));
    assert.deepEqual(await readdir(path), []);
  });

  test('keeps as many as it is told of those that are the session’s own, and numbers only rise', async () => {
    const folder = await folderOf(5);
    await folder.trim(2, 3);
    assert.deepEqual(ids(folder), ['ckpt-000005', 'ckpt-000004', 'ckpt-000002', 'ckpt-000001']);
    await folder.trim(9, 3);
    await folder.remove('ckpt-000005');
    await folder.trim(0, 1);
    assert.deepEqual([ids(folder), await readdir(path)], [[], []]);
    assert.equal((await write(folder, sessionOf({ w: { shape: [1] } }))).id, 'ckpt-000006');
  });

  test('numbers on past six digits', async () => {
    await folderOf(1);
    for (const suffix of ['', '.sha256']) {
      const file = await readFile(`${fileOf('ckpt-000001')}${suffix}`, suffix === '' ? null : 'utf8');
      const content = typeof file === 'string' ? file.replace('000001', '1000000') : file;
      await writeFile(`${fileOf('ckpt-1000000')}${suffix}`, content);
    }
    const folder = await openFolder();
    assert.deepEqual([ids(folder), folder.next], [['ckpt-1000000', 'ckpt-000001'], 1_000_001]);
  });

  test('has nothing of a checkpoint that was given up, by the process or with it', async () => {
    const folder = await folderOf(1);
    const reason = new Error('deleted');
    await assert.rejects(
      write(folder, sessionOf({ w: { shape: [1] } }), () => reason),
      (error) => error === reason,
    );
    assert.deepEqual((await readdir(path)).sort(), ['ckpt-000001.safetensors', 'ckpt-000001.safetensors.sha256']);
    assert.equal(folder.next, 3);
    await writeFile(`${fileOf('ckpt-000002')}.tmp`, 'half a file');
    await writeFile(`${fileOf('ckpt-000002')}.sha256.tmp`, 'half a line');
    assert.deepEqual(ids(await openFolder()), ['ckpt-000001']);
    assert.deepEqual((await readdir(path)).sort(), ['ckpt-000001.safetensors', 'ckpt-000001.safetensors.sha256']);
    assert.deepEqual(damages, []);
  });
});

describe('a damaged checkpoint', () => {
  test('is set aside as it is, with its SHA-256, and reported, when it is to be used', async () => {
    const folder = await folderOf(2);
    const file = await damage('ckpt-000002');
    await assert.rejects(folder.load('latest'), { code: 'storage_failed', message: /ckpt-000002 .*set aside/ });
    assert.deepEqual(ids(folder), ['ckpt-000001']);
    assert.deepEqual(await readFile(join(aside, 'ckpt-000002.safetensors')), file);
    assert.deepEqual((await readdir(aside)).sort(), ['ckpt-000002.safetensors', 'ckpt-000002.safetensors.sha256']);
    assert.deepEqual(
      damages.map(({ session, file }) => [session, file]),
      [['s', join(aside, 'ckpt-000002.safetensors')]],
    );
    assert.match(damages[0]?.reason as string, /SHA-256/);
    assert.equal(folder.next, 3);
  });

  test('gives way to the newest good one of the session’s own', async () => {
    const folder = await folderOf(4);
    await damage('ckpt-000004');
    await damage('ckpt-000003');
    assert.equal((await folder.loadNewest(1))?.contents.iterations, 2);
    assert.deepEqual(
      damages.map(({ file }) => basename(file)),
      ['ckpt-000004.safetensors', 'ckpt-000003.safetensors'],
    );
    assert.equal(await folder.loadNewest(3), undefined);
    assert.deepEqual(ids(folder), ['ckpt-000002', 'ckpt-000001']);
  });

  test('in its header, in its length or without its SHA-256 is set aside at the start, once', async () => {
    await folderOf(5);
    await writeFile(fileOf('ckpt-000001'), '');
    await writeFile(fileOf('ckpt-000002'), (await readFile(fileOf('ckpt-000002'))).subarray(0, -1));
    await rm(`${fileOf('ckpt-000003')}.sha256`);
    await writeFile(`${fileOf('ckpt-000005')}.sha256`, '');
    const folder = await openFolder();
    assert.deepEqual([ids(folder), folder.next], [['ckpt-000004'], 6]);
    assert.deepEqual(
      damages.map(({ file }) => basename(file, '.safetensors')),
      ['ckpt-000001', 'ckpt-000002', 'ckpt-000003', 'ckpt-000005'],
    );
    await openFolder();
    assert.equal(damages.length, 4);
  });

  test('never takes the place of another one that was set aside', async () => {
    for (let round = 0; round < 3; round++) {
      await folderOf(1);
      await writeFile(fileOf('ckpt-000001'), `damage ${round}`);
      await openFolder();
    }
    const kept = (await readdir(aside)).filter((name) => !name.endsWith('.sha256'));
    const contents = await Promise.all(kept.map((name) => readFile(join(aside, name), 'utf8')));
    assert.deepEqual(contents.sort(), ['damage 0', 'damage 1', 'damage 2']);
  });

  test('is noticed by any byte of its SHA-256 file that has changed, or is missing', async () => {
    await folderOf(1);
    const [file, sidecar] = [await readFile(fileOf('ckpt-000001')), await readFile(`${fileOf('ckpt-000001')}.sha256`)];
    const assertNoticed = async (bytes: Buffer, what: string) => {
      damages = [];
      await rm(aside, { recursive: true, force: true });
      await writeFile(fileOf('ckpt-000001'), file);
      await writeFile(`${fileOf('ckpt-000001')}.sha256`, bytes);
      assert.equal(await (await openFolder()).loadNewest(1), undefined, what);
      assert.equal(damages.length, 1, what);
    };
    for (let at = 0; at < sidecar.length; at++) {
      const flipped = Buffer.from(sidecar);
      flipped[at] = (sidecar[at] as number) ^ (1 << (at % 8));
      await assertNoticed(flipped, `byte ${at}`);
      await assertNoticed(sidecar.subarray(0, at), `${at} bytes`);
    }
  });

  test('may be missing altogether: it is reported, and the next older one is used', async () => {
    const folder = await folderOf(2);
    await rm(fileOf('ckpt-000002'));
    const loaded = await folder.loadNewest(1);
    assert.equal(loaded?.contents.iterations, 1);
    assert.equal(damages.length, 1);
    assert.deepEqual(ids(folder), ['ckpt-000001']);
  });
});

test('a session that is loaded is the one that was written', async () => {
  const folder = await openFolder();
  const session = sessionOf({ w: { shape: [2], values: [1, 2] } });
  await write(folder, session);
  await applyStep(session, { w: dense([1, 1], [2]) });
  session.replace((await folder.load('latest')).contents);
  assert.deepEqual(await valuesOf(session, 'w'), { w: [1, 2] });
  assert.equal(session.contents.iterations, 0);
});
