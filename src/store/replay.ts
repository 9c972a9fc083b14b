/** The other half of a session's state: what its journal holds is applied to what a checkpoint has, the way it was at first. */
import { setImmediate } from 'node:timers/promises';
import type { Change } from '../journal/changes.ts';
import { JournalDamage } from '../journal/journal-file.ts';
import type { ReadHead } from '../journal/record.ts';
import type { SessionJournal } from '../journal/session-journal.ts';
import type { Session } from '../session/session.ts';
import type { CheckpointFolder } from './checkpoint-folder.ts';
import { applyStep } from './reported-step.ts';
import { changeEvent, type SessionEvent, stepEvent } from './session-events.ts';

export interface Replayed {
  /** Records applied. */
  readonly changes: number;
  readonly last: ReadHead | undefined;
  /** The last restore among them. */
  readonly restored: { readonly id: string; readonly revision: number } | undefined;
  /** Why those behind were not applied. */
  readonly damage: JournalDamage | undefined;
}

/** Milliseconds' work before others have their turn with the thread. */
const turnMs = 10;

/** Applies what the journal holds behind the session's revision, up to revision `until`. `progress` is told of each record, by what it leads to. */
export async function replay(
  session: Session,
  journal: Pick<SessionJournal, 'read' | 'heads'>,
  folder: Pick<CheckpointFolder, 'find' | 'load'>,
  until = Number.POSITIVE_INFINITY,
  progress: (revision: number, event: SessionEvent | undefined) => void = () => undefined,
): Promise<Replayed> {
  let changes = 0;
  let last: ReadHead | undefined;
  let restored: Replayed['restored'];
  let turn = performance.now();
  try {
    if (session.revision < until && !beginsElsewhere(session, journal)) {
      for (const { head, change } of journal.read(session.revision)) {
        const event = await apply(session, head, change, folder);
        if (change.kind === 'restore') restored = { id: change.checkpoint, revision: head.revision };
        last = head;
        changes++;
        progress(head.revision, event);
        if (head.revision >= until) break;
        if (performance.now() - turn > turnMs) {
          await setImmediate();
          turn = performance.now();
        }
      }
    }
  } catch (error) {
    return { changes, last, restored, damage: asDamage(error, session) };
  }
  return { changes, last, restored, damage: undefined };
}

/**
 * Whether the records lead on from a checkpoint that a crash has prevented: the one that was being written when the session
 * left the level `checkpoint`, which is what holds until it is there.
 */
function beginsElsewhere(session: Session, journal: Pick<SessionJournal, 'heads'>): boolean {
  if (session.contents.settings.durability !== 'checkpoint') return false;
  for (const { chain, previous } of journal.heads(session.revision)) return chain === 0 && previous > session.revision;
  return false;
}

async function apply(
  session: Session,
  head: ReadHead,
  change: Change,
  folder: Pick<CheckpointFolder, 'find' | 'load'>,
): Promise<SessionEvent | undefined> {
  let event: SessionEvent | undefined;
  switch (change.kind) {
    case 'gradients': {
      const { gradients, origin } = change;
      const step = session.prepare(await session.check(gradients), () => [], session.position, origin);
      event = stepEvent({ ...step.head, revision: head.revision }, await applyStep(session, step));
      break;
    }
    case 'assign':
      session.assign(session.checkAssignments(change.part, change.assignments));
      break;
    case 'patch':
      session.configure(change);
      break;
    case 'restore':
      if (folder.find(change.checkpoint).sha256 !== change.sha256)
        throw new Error(`${change.checkpoint} is another one now`);
      session.replace((await folder.load(change.checkpoint)).contents);
      break;
    case 'worker':
      session.setQuarantined(change.worker, change.quarantined);
      break;
    case 'create':
    case 'resume':
      break;
  }
  session.resumeAt(head.revision);
  return event ?? changeEvent(change, session.position);
}

/** A record that reads, but cannot be applied, is as good as damaged. */
function asDamage(error: unknown, { revision }: Session): JournalDamage {
  if (error instanceof JournalDamage) return error;
  return new JournalDamage(
    `the record behind revision ${revision} must be applicable. It is not: ${(error as Error).message}`,
  );
}
