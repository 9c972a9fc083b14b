/**
 * lmdb under power cuts, as the journal uses it: every transaction that was awaited is there, one that was under way is there
 * whole or not at all, and what is there can be written on. That these checks can fail is seen with disks that lie.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { randomUnits } from '../support/floats.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { type DiskModel, SimulatedDisk, type Survival } from './materialize.ts';
import type { Entry } from './operation-log.ts';
import { Recorder } from './recorder.ts';

const cuts = Number(process.env.POWER_CUTS ?? 60);

interface Recording {
  readonly entries: readonly Entry[];
  /** What was done, and where the log ended then: numbers of transactions, and steps before the first one. */
  readonly done: readonly (readonly [number | string, number])[];
}

interface Found {
  readonly first?: number;
  readonly last?: number;
  readonly missing?: true;
  /** The file is one that lmdb has not finished to make. */
  readonly unfinished?: true;
  readonly error?: string;
}

interface Cut {
  readonly position: number;
  readonly survival: Survival;
}

async function runProgram(name: string, env: Record<string, string>, ...parameters: string[]) {
  const program = join(import.meta.dirname, 'programs', name);
  const child = spawn(process.execPath, [program, ...parameters], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 60_000,
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  const [code] = await once(child, 'close');
  return { code, lines: text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)])) };
}

async function recordWriter(recorder: Recorder): Promise<Recording> {
  const { code, lines } = await runProgram('lmdb-writer.mjs', recorder.env);
  assert.equal(code, 0);
  return { entries: await recorder.entries(), done: lines };
}

/** In order, so that one disk can go through them. */
function randomCuts({ entries, done }: Recording, count: number): Cut[] {
  const random = randomUnits(1);
  const from = entries.filter(({ end }) => end >= endOf(done, 'start'));
  return Array.from({ length: count }, (_, seed) => {
    // A third of them while the file is made.
    const among = seed % 3 === 0 ? 20 : from.length;
    const { end: position } = from[Math.floor(random() * among)] as Entry;
    return { position, survival: seed % 4 === 0 ? ('synced' as const) : { seed } };
  }).sort((a, b) => a.position - b.position);
}

function endOf(done: Recording['done'], step: number | string): number {
  return done.find(([each]) => each === step)?.[1] ?? Number.NaN;
}

/** What is wrong after these cuts. */
async function violations(t: TestContext, recording: Recording, at: readonly Cut[], model: DiskModel = {}) {
  const disk = await SimulatedDisk.load(undefined, model);
  const base = await temporaryFolder(t);
  const folders: string[] = [];
  for (const { position, survival } of at) {
    disk.advance(recording.entries, position);
    const folder = join(base, String(folders.length));
    await disk.writeTo(folder, survival);
    folders.push(folder);
  }
  const found: Found[] = [];
  while (found.length < at.length) {
    const { code, lines } = await runProgram('lmdb-reader.mjs', {}, ...folders.slice(found.length));
    found.push(...lines);
    if (found.length < at.length) found.push({ error: `the process ended, ${code}` });
  }
  return found.flatMap((each, index) => {
    const cut = at[index] as Cut;
    const wrong = judge(recording.done, cut.position, each, model);
    return wrong === undefined ? [] : [`${wrong}: ${JSON.stringify({ ...cut, ...each })}`];
  });
}

function judge(done: Recording['done'], position: number, found: Found, model: DiskModel): string | undefined {
  const { first = 0, last = 0, missing, unfinished, error } = found;
  if (error !== undefined) return error;
  const created = endOf(done, model.fileSyncKeepsName ? 'created' : 0);
  if (missing || unfinished) return position >= created ? 'the file is lost' : undefined;
  const acknowledged = done.reduce(
    (most, [step, end]) => (typeof step === 'number' && end <= position ? step : most),
    0,
  );
  if (last < acknowledged) return `transaction ${acknowledged} is lost`;
  if (last > acknowledged + 1) return `transaction ${last} has not begun`;
  return first === Math.min(last, Math.max(1, last - 39)) ? undefined : 'a transaction is there in part';
}

test('every transaction that lmdb has acknowledged survives a power cut', { timeout: 300_000 }, async (t) => {
  const recorder = await Recorder.create(t);
  if (recorder === undefined) return;
  const recording = await recordWriter(recorder);
  assert.equal(recording.done.at(-1)?.[0], 150);
  const at = randomCuts(recording, cuts);
  assert.deepEqual(await violations(t, recording, at), []);
  // Where a file's sync keeps its name, the folder's own is not needed.
  assert.deepEqual(await violations(t, recording, at.slice(0, 20), { fileSyncKeepsName: true }), []);

  const late = randomCuts(recording, 12)
    .filter(({ position }) => position > endOf(recording.done, 20))
    .map(({ position }) => ({ position, survival: 'synced' as const }));
  for (const lie of ['fdatasync', 'synced write', 'fsync'] as const) {
    const wrong = await violations(t, recording, late, { lies: [lie] });
    assert.ok(wrong.length > 0, `a disk that only says to have done ${lie} must be found out`);
    t.diagnostic(`${lie}: ${wrong[0]}`);
  }
});
