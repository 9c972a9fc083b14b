/**
 * A session on the way from the disk into memory: the newest good checkpoint and what the journal holds behind it. What cannot
 * be read is set aside and reported, and costs no more than it must.
 */

import { join } from 'node:path';
import { makeFolder, removeUnfinished, renameDurably } from '../journal/files.ts';
import type { Journal } from '../journal/journal.ts';
import { JournalDamage } from '../journal/journal-file.ts';
import { SessionJournal } from '../journal/session-journal.ts';
import { Session } from '../session/session.ts';
import { ChangeLog } from './change-log.ts';
import { CheckpointFolder, type LoadedCheckpoint } from './checkpoint-folder.ts';
import { Checkpointer } from './checkpointer.ts';
import type { Concern } from './concerns.ts';
import { HeldSession } from './held-session.ts';
import { decodeEntry } from './idempotency.ts';
import { LiveSession } from './live-session.ts';
import { type Replayed, replay } from './replay.ts';
import { Revisions } from './revisions.ts';
import { SessionEvents } from './session-events.ts';
import type { SessionFolder } from './session-folder.ts';
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
 * Brings a session back; `undefined` where none of its checkpoints can be read. `concern`: why its part of the journal may lack
 * something, if that is so. `aside`: where damaged parts of the journal go. `progress` is told of every change that is applied again.
 */
export async function recover(
  { folder, record, checkpoints }: FoundSession,
  journal: Journal,
  concern: Concern | undefined,
  aside: string,
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
  const sessionJournal = new SessionJournal(journal, Buffer.from(record.journal, 'hex'));
  const events = eventsFrom(session, checkpoints, record.first_checkpoint);
  const read = await replay(session, sessionJournal, checkpoints, undefined, (revision, event) => {
    events.move(revision, event);
    progress();
  });
  const replayed = leadOn(sessionJournal, session, read);
  const reached = session.revision;
  const kept = replayed.damage && (concern?.file ?? (await journal.keepCopy(aside).catch(() => undefined)));
  if (replayed.damage !== undefined) reportLoss(folder, kept ?? journal.file.path, session, replayed.damage);
  else if (concern !== undefined) reportConcern(folder, concern, session, reached === record.revision_limit);
  const held = await goOn({
    folder,
    record,
    checkpoints,
    session,
    sessionJournal,
    events,
    saved: description.revision,
    replayed,
    isConcerned: concern !== undefined,
  });
  if (kept !== undefined) await beginAnew(held, journal, reached, aside);
  return { held, replayed };
}

interface Arrived {
  readonly folder: SessionFolder;
  readonly record: SessionRecord;
  readonly checkpoints: CheckpointFolder;
  readonly session: Session;
  readonly sessionJournal: SessionJournal;
  /** Of what was replayed. */
  readonly events: SessionEvents;
  /** The revision that the checkpoint has. */
  readonly saved: number;
  readonly replayed: Replayed;
  /** Whether its part of the journal may lack something. */
  readonly isConcerned: boolean;
}

/** A log that begins with the checkpoint that was loaded, which may have been written after all listeners had gone. */
function eventsFrom({ position }: Session, checkpoints: CheckpointFolder, first: number): SessionEvents {
  const events = new SessionEvents(position);
  for (const { revision, ...info } of checkpoints.since(first).reverse()) {
    if (revision === position.revision) events.publish({ kind: 'checkpoint', revision, info });
  }
  return events;
}

/** The next record leads on from the last one. Damaged ones are not led on from. */
function leadOn(journal: SessionJournal, { revision }: Session, replayed: Replayed): Replayed {
  if (replayed.damage !== undefined) return replayed;
  try {
    if (replayed.last !== undefined) journal.goOnBehind(replayed.last);
    else journal.goOnFrom(revision);
    return replayed;
  } catch (error) {
    if (!(error instanceof JournalDamage)) throw error;
    return { ...replayed, damage: error };
  }
}

