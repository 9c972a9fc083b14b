/** A session's state as a file outside the data folder: a checkpoint, from which a session can be created anywhere. */
import { open, rm } from 'node:fs/promises';
import { renameDurably } from '../journal/files.ts';
import type { Session } from '../session/session.ts';
import { takeSnapshot } from '../session/snapshot.ts';
import { type FileDigest, writeCheckpointFile } from './checkpoint-file.ts';

/** Takes the name, which must be free, before anything is written. Resolves to what gives it up. */
export async function takeName(path: string): Promise<() => Promise<void>> {
  try {
    await (await open(path, 'wx')).close();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === 'EEXIST' ? 'it exists already' : message;
    throw new Error(`FILE must be a new file that can be written. Received: ${path} (${reason})`, { cause: error });
  }
  return () => rm(path, { force: true });
}

/** Writes it under a name that was taken. */
export async function exportSession(session: Session, journal: string, path: string): Promise<FileDigest> {
  const temporary = `${path}.${process.pid}.tmp`;
  const snapshot = takeSnapshot(session);
  try {
    const note = { savedAt: new Date().toISOString(), journal };
    const digest = await writeCheckpointFile(temporary, snapshot, note, () => undefined);
    await renameDurably(temporary, path);
    return digest;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    snapshot.end();
  }
}
