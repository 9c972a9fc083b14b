/** The files of the journal in their folder: found, made, opened, removed, and what their failures are for a client. */
import { copyFile, readdir, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Problem } from '../errors.ts';
import { makeFolder, storageProblem, syncFolder, writeFileDurably } from './files.ts';
import { JournalDamage, JournalFile } from './journal-file.ts';

export const unfinished = 'unfinished.tmp';
/** What a file must have room for to begin. */
const newFileBytes = 1024 * 1024;
/** What an entry without much data takes at most. */
export const smallBytes = 4_096;
/** For a file to begin in. A full disk is told here, since it must not be met by lmdb. */
export async function requireRoom(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize > bytes + newFileBytes) return;
  const error = new Error('ENOSPC: no space left on device, statfs');
  throw Object.assign(error, { code: 'ENOSPC', syscall: 'statfs' });
}

/** Throws where the disk takes nothing: it is asked by a file of ours, since what lmdb cannot write can end the process. */
export async function probe(folder: string): Promise<void> {
  const path = join(folder, 'probe.tmp');
  await writeFileDurably(path, 'probe');
  await rm(path, { force: true });
}

/** Whole, or not at all. */
export async function makeFile(folder: string): Promise<void> {
  await openFile(join(folder, unfinished), true).close();
  await rename(join(folder, unfinished), join(folder, fileName(1)));
  await rm(join(folder, `${unfinished}-lock`), { force: true });
}

/** ENOSPC and EDQUOT, which lmdb gives as numbers, and its own of a file that has grown as large as it can. */
const fullCodes: readonly unknown[] = [28, 122, -30_792];

export function fileName(number: number): string {
  return `${String(number).padStart(6, '0')}.mdb`;
}

/** Of the files in the folder, ascending. */
export async function journalNumbers(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .flatMap((name) => /^(\d{6,})\.mdb$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

export async function removeFile(folder: string, number: number): Promise<void> {
  for (const name of [fileName(number), `${fileName(number)}-lock`]) await rm(join(folder, name), { force: true });
}

/** The file of that number is put into the folder `aside` too, as it is now; where it lies there. */
export async function keepAside(
  folder: string,
  number: number,
  aside: string,
  put: (from: string, to: string) => Promise<void> = copyFile,
): Promise<string> {
  const kept = join(aside, `${fileName(number)}.${Date.now()}`);
  await makeFolder(aside);
  await put(join(folder, fileName(number)), kept);
  await syncFolder(aside);
  return kept;
}

export function openFile(path: string, make = false): JournalFile {
  try {
    return new JournalFile(path, { make });
  } catch (error) {
    if (error instanceof JournalDamage) throw error;
    throw new JournalDamage(`a journal must be a file that lmdb can open. It says: ${(error as Error).message}`);
  }
}

/** A failed transaction as the problem that it is for a client. */
export function journalProblem(error: unknown): Problem {
  const { code } = error as { code?: unknown };
  const known = storageProblem(error);
  if (known instanceof Problem) return known;
  if (fullCodes.includes(code)) {
    return new Problem('insufficient_storage', 'the disk must have room for the change. It is full', {
      cause: error,
      headers: { 'retry-after': '5' },
    });
  }
  return new Problem('storage_failed', `the disk must take the change. It failed: ${(error as Error).message}`, {
    cause: error,
    applied: 'unknown',
    headers: { 'retry-after': '5' },
  });
}
