/**
 * One session back from its folder: the newest good checkpoint, and a revision beyond all that may have been given out.
 * What cannot be read is set aside and reported, and costs no more than it must.
 */
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { Session } from '../session/session.ts';
import { CheckpointFolder, type Damage } from './checkpoint-folder.ts';
import { HeldSession } from './held-session.ts';
import {
  readRecord,
  recordFile,
  removeRecord,
  revisionsReserved,
  type SessionRecord,
  writeRecord,
} from './session-record.ts';

export interface SessionFolder {
  readonly name: string;
  readonly path: string;
  /** Where damaged files go. */
  readonly aside: string;
  readonly onDamage: (damage: Damage) => void;
}

export function openCheckpoints({ name, path, aside, onDamage }: SessionFolder): Promise<CheckpointFolder> {
  return CheckpointFolder.open(path, aside, name, onDamage);
}

/** `undefined` where the folder holds no live session, or none that can be read any more. */
export async function recoverSession(folder: SessionFolder): Promise<HeldSession | undefined> {
  const { name, path, onDamage } = folder;
  const record = await readOrMend(folder);
  if (record === undefined) return undefined;
  const checkpoints = await openCheckpoints(folder);
  const loaded = await checkpoints.loadNewest(record.first_checkpoint);
  if (loaded === undefined) {
    await removeRecord(path);
    onDamage({ session: name, file: path, reason: 'none of its checkpoints can be read: the session is gone' });
    return undefined;
  }
  const { description, contents } = loaded;
  const revision = Math.max(description.revision, record.revision_limit);
  const session = new Session(name, description.createdAt, contents, revision);
  const next = { ...record, revision_limit: revision + revisionsReserved };
  await writeRecord(path, next);
  return new HeldSession(session, checkpoints, path, next);
}

/** A record that cannot be read is set aside; the checkpoints alone say enough to go on. */
async function readOrMend({ name, path, aside, onDamage }: SessionFolder): Promise<SessionRecord | undefined> {
  try {
    return await readRecord(path);
  } catch (error) {
    if (error instanceof Error && 'syscall' in error) throw error;
    await mkdir(aside, { recursive: true });
    const file = join(aside, `${recordFile}.${Date.now()}`);
    await rename(join(path, recordFile), file);
    onDamage({ session: name, file, reason: error instanceof Error ? error.message : String(error) });
    return { format: 1, first_checkpoint: 1, revision_limit: revisionsReserved };
  }
}
