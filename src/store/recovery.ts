/**
 * A session on the way from its folder into memory, new or recovered: the newest good checkpoint, and a revision beyond
 * all that may have been given out. What cannot be read is set aside and reported, and costs no more than it must.
 */
import { mkdir, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Executor } from '../kernel/threads.ts';
import { Session } from '../session/session.ts';
import { CheckpointFolder, type Damage } from './checkpoint-folder.ts';
import { Checkpointer } from './checkpointer.ts';
import { removeUnfinished, renameDurably, syncFolder } from './files.ts';
import { HeldSession } from './held-session.ts';
import { Revisions } from './revisions.ts';
import {
  readRecord,
  recordFile,
  removeRecord,
  revisionsReserved,
  revisionsUnknown,
  type SessionRecord,
  writeRecord,
} from './session-record.ts';

export interface SessionFolder {
  readonly name: string;
  readonly path: string;
  /** Where damaged files go. */
  readonly aside: string;
  readonly onDamage: (damage: Damage) => void;
  readonly onStep: () => void;
  /** Does what is heavy. */
  readonly executor: Executor;
}

/** A new session is live, and on the disk, when its record is; before that its folder is nobody's. */
export async function settle(folder: SessionFolder, session: Session): Promise<HeldSession> {
  const checkpoints = await openCheckpoints(folder);
  const record: SessionRecord = { format: 1, first_checkpoint: checkpoints.next, revision_limit: revisionsReserved };
  const checkpointer = new Checkpointer(session, checkpoints, record.first_checkpoint, session.revision);
  const held = new HeldSession(session, checkpointer, new Revisions(folder.path, record), folder.onStep);
  try {
    await syncFolder(dirname(folder.path));
    await held.checkpoint();
    await writeRecord(folder.path, record);
    return held;
  } catch (error) {
    const ignore = () => undefined;
    await removeRecord(folder.path).catch(ignore);
    await checkpoints.trim(0, record.first_checkpoint).catch(ignore);
    // Stays where a former session's checkpoints are kept.
    await rmdir(folder.path).catch(ignore);
    throw error;
  }
}

/** `undefined` where the folder holds no live session, or none that can be read any more. */
export async function recover(folder: SessionFolder): Promise<HeldSession | undefined> {
  const { name, path, onDamage } = folder;
  const record = await readOrMend(folder);
  if (record === undefined) {
    await removeUnfinished(path);
    return undefined;
  }
  const checkpoints = await openCheckpoints(folder);
  const loaded = await checkpoints.loadNewest(record.first_checkpoint);
  if (loaded === undefined) {
    const file = await setRecordAside(folder);
    onDamage({ session: name, file, reason: 'none of its checkpoints can be read: the session is gone' });
    return undefined;
  }
  const { description, contents } = loaded;
  const revision = nextRevision(record, description.revision);
  const revisions = new Revisions(path, { ...record, revision_limit: revision });
  // At once, so that a second crash does not bring this revision again. If the disk is full, the first change asks anew.
  if (revision > description.revision) await revisions.reserve(revision)?.catch(() => undefined);
  const session = new Session(name, description.createdAt, contents, revision, folder.executor);
  const checkpointer = new Checkpointer(session, checkpoints, record.first_checkpoint, description.revision);
  return new HeldSession(session, checkpointer, revisions, folder.onStep);
}

/** The one that the checkpoint has if nothing came after it, else one that has never been given out. */
function nextRevision({ revision_limit }: SessionRecord, saved: number): number {
  if (saved === revision_limit) return saved;
  const limit = Number.isFinite(revision_limit) ? revision_limit : saved + revisionsUnknown;
  return Math.max(saved, limit) + 1;
}

function openCheckpoints({ name, path, aside, onDamage }: SessionFolder): Promise<CheckpointFolder> {
  return CheckpointFolder.open(path, aside, name, onDamage);
}

/** A record that cannot be read is set aside; the checkpoints alone say enough to go on. */
async function readOrMend(folder: SessionFolder): Promise<SessionRecord | undefined> {
  try {
    return await readRecord(folder.path);
  } catch (error) {
    if (error instanceof Error && 'syscall' in error) throw error;
    const file = await setRecordAside(folder);
    folder.onDamage({ session: folder.name, file, reason: error instanceof Error ? error.message : String(error) });
    return { format: 1, first_checkpoint: 1, revision_limit: Number.POSITIVE_INFINITY };
  }
}

async function setRecordAside({ path, aside }: SessionFolder): Promise<string> {
  await mkdir(aside, { recursive: true });
  const file = join(aside, `${recordFile}.${Date.now()}`);
  await renameDurably(join(path, recordFile), file);
  return file;
}
