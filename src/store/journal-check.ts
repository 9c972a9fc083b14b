/**
 * Whether lmdb can read the journal. A damaged page can end the process that reads it, so this is a process of its own, which
 * reads what a recovery will: it is told which sessions, each behind which revision, and says line by line what it has read.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { JournalDamage, JournalFile } from './journal-file.ts';

/** A session by its id, in hexadecimal, and the revision behind which its records are read. */
export type Wanted = readonly [session: string, after: number];

/** Resolves to what cannot be read, by session: why. Throws an error where nothing can be. */
export async function checkJournal(path: string, wanted: readonly Wanted[]): Promise<Map<string, string>> {
  const unreadable = new Map<string, string>();
  let left = wanted;
  do {
    const { read, reason } = await readElsewhere(path, left);
    for (const [session, problem] of read) if (problem !== null) unreadable.set(session, problem);
    if (reason !== undefined && !reason.begun) throw new Error(reason.text);
    left = left.slice(read.length);
    const [culprit] = left;
    if (culprit === undefined) break;
    unreadable.set(culprit[0], `lmdb must be able to read its records. ${reason?.text ?? 'It did not'}`);
    left = left.slice(1);
  } while (left.length > 0);
  return unreadable;
}

interface Elsewhere {
  readonly read: [session: string, problem: string | null][];
  readonly reason: { readonly text: string; readonly begun: boolean } | undefined;
}

/** A line of what is said. */
type Said = { begun: true } | { failed: string } | { read: Elsewhere['read'][number] } | { alive: true };

/** Longer than any batch of records takes to be read. */
const silenceMs = 30_000;
/** Records after which a sign of life is given; it also ends a process whose parent is gone. */
const recordsPerSign = 1_000;

function readElsewhere(path: string, wanted: readonly Wanted[]): Promise<Elsewhere> {
  const file = fileURLToPath(import.meta.url);
  const child = spawn(process.execPath, [...process.execArgv, file, path], { stdio: ['pipe', 'pipe', 'ignore'] });
  child.stdin.on('error', () => undefined).end(JSON.stringify(wanted));
  const read: Elsewhere['read'] = [];
  let begun = false;
  let failed: string | undefined;
  // Where the process does not end at a damaged page, it stands still.
  const stalled = setTimeout(() => child.kill('SIGKILL'), silenceMs);
  createInterface({ input: child.stdout }).on('line', (line) => {
    stalled.refresh();
    const said = JSON.parse(line) as Said;
    if ('begun' in said) begun = true;
    else if ('failed' in said) failed = said.failed;
    else if ('read' in said) read.push(said.read);
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject).once('close', (code, signal) => {
      clearTimeout(stalled);
      const text = failed ?? `It ended with ${signal ?? code}`;
      resolve({ read, reason: begun && read.length === wanted.length ? undefined : { text, begun } });
    });
  });
}

function say(what: Said): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

async function main(path: string): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  const wanted = JSON.parse(Buffer.concat(chunks).toString()) as Wanted[];
  try {
    const file = new JournalFile(path);
    file.sessions();
    say({ begun: true });
    for (const [session, after] of wanted) say({ read: [session, tryReading(file, session, after)] });
  } catch (error) {
    say({ failed: (error as Error).message });
  }
}

/** What lmdb says against it; damage within records is noticed by whoever applies them. */
function tryReading(file: JournalFile, session: string, after: number): string | null {
  try {
    const id = Buffer.from(session, 'hex');
    let records = 0;
    for (const _record of file.records(id, after)) if (++records % recordsPerSign === 0) say({ alive: true });
    for (const _key of file.keys(id));
    return null;
  } catch (error) {
    return error instanceof JournalDamage ? null : (error as Error).message;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv[2] as string);