async function goOn({
  folder,
  record,
  checkpoints,
  session,
  sessionJournal,
  events,
  saved,
  replayed,
  isConcerned,
}: Arrived): Promise<HeldSession> {
  const { durability } = session.contents.settings;
  const reached = session.revision;
  const damaged = replayed.damage !== undefined;
  const isKnown = Number.isFinite(record.revision_limit);
  // Where a newer checkpoint was damaged, the records up to it may have been trimmed.
  const isWhole = !damaged && !isConcerned && (replayed.last !== undefined || isNewest(checkpoints));
  const isExact = isKnown && (reached === record.revision_limit || (durability === 'always' && isWhole));
  const revision = isExact ? reached : revisionBehind(record, reached);
  const revisions = new Revisions(folder.path, {
    ...record,
    revision_limit: isExact ? Math.max(record.revision_limit, revision) : revision,
  });
  // At once, so that a second crash does not bring this revision again. If the disk is full, the first change asks anew.
  if (!isExact) await revisions.reserveNow(revision).catch(() => undefined);
  const log = new ChangeLog(sessionJournal, durability !== 'checkpoint' && !damaged);
  const live = new LiveSession(session, log, folder, revisions, events);
  await takeKeys(live, folder, reached, damaged);
  const place = { previous: reached, revision, iterations: session.contents.iterations };
  if (!isExact) {
    if (log.level(durability) !== 'checkpoint')
      await (await log.append({ kind: 'resume' }, place, 'always', [])).committed;
    session.resumeAt(revision);
    live.resumed = { from: reached, to: revision };
    events.move(revision, undefined);
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

/** Whether no newer checkpoint than those that can be read has been written. */
function isNewest(checkpoints: CheckpointFolder): boolean {
  return Number(checkpoints.newest?.id.slice('ckpt-'.length)) + 1 === checkpoints.next;
}

/** The keys of changes that the session has; those of lost ones must be free again. A damaged journal is left as it is. */
async function takeKeys({ log }: LiveSession, folder: SessionFolder, reached: number, damaged: boolean): Promise<void> {
  for (const { number, value } of log.journal.readKeys()) {
    const entry = decodeEntry(value);
    if (entry !== undefined && entry.revision <= reached) folder.remember(entry);
    else if (!damaged) await log.journal.forgetKey(number);
  }
}

function sessionOf({ name, executor }: SessionFolder, { description, contents }: LoadedCheckpoint): Session {
  return new Session(name, description.createdAt, contents, description.revision, executor);
}

/** Records behind a gap lead nowhere; the next ones lead on from a checkpoint. Where the disk takes none, it is tried again later. */
async function beginAnew(held: HeldSession, journal: Journal, reached: number, aside: string): Promise<void> {
  try {
    await held.checkpoints.write();
    await journal.removeRecords(held.live.log.journal.id, reached + 1, Number.POSITIVE_INFINITY, aside);
  } catch {}
}

/** All records that there are lead on from each other, but there may have been more. */
function reportConcern(folder: SessionFolder, { reason, file }: Concern, session: Session, isAll: boolean): void {
  const { iterations } = session.contents;
  const cost = isAll
    ? `its history up to iteration ${iterations} may have gaps`
    : `changes after iteration ${iterations} may be lost`;
  folder.onDamage({ session: folder.name, file, reason: `${cost}: ${reason}` });
}

function reportLoss(
  folder: SessionFolder,
  file: string,
  session: Session,
  { message, revision }: NonNullable<Replayed['damage']>,
): void {
  const where = revision === undefined ? '' : ` (record ${revision})`;
  const { iterations } = session.contents;
  // A record of its past is of use to forks alone.
  const isPast = revision !== undefined && revision <= session.revision;
  const cost = isPast
    ? `its history up to iteration ${iterations} is lost`
    : `its changes after iteration ${iterations} are lost`;
  const reason = `${cost}: ${message}${where}`;
  folder.onDamage({ session: folder.name, file, reason });
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
