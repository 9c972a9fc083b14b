/**
 * Starts over a damaged data folder, in a process of its own, since a damaged page of lmdb's can end the one that reads it.
 * The process takes trials, one a line, and says after each what came of it; one that died says nothing, and another process
 * goes on behind its trial.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Problem } from '../../src/errors.ts';
import type { Damage } from '../../src/store/checkpoint-folder.ts';
import type { HeldSession } from '../../src/store/held-session.ts';
import { Store } from '../../src/store/store.ts';
import { pageBytes } from './lmdb-pages.ts';
import { advance } from './stores.ts';
import { heldState, type PathState } from './training-path.ts';

/** What is done to one file of the folder: bits of bytes flipped, cut to a length, another text in its place, or removed. */
export interface Injury {
  readonly file: string;
  readonly flips?: readonly (readonly [at: number, bit: number])[];
  readonly cut?: number;
  readonly text?: string;
  readonly remove?: true;
}

export interface Trial {
  /** A folder as a crash left it; it is copied. */
  readonly folder: string;
  readonly injury: Injury;
}

export interface Outcome {
  readonly ready: boolean;
  readonly states: Readonly<Record<string, PathState>>;
  readonly damaged: readonly Damage[];
  /** Lines that it logged as errors. */
  readonly errors: readonly string[];
  /** Whether what was injured lies under `damaged/`: of flipped bits the page, else the whole file. */
  readonly isKept: boolean;
  /** After two more steps of each session, and again after a second start. */
  readonly after: Readonly<Record<string, PathState>>;
  readonly again: Readonly<Record<string, PathState>>;
  readonly damagedAgain: readonly Damage[];
}

export type Result = Outcome | { readonly died: string } | { readonly failed: string };

const silenceMs = 90_000;

/** The trials' results, in order. `entry`: this module as what node runs. */
export async function runTrials(entry: string, trials: readonly Trial[]): Promise<Result[]> {
  const results: Result[] = [];
  while (results.length < trials.length) {
    const left = trials.slice(results.length);
    const { came, end } = await runProcess(entry, left);
    results.push(...came);
    if (came.length < left.length) results.push({ died: end });
  }
  return results;
}

async function runProcess(entry: string, trials: readonly Trial[]): Promise<{ came: Result[]; end: string }> {
  const child: ChildProcessWithoutNullStreams = spawn(process.execPath, [entry], {
    env: { ...process.env, NODE_V8_COVERAGE: undefined },
  });
  const came: Result[] = [];
  let stderr = '';
  const silent = globalThis.setTimeout(() => child.kill('SIGKILL'), silenceMs);
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    silent.refresh();
    came.push(JSON.parse(line) as Result);
  });
  child.stdin.on('error', () => undefined).end(trials.map((trial) => `${JSON.stringify(trial)}\n`).join(''));
  return new Promise((resolve, reject) => {
    child.once('error', reject).once('close', (code, signal) => {
      clearTimeout(silent);
      resolve({ came, end: `${signal ?? code} ${stderr.slice(-500)}` });
    });
  });
}

async function tryOne({ folder, injury }: Trial): Promise<Outcome> {
  const own = await mkdtemp(join(tmpdir(), 'adamax-'));
  try {
    await cp(folder, own, { recursive: true, filter: (path) => !path.endsWith('.sock') });
    const injured = await injure(own, injury);
    const first = await open(own);
    const states = statesOf(first.store);
    const damaged = [...first.store.status.damaged];
    const { ready } = first.store.status;
    for (const held of first.store.list()) for (let step = 0; step < 2; step++) await push(held);
    const after = statesOf(first.store);
    await first.store.close();
    const isKept = await holds(await filesUnder(join(own, 'damaged')), injured, injury);
    const second = await open(own);
    const again = statesOf(second.store);
    const damagedAgain = [...second.store.status.damaged];
    await second.store.close();
    const { errors } = first;
    return { ready, states, damaged, errors, isKept, after, again, damagedAgain };
  } finally {
    await rm(own, { recursive: true, force: true });
  }
}

/** What the file then has, if it is there. */
async function injure(folder: string, { file, flips, cut, text, remove }: Injury): Promise<Buffer | undefined> {
  const path = join(folder, file);
  if (remove) {
    await rm(path);
    return undefined;
  }
  if (cut !== undefined) await truncate(path, cut);
  if (text !== undefined) await writeFile(path, text);
  if (flips !== undefined) {
    const bytes = await readFile(path);
    for (const [at, bit] of flips) bytes[at] = (bytes[at] as number) ^ (1 << bit);
    await writeFile(path, bytes);
  }
  return readFile(path);
}

async function open(dataDir: string): Promise<{ store: Store; errors: string[] }> {
  const errors: string[] = [];
  const ignore = () => undefined;
  const error = (fields: object, message: string) => errors.push(`${message} ${JSON.stringify(fields)}`);
  const config = { dataDir, memoryBytesMax: 1_000_000_000, threads: 0, keysMax: 100 };
  const store = await Store.open(config, { info: ignore, warn: ignore, error });
  await store.recover();
  return { store, errors };
}

function statesOf(store: Store): Record<string, PathState> {
  return Object.fromEntries(store.list().map((held) => [held.name, heldState(held)]));
}

async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function holds(files: readonly string[], bytes: Buffer | undefined, { flips }: Injury): Promise<boolean> {
  for (const path of files) {
    const kept = await readFile(path);
    if (bytes?.equals(kept)) return true;
    const isPageKept = ([at]: readonly [number, number]): boolean => {
      const page = at - (at % pageBytes);
      const whole = bytes?.subarray(page, page + pageBytes);
      return whole?.equals(kept.subarray(page, page + pageBytes)) ?? false;
    };
    if (flips?.every(isPageKept)) return true;
  }
  return false;
}

/** One step; where the disk takes none, the store finds its own way back. */
async function push(held: HeldSession): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await advance(held, 1);
      return;
    } catch (error) {
      if (attempt === 20 || !(error instanceof Problem && error.code === 'storage_failed')) throw error;
      await setTimeout(500);
    }
  }
}

async function main(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const result: Result = await tryOne(JSON.parse(line)).catch((error: Error) => ({ failed: String(error.stack) }));
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
