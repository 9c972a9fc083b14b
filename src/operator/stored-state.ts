/** A stored session's state in memory: from a checkpoint and the journal behind it, the way a start brings it back. */
import { Session } from '../session/session.ts';
import type { LoadedCheckpoint } from '../store/checkpoint-folder.ts';
import { describe, type JournalReader } from '../store/journal-reader.ts';
import { type Replayed, replay } from '../store/replay.ts';
import type { StoppedFolder, StoredSession } from '../store/stopped-folder.ts';

/** A session that is live, and what the journal holds of it. */
export interface LiveStored extends StoredSession {
  readonly record: NonNullable<StoredSession['record']>;
}

export function isLive(session: StoredSession, { deleted }: JournalReader): session is LiveStored {
  return session.record !== undefined && !deleted.has(session.record.journal);
}

export function sessionFrom({ name }: StoredSession, { description, contents }: LoadedCheckpoint): Session {
  return new Session(name, description.createdAt, contents, description.revision);
}

/** Applies the journal, up to revision `until`. What is wrong with it is found. */
export async function replayStored(
  session: Session,
  { name, record, checkpoints }: LiveStored,
  journal: JournalReader,
  { journalFindings }: StoppedFolder,
  until?: number,
): Promise<Replayed> {
  const replayed = await replay(session, journal.of(record.journal), checkpoints, until);
  if (replayed.damage !== undefined) journalFindings.add(journal.path, name, describe(replayed.damage));
  return replayed;
}
