/**
 * A damaged journal: the server comes up, each session is at one state of its path, at the last one or named as damaged, and
 * what was damaged is kept. Starts are made by a process of their own (damaged-start.ts), as JavaScript, since each takes another.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, symlink, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { decodeHead, type ReadHead } from '../../src/journal/record.ts';
import { tailPaths } from '../../src/journal/tail.ts';
import { crashedCopy } from '../support/crashed.ts';
import { type Injury, type Outcome, runTrials } from '../support/damaged-start.ts';
import { randomUnits } from '../support/floats.ts';
import { inUse, pageBytes } from '../support/lmdb-pages.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { advance, createOnPath, openStore } from '../support/stores.ts';
import { pathAt } from '../support/training-path.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const seed = Number(process.env.DAMAGE_SEED ?? 1);
const flips = Number(process.env.DAMAGE_FLIPS ?? 60);
const journal = 'journal/000001.mdb';
/** Iterations of each session, all acknowledged under `always`. */
const full = { a: 7, b: 9, c: 2 };
type Name = keyof typeof full;
const names = Object.keys(full) as Name[];

const build = await temporaryFolder({ after });
const entry = join(build, 'test/support/damaged-start.js');
await symlink(join(root, 'node_modules'), join(build, 'node_modules'));
const tsc = join(root, 'node_modules/.bin/tsc');
await promisify(execFile)(tsc, ['-p', 'tsconfig.test.json', '--noEmit', 'false', '--noCheck', '--outDir', build], {
  cwd: root,
});

const folder = await prepare();
const file = await readFile(join(folder, journal));

/** Three sessions with records behind their newest checkpoints; `c` has none there. As a crash leaves them. */
async function prepare(): Promise<string> {
  const own = await temporaryFolder({ after });
  const { store } = await openStore({ after }, own);
  const [a, b, c] = [
    await createOnPath(store, 'a', {}, 'always'),
    await createOnPath(store, 'b', {}, 'always'),
    await createOnPath(store, 'c', {}, 'always'),
  ];
  await advance(a, 3);
  await a.checkpoints.write();
  await advance(b, 4);
  await advance(c, 2);
  await b.checkpoints.write();
  await c.checkpoints.write();
  await advance(a, 4);
  await advance(b, 5);
  const copy = await crashedCopy({ after }, own);
  // The tail has the last records once more; here it is to be seen what the damage of lmdb's file costs by itself.
  for (const path of tailPaths(join(copy, 'journal'))) await truncate(path);
  return copy;
}

/** Everything that must hold whatever was damaged. `spared`: sessions whose part of the file was not touched. */
async function judge(injury: Injury, result: Awaited<ReturnType<typeof runTrials>>[number], spared: readonly Name[]) {
  const what = JSON.stringify(injury);
  assert.ok('ready' in result, `${what}: ${JSON.stringify(result)}`);
  const { ready, states, damaged, errors, after: later, again, damagedAgain, isKept } = result;
  assert.equal(ready, true, what);
  for (const name of names) {
    const state = states[name];
    assert.ok(state, `${what}: ${name} is gone`);
    const { iterations, digest } = state;
    assert.equal(digest, await pathAt(iterations), `${what}: ${name} is off its path`);
    const isNamed = damaged.some(({ session }) => session === name);
    if (!isNamed || spared.includes(name))
      assert.equal(iterations, full[name], `${what}: ${name} has lost steps, unnamed`);
    assert.equal(later[name]?.iterations, iterations + 2, `${what}: ${name} does not go on`);
    assert.equal(later[name]?.digest, await pathAt(iterations + 2), `${what}: ${name} goes off its path`);
    assert.deepEqual(again[name], later[name], `${what}: ${name} after another start`);
  }
  assert.deepEqual(damagedAgain, [], what);
  for (const { file: named } of damaged) {
    assert.ok(
      errors.some((line) => line.includes(named)),
      `${what}: ${named} is not in the log`,
    );
  }
  if (damaged.length > 0 && injury.remove === undefined) assert.ok(isKept, `${what}: what was damaged must be kept`);
}

async function tryAll(injuries: readonly Injury[], spared: (k: number) => readonly Name[]): Promise<Outcome[]> {
  const results = await runTrials(
    entry,
    injuries.map((injury) => ({ folder, injury })),
  );
  for (const [k, result] of results.entries()) await judge(injuries[k] as Injury, result, spared(k));
  return results as Outcome[];
}

