/**
 * A session on the way from the disk into memory: the newest good checkpoint and what the journal holds behind it. What cannot
 * be read is set aside and reported, and costs no more than it must.
 */

import { join } from 'node:path';
import { Session } from '../session/session.ts';
import { ChangeLog } from './change-log.ts';
import { CheckpointFolder, type LoadedCheckpoint } from './checkpoint-folder.ts';
import { Checkpointer } from './checkpointer.ts';
import { makeFolder, removeUnfinished, renameDurably } from './files.ts';
import { HeldSession } from './held-session.ts';
import { decodeEntry } from './idempotency.ts';
import type { Journal } from './journal.ts';
import { JournalDamage } from './journal-file.ts';
import { LiveSession } from './live-session.ts';
import { type Replayed, replay } from './replay.ts';
import { Revisions } from './revisions.ts';
import type { SessionFolder } from './session-folder.ts';
import { SessionJournal } from './session-journal.ts';
import { newJournalId, readRecord, recordFile, revisionsUnknown, type SessionRecord } from './session-record.ts';

/** A session whose folder has been looked at, and nothing else yet. */
export interface FoundSession {
  readonly folder: SessionFolder;
  readonly record: SessionRecord;
  readonly checkpoints: CheckpointFolder;
  /** Whether the journal may hold something behind the newest checkpoint: after a clean shutdown it does not. */
  readonly wasOpen: boolean;
}

/** `undefined` where the folder holds no live session. */
export async function findSession(folder: SessionFolder): Promise<FoundSession | undefined> {
  const record = await readOrMend(folder);
  if (record === undefined) {
    await removeUnfinished(folder.path);
    return undefined;
  }
  const checkpoints = await openCheckpoints(folder);
  const [newest] = checkpoints.since(record.first_checkpoint);
  return { folder, record, checkpoints, wasOpen: newest?.revision !== record.revision_limit };
}

/**
 * Brings a session back; `undefined` where none of its checkpoints can be read. `unreadable`: why its part of the journal must not
 * be touched, if that is so. `progress` is told of every change that is applied again.
 */
export async function recover(
  { folder, record, checkpoints }: FoundSession,
  journal: Journal,
  unreadable: string | undefined,
  progress: () => void,
): Promise<{ held: HeldSession; replayed: Replayed } | undefined> {
  const loaded = await checkpoints.loadNewest(record.first_checkpoint);
  if (loaded === undefined) {
    const file = await setRecordAside(folder);
    folder.onDamage({ session: folder.name, file, reason: 'none of its checkpoints can be read: the session is gone' });
    return undefined;
  }
  const { description } = loaded;
  const session = sessionOf(folder, loaded);
  const sessionJournal = new SessionJournal(journal, Buffer.from(record.journal, 'hex'), description.revision);
  const replayed =
    unreadable === undefined
      ? await replay(session, sessionJournal, checkpoints, undefined, progress)
      : unread(unreadable);
  if (replayed.damage !== undefined) reportLoss(folder, journal, session, replayed.damage);
  const held = await goOn({
    folder,
    record,
    checkpoints,
    session,
    sessionJournal,
    saved: description.revision,
    replayed,
  });
  return { held, replayed };
}

interface Arrived {
  readonly folder: SessionFolder;
  readonly record: SessionRecord;
  readonly checkpoints: CheckpointFolder;
  readonly session: Session;
  readonly sessionJournal: SessionJournal;
  /** The revision that the checkpoint has. */
  readonly saved: number;
  readonly replayed: Replayed;
}

async function goOn({
  folder,
  record,
  checkpoints,
  session,
  sessionJournal,
  saved,
  replayed,
}: Arrived): Promise<HeldSession> {
  const { durability } = session.contents.settings;
  const reached = session.revision;
  const damaged = replayed.damage !== undefined;
  // Damaged records are not led on from: they go aside with the whole journal, when all sessions are back.
  if (replayed.last !== undefined) sessionJournal.goOnBehind(replayed.last);
  else if (!damaged) sessionJournal.goOnFrom(reached);
  const isKnown = Number.isFinite(record.revision_limit);
  const isExact = isKnown && (reached === record.revision_limit || (durability === 'always' && !damaged));
  const revision = isExact ? reached : revisionBehind(record, reached);
  const revisions = new Revisions(folder.path, {
    ...record,
    revision_limit: isExact ? Math.max(record.revision_limit, revision) : revision,
  });
  // At once, so that a second crash does not bring this revision again. If the disk is full, the first change asks anew.
  if (!isExact) await revisions.reserveNow(revision).catch(() => undefined);
  const log = new ChangeLog(sessionJournal, durability !== 'checkpoint' && !damaged);
  const live = new LiveSession(session, log, folder.keys, revisions);
  if (!damaged) await takeKeys(live, folder, reached);
  const place = { previous: reached, revision, iterations: session.contents.iterations };
  if (!isExact) {
    if (log.level(durability) !== 'checkpoint')
      await (await log.append({ kind: 'resume' }, place, 'always', undefined)).committed;
    session.resumeAt(revision);
  }
  const checkpointer = new Checkpointer(live, checkpoints, record.first_checkpoint, saved);
  if (replayed.restored !== undefined) checkpointer.restoredFrom(replayed.restored.id, replayed.restored.revision);
  return new HeldSession(live, checkpointer, revisions, folder.onStep);
}

/** One that has never been given out. */
function revisionBehind({ revision_limit }: SessionRecord, reached: number): number {
  const limit = Number.isFinite(revision_limit) ? revision_limit : reached + revisionsUnknown;
  return Math.max(reached, limit) + 1;
}

/** The keys of changes that the session has; those of lost ones must be free again. */
async function takeKeys({ log }: LiveSession, folder: SessionFolder, reached: number): Promise<void> {
  for (const { number, value } of log.journal.readKeys()) {
    const entry = decodeEntry(value);
    if (entry !== undefined && entry.revision <= reached) folder.remember(entry);
    else await log.journal.forgetKey(number);
  }
}

function sessionOf({ name, executor }: SessionFolder, { description, contents }: LoadedCheckpoint): Session {
  return new Session(name, description.createdAt, contents, description.revision, executor);
}

function unread(reason: string): Replayed {
  return { changes: 0, last: undefined, restored: undefined, damage: new JournalDamage(reason) };
}

function reportLoss(
  folder: SessionFolder,
  journal: Journal,
  session: Session,
  { message, revision }: NonNullable<Replayed['damage']>,
): void {
  const where = revision === undefined ? '' : ` (record ${revision})`;
  const reason = `its changes after iteration ${session.contents.iterations} are lost: ${message}${where}`;
  folder.onDamage({ session: folder.name, file: journal.file.path, reason });
}

export function openCheckpoints({ name, path, aside, onDamage }: SessionFolder): Promise<CheckpointFolder> {
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
    return {
      format: 2,
      journal: await journalOf(folder),
      first_checkpoint: 1,
      revision_limit: Number.POSITIVE_INFINITY,
    };
  }
}

/** As a checkpoint knows it. */
async function journalOf(folder: SessionFolder): Promise<string> {
  return (await openCheckpoints(folder)).journal ?? newJournalId();
}

async function setRecordAside({ path, aside }: SessionFolder): Promise<string> {
  await makeFolder(aside);
  const file = join(aside, `${recordFile}.${Date.now()}`);
  await renameDurably(join(path, recordFile), file);
  return file;
}
