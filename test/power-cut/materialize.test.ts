/** The simulated disk, held against what small programs do: nothing that they do is missed, and what is not synced is lost. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { temporaryFolder } from '../support/server-process.ts';
import { contentsOf } from './contents.ts';
import { type DiskModel, SimulatedDisk, type Survival } from './materialize.ts';
import type { Entry } from './operation-log.ts';
import { Recorder } from './recorder.ts';
import { SimulatedFile } from './simulated-file.ts';

const run = promisify(execFile);

async function record(recorder: Recorder, program: string, env: Record<string, string> = {}): Promise<string> {
  const file = join(import.meta.dirname, 'programs', program);
  const { stdout } = await run(process.execPath, [file], { env: { ...process.env, ...recorder.env, ...env } });
  return stdout;
}

/** What the disk would have at a position. */
async function survives(
  t: TestContext,
  entries: readonly Entry[],
  position: number,
  survival: Survival,
  model: DiskModel = {},
): Promise<Record<string, string | null>> {
  const disk = await SimulatedDisk.load(undefined, model);
  disk.advance(entries, position);
  const target = join(await temporaryFolder(t), 'disk');
  await disk.writeTo(target, survival);
  return contentsOf(target);
}

test('with everything that was done, the disk has what the folder has: the log misses nothing', async (t) => {
  const recorder = await Recorder.create(t);
  if (recorder === undefined) return;
  await record(recorder, 'many-calls.mjs');
  const entries = await recorder.entries();
  const actual = await contentsOf(recorder.folder);
  assert.equal(Object.keys(actual).length, 12 * 9, Object.keys(actual).join());
  assert.deepEqual(await survives(t, entries, recorder.position(), 'everything'), actual);
});

test('what cannot be recorded is refused', async (t) => {
  const recorder = await Recorder.create(t);
  if (recorder === undefined) return;
  await record(recorder, 'many-calls.mjs', { COPIES: 'yes' });
  await assert.rejects(recorder.entries(), /cannot be replayed: unsupported (sendfile64|copy_file_range)/);
});

test('content takes a sync of the file, a name one of the folder', async (t) => {
  const recorder = await Recorder.create(t);
  if (recorder === undefined) return;
  const lines = (await record(recorder, 'steps.mjs')).trim().split('\n');
  const steps = new Map<string, number>(lines.map((line) => JSON.parse(line)));
  const entries = await recorder.entries();
  const at = (step: string, survival: Survival = 'synced', model: DiskModel = {}) =>
    survives(t, entries, steps.get(step) ?? Number.NaN, survival, model);

  const first = 'first content';
  const more = 'first content, more';
  const synced: Record<string, object> = {
    written: {},
    synced: {},
    renamed: {},
    named: { a: first },
    appended: { a: first },
    'appended and synced': { a: more },
    'written with O_DSYNC': { a: 'First content, more' },
    cut: { a: 'First content, more' },
    'cut and synced': { a: 'First' },
    removed: { a: 'First' },
    'removed for good': {},
  };
  assert.deepEqual([...steps.keys()], Object.keys(synced));
  for (const [step, expected] of Object.entries(synced)) assert.deepEqual(await at(step), expected, step);

  // Where a file's sync keeps its name, too, and where syncs do nothing.
  const fileSyncKeepsName = true;
  assert.deepEqual(await at('written', 'synced', { fileSyncKeepsName }), {});
  assert.deepEqual(await at('renamed', 'synced', { fileSyncKeepsName }), { 'a.tmp': first });
  assert.deepEqual(await at('appended and synced', 'synced', { lies: ['fdatasync'] }), { a: first });
  assert.deepEqual(await at('named', 'synced', { lies: ['fsync'] }), {});
  assert.deepEqual(await at('written with O_DSYNC', 'synced', { lies: ['synced write'] }), { a: more });

  const outcomes = async (step: string) => {
    const found = new Set<string>();
    for (let seed = 0; seed < 300; seed++) found.add(JSON.stringify(await at(step, { seed })));
    return [...found].sort();
  };
  const whole = (name: string, content: string) => JSON.stringify({ [name]: content });
  // By chance the size may have come to the disk without the content, never the other way round.
  const unwritten = ['', '\0'.repeat(6), '\0'.repeat(13), 'first ', `first ${'\0'.repeat(7)}`, first];
  assert.deepEqual(await outcomes('written'), ['{}', ...unwritten.map((content) => whole('a.tmp', content))].sort());
  assert.deepEqual(await outcomes('renamed'), ['{}', whole('a.tmp', first), whole('a', first)].sort());
  assert.deepEqual(await outcomes('named'), [whole('a', first)]);
  assert.deepEqual(await outcomes('removed'), ['{}', whole('a', 'First')].sort());
});

test('a sync covers what was written before it was called, not before it returned', () => {
  const file = new SimulatedFile();
  file.write(10, 0, Buffer.from('before'));
  file.write(30, 0, Buffer.from('BEHIND it'));
  file.sync(20);
  const text = (survivors: number) => file.contents((pending) => Math.min(pending, survivors)).toString();
  assert.deepEqual([text(0), text(1)], ['before', 'BEHIND it']);
});

test('sectors are written in any order, and those of a page together where pages are', () => {
  const file = new SimulatedFile(Buffer.alloc(8192, 'o'));
  file.write(1, 0, Buffer.alloc(8192, 'n'));
  const kinds = (sectors: number) => {
    const found = new Set<string>();
    for (let bits = 0; bits < 1 << 16; bits += 37) {
      let drawn = 0;
      const text = file.contents(() => (bits >> drawn++) & 1, sectors).toString();
      found.add(text.replace(/(.)\1{511}/g, '$1'));
    }
    return found;
  };
  assert.ok(kinds(1).has('noonnnooonnononn') || kinds(1).size > 1000);
  assert.deepEqual(
    [...kinds(8)].sort(),
    ['oooooooooooooooo', 'nnnnnnnnnnnnnnnn', 'oooooooonnnnnnnn', 'nnnnnnnnoooooooo'].sort(),
  );
});
