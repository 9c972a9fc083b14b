/**
 * `session.json`, whose presence makes a folder of checkpoints a live session. It says which checkpoints belong to it
 * (older ones were kept from a former session of that name), what it is in the journal, and up to which revision it may have
 * gone: where a crash can lose steps, no revision may come again after it with other contents.
 */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { removeDurably, writeFileDurably } from '../journal/files.ts';

export interface SessionRecord {
  /** Records of format 1 have no `journal`. */
  readonly format: 2;
  /** What the session is in the journal: 8 bytes, hexadecimal. */
  readonly journal: string;
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
  const read = await readRecordAsItIs(folder);
  // What goes into the journal from now on must be found again.
  if (read?.isOlder) await writeRecord(folder, read.record);
  return read?.record;
}

/** `isOlder`: it has no `journal`, and this one was drawn now. */
export async function readRecordAsItIs(
  folder: string,
): Promise<{ record: SessionRecord; isOlder: boolean } | undefined> {
  let text: string;
  try {
    text = await readFile(join(folder, recordFile), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const given = JSON.parse(text) as (Omit<SessionRecord, 'format'> & { format: number }) | null;
  const record = given?.format === 1 ? { ...given, format: 2, journal: newJournalId() } : given;
  if (record?.format !== 2) throw new Error(`${recordFile} must have format 1 or 2. Received: ${record?.format}`);
  for (const member of ['first_checkpoint', 'revision_limit'] as const) {
    if (!Number.isSafeInteger(record[member]))
      throw new Error(`${recordFile} must have an integer ${member}. Received: ${record[member]}`);
  }
  if (!/^[0-9a-f]{16}$/.test(record.journal))
    throw new Error(`${recordFile} must have 16 hexadecimal digits as journal. Received: ${record.journal}`);
  return { record: { ...record, format: 2 }, isOlder: given?.format === 1 };
}

/** Distinct, so that a later session of the same name has nothing of the former one's. */
export function newJournalId(): string {
  return randomBytes(8).toString('hex');
}

export async function writeRecord(folder: string, record: SessionRecord): Promise<void> {
  await writeFileDurably(join(folder, recordFile), `${JSON.stringify(record)}\n`);
}

export async function removeRecord(folder: string): Promise<void> {
  await removeDurably(join(folder, recordFile));
}
