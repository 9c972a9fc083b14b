/**
 * The journal written anew, entry by entry, without the free pages that removed entries have left. The new file takes the old
 * one's place when it is whole, on the disk, and says the same.
 */
import { rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '../journal/files.ts';
import type { JournalFile } from '../journal/journal-file.ts';
import { fileName, openFile, removeFile, requireRoom, unfinished } from '../journal/journal-folder.ts';
import type { JournalReader } from './journal-reader.ts';

/** Of an entry besides its value. */
const entryBytes = 256;

export interface Compacted {
  readonly entries: number;
  readonly before: number;
  readonly after: number;
}

/** `journal`: with nothing wrong in it, and used by nobody else. It is closed afterwards. */
export async function compactJournal(journal: JournalReader): Promise<Compacted> {
  const { folder, number = 1, path, file: old } = journal;
  if (old === undefined) throw new Error(`there must be a journal to be compacted. There is none in ${folder}`);
  const temporary = join(folder, unfinished);
  const clear = async (): Promise<void> => {
    for (const each of [temporary, `${temporary}-lock`]) await rm(each, { force: true });
  };
  const { size: before } = await stat(path);
  await clear();
  try {
    await requireRoom(folder, 0);
    const entries = await copy(old, openFile(temporary, true));
    await requireSame(old, openFile(temporary));
    await journal.close();
    const { size: after } = await stat(temporary);
    await rename(temporary, join(folder, fileName(number + 1)));
    await syncFolder(folder);
    await removeFile(folder, number);
    await syncFolder(folder);
    return { entries, before, after };
  } finally {
    await clear();
  }
}

/** Some megabytes in each transaction. */
async function copy(from: JournalFile, to: JournalFile): Promise<number> {
  let entries = 0;
  try {
    for (let batch = from.entries(); batch.length > 0; batch = from.entries(batch.at(-1)?.key)) {
      const bytes = batch.reduce((sum, { value }) => sum + value.length + entryBytes, 0);
      await to.commit(() => {
        for (const entry of batch) to.putEntry(entry);
      }, bytes);
      entries += batch.length;
    }
    await to.commit(() => to.putFormat(), entryBytes);
    return entries;
  } finally {
    await to.close();
  }
}

/** Reads both from the beginning. Throws where they differ. */
async function requireSame(one: JournalFile, other: JournalFile): Promise<void> {
  try {
    for (let batch = one.entries(), copied = other.entries(); ; ) {
      const isSame = batch.every(({ key, value }, index) => {
        const entry = copied[index];
        return entry?.key.equals(key) && entry.value.equals(value);
      });
      if (!isSame || batch.length !== copied.length)
        throw new Error('the copy must say what the journal says. It differs');
      const last = batch.at(-1)?.key;
      if (last === undefined) return;
      batch = one.entries(last);
      copied = other.entries(last);
    }
  } finally {
    await other.close();
  }
}