/** Where the record of a step stands in the file, once or, in pages that are no longer used, several times. */
function recordsAt(iterations: number, previous: number): { at: number; head: ReadHead }[] {
  const found: { at: number; head: ReadHead }[] = [];
  for (let at = file.indexOf('AJ1g'); at >= 0; at = file.indexOf('AJ1g', at + 1)) {
    try {
      const head = decodeHead(file.subarray(at));
      if (head.iterations === iterations && head.previous === previous) found.push({ at, head });
    } catch {}
  }
  return found;
}

/** Of each field of a record's head, of its description and of its data. */
const fields = [0, 3, 4, 8, 16, 21, 24, 32, 40, 44, 52, 56, 60, 98, -3];

test('a bit of each part of a record, of all copies: it ends there, named, and the records before it stay', async () => {
  // Only `b` has an eighth step.
  const records = recordsAt(8, 7);
  assert.ok(records.length > 0, 'the record must be in the file');
  const injuries = fields.map((field) => {
    const flips = records.map(({ at, head }) => {
      const offset = field < 0 ? head.bytes + head.dataBytes + field : field;
      return [at + offset, 4] as const;
    });
    return { file: journal, flips };
  });
  const outcomes = await tryAll(injuries, () => ['a', 'c']);
  for (const [k, { states, damaged }] of outcomes.entries()) {
    assert.equal(states.b?.iterations, 7, `field ${fields[k]}`);
    assert.deepEqual(
      damaged.map(({ session, reason }) => [session, /its changes after iteration 7 are lost/.test(reason)]),
      [['b', true]],
    );
  }
});

test('the record that the newest checkpoint was written at: it costs nothing, or is named', async () => {
  // Of `a` and of `c`; `b` has them before its newest checkpoint.
  const records = recordsAt(3, 2).concat(recordsAt(2, 1));
  const injuries = [4, 56, 60, -3].map((field) => {
    const flips = records.map(({ at, head }) => {
      return [at + (field < 0 ? head.bytes + head.dataBytes + field : field), 4] as const;
    });
    return { file: journal, flips };
  });
  for (const { states } of await tryAll(injuries, () => [])) {
    assert.deepEqual(
      names.map((name) => states[name]?.iterations),
      names.map((name) => full[name]),
    );
  }
});

test(`values of entries anywhere in the pages in use (seed ${seed})`, { timeout: 300_000 }, async () => {
  const random = randomUnits(seed);
  const { values } = inUse(file);
  const injuries = Array.from({ length: 24 }, (): Injury => {
    const { at, bytes } = values[Math.floor(random() * values.length)] as (typeof values)[number];
    return { file: journal, flips: [[at + Math.floor(random() * bytes), Math.floor(random() * 8)]] };
  });
  await tryAll(injuries, () => []);
});

test(`any byte that the pages in use have, headers and keys too (seed ${seed})`, { timeout: 3_600_000 }, async () => {
  const random = randomUnits(seed + 1);
  const { used } = inUse(file);
  const places = used.flatMap(({ at, bytes }) => Array.from({ length: bytes }, (_, k) => at + k));
  const injuries = Array.from({ length: flips }, (): Injury => {
    const at = places[Math.floor(random() * places.length)] as number;
    return { file: journal, flips: [[at, Math.floor(random() * 8)]] };
  });
  await tryAll(injuries, () => []);
});

test('cut at any length, emptied, overwritten or removed, it costs what the checkpoints do not have, named', async () => {
  const lengths = [0, 1, 100, 4_096, 8_191, 8_192, 8_193, file.length >> 1, file.length - pageBytes, file.length - 1];
  const injuries: Injury[] = [
    ...lengths.map((cut) => ({ file: journal, cut })),
    { file: journal, text: 'garbage' },
    { file: journal, text: 'x'.repeat(20_000) },
    { file: journal, remove: true },
  ];
  const least = { a: 3, b: 4, c: 2 };
  for (const [k, { states }] of (await tryAll(injuries, () => ['c'])).entries()) {
    for (const name of names) {
      assert.ok((states[name]?.iterations ?? -1) >= least[name], `${JSON.stringify(injuries[k])}: ${name}`);
    }
  }
});
