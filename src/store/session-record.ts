/**
 * `session.json`, whose presence makes a folder of checkpoints a live session. It says which checkpoints belong to it
 * (older ones were kept from a former session of that name) and up to which revision it may have gone: a crash can lose
 * steps, but after it no revision may come again with other contents.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { removeDurably, writeFileDurably } from './files.ts';

export interface SessionRecord {
  readonly format: 1;
  /** The number of the session's first checkpoint. */
  readonly first_checkpoint: number;
  /** No revision beyond this one has been given out. */
  readonly revision_limit: number;
}

export const recordFile = 'session.json';

/** Revisions are reserved so many at a time, so that one small write serves them all. */
export const revisionsReserved = 1_000_000;

/** How far a session whose record is lost may have gone beyond its checkpoint: at 1,000 steps a second, 34 years. */
export const revisionsUnknown = 2 ** 40;

export async function readRecord(folder: string): Promise<SessionRecord | undefined> {
  let text: string;
  try {
    text = await readFile(join(folder, recordFile), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const record = JSON.parse(text) as SessionRecord | null;
  if (record?.format !== 1) throw new Error(`${recordFile} must have format 1. Received: ${record?.format}`);
  for (const member of ['first_checkpoint', 'revision_limit'] as const) {
    if (!Number.isSafeInteger(record[member]))
      throw new Error(`${recordFile} must have an integer ${member}. Received: ${record[member]}`);
  }
  return record;
}

export async function writeRecord(folder: string, record: SessionRecord): Promise<void> {
  await writeFileDurably(join(folder, recordFile), `${JSON.stringify(record)}\n`);
}

export async function removeRecord(folder: string): Promise<void> {
  await removeDurably(join(folder, recordFile));
}
