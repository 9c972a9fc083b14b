/**
 * A damaged file of the journal is replaced by a copy of what is sound in it. lmdb is never shown the damaged one, which is kept
 * aside as it is.
 */
import { copyFile, link, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from './files.ts';
import { fileName, openFile, removeFile, requireRoom, unfinished } from './journal-folder.ts';
import type { JournalPages, SoundEntry } from './journal-pages.ts';

/** Of an entry besides its value. */
const entryBytes = 256;
/** Put in one transaction. */
const bytesAtOnce = 8 * 1024 * 1024;
const entriesAtOnce = 10_000;

/** A second name for a file that nobody writes to any more or, where files cannot have two, a copy. */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EMLINK') throw error;
    await copyFile(from, to);
  }
}

/** In place of the file of that number there is another, of the next one, with its sound entries. */
export async function replaceBySound(folder: string, number: number, pages: JournalPages): Promise<void> {
  await copySound(folder, pages);
  await rename(join(folder, unfinished), join(folder, fileName(number + 1)));
  await syncFolder(folder);
  await removeFile(folder, number);
  await syncFolder(folder);
}

async function copySound(folder: string, pages: JournalPages): Promise<void> {
  const path = join(folder, unfinished);
  for (const each of [path, `${path}-lock`]) await rm(each, { force: true });
  await requireRoom(folder, 0);
  const file = openFile(path, true);
  try {
    for (const batch of batches(pages.sound())) {
      const bytes = batch.reduce((sum, { value }) => sum + value.length + entryBytes, 0);
      await file.commit(() => {
        for (const entry of batch) file.putEntry(entry);
      }, bytes);
    }
    await file.commit(() => file.putFormat(), entryBytes);
  } finally {
    await file.close();
    await rm(`${path}-lock`, { force: true });
  }
}

function* batches(entries: Iterable<SoundEntry>): Generator<SoundEntry[]> {
  let batch: SoundEntry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    batch.push(entry);
    bytes += entry.value.length;
    if (bytes < bytesAtOnce && batch.length < entriesAtOnce) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}
