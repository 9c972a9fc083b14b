/** A new session's way to the disk: a first checkpoint, the beginning of its journal, and then the record that makes it live. */
import { rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { encodeChange } from '../journal/changes.ts';
import { syncFolder } from '../journal/files.ts';
import type { Journal } from '../journal/journal.ts';
import { SessionJournal } from '../journal/session-journal.ts';
import type { Session } from '../session/session.ts';
import { ChangeLog } from './change-log.ts';
import { Checkpointer } from './checkpointer.ts';
import { HeldSession } from './held-session.ts';
import { encodeEntry, type KeyEntry } from './idempotency.ts';
import { LiveSession } from './live-session.ts';
import { openCheckpoints } from './recovery.ts';
import { Revisions } from './revisions.ts';
import type { SessionFolder } from './session-folder.ts';
import { newJournalId, removeRecord, revisionsReserved, type SessionRecord, writeRecord } from './session-record.ts';

/** Before its record is written the folder is nobody's. `keys`: what the session is to know from the beginning. */
export async function settle(
  folder: SessionFolder,
  journal: Journal,
  session: Session,
  keys: readonly KeyEntry[],
): Promise<HeldSession> {
  journal.requireWritable();
  const checkpoints = await openCheckpoints(folder);
  const record: SessionRecord = {
    format: 2,
    journal: newJournalId(),
    first_checkpoint: checkpoints.next,
    revision_limit: revisionsReserved,
  };
  const sessionJournal = new SessionJournal(journal, Buffer.from(record.journal, 'hex'));
  const log = new ChangeLog(sessionJournal, session.contents.settings.durability !== 'checkpoint');
  const revisions = new Revisions(folder.path, record);
  const live = new LiveSession(session, log, folder, revisions);
  const checkpointer = new Checkpointer(live, checkpoints, record.first_checkpoint, session.revision);
  const held = new HeldSession(live, checkpointer, revisions, folder.onStep);
  try {
    await syncFolder(dirname(folder.path));
    await checkpointer.write();
    const { revision, iterations } = session.position;
    const { description, data } = encodeChange({ kind: 'create' });
    const taken = await sessionJournal.take(data, revision);
    const place = { previous: revision, revision, iterations };
    await sessionJournal.append('create', description, taken, place, 'always', keys.map(encodeEntry)).acknowledged;
    await writeRecord(folder.path, record);
    return held;
  } catch (error) {
    const ignore = () => undefined;
    await checkpointer.idle();
    await removeRecord(folder.path).catch(ignore);
    await checkpoints.trim(0, record.first_checkpoint).catch(ignore);
    // Stays where a former session's checkpoints are kept.
    await rmdir(folder.path).catch(ignore);
    await journal.forget(sessionJournal.id).catch(ignore);
    throw error;
  }
}
