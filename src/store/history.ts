/** A session as it stood earlier: the nearest checkpoint, and what the journal still holds from there on. */
import { Problem } from '../errors.ts';
import { JournalDamage } from '../journal/journal-file.ts';
import type { ReadHead } from '../journal/record.ts';
import type { SessionJournal } from '../journal/session-journal.ts';
import { Session, type SessionContents } from '../session/session.ts';
import type { CheckpointFolder } from './checkpoint-folder.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { LiveSession } from './live-session.ts';
import { replay } from './replay.ts';
import { copyOf } from './whole-state.ts';

export interface PastState {
  readonly contents: SessionContents;
  /** The revision that it was at. */
  readonly revision: number;
}

/** The state as it is, in memory of its own. */
export async function presentState({ session }: LiveSession): Promise<PastState> {
  return { contents: await copyOf(session.contents), revision: session.revision };
}

/**
 * The last state whose counter was `iterations`. Throws `iteration_unavailable` where no checkpoint and journal reach it. Nothing
 * is removed from them meanwhile.
 */
export function pastState(live: LiveSession, checkpointer: Checkpointer, iterations: number): Promise<PastState> {
  return checkpointer.undisturbed(async () => {
    const { folder, first } = checkpointer;
    await live.log.journal.flush();
    return stateAt({ session: live.session, journal: live.log.journal, folder, first }, iterations);
  });
}

/** What a session's past is found in. */
export interface Past {
  /** As it is now. */
  readonly session: Pick<Session, 'name' | 'createdAt' | 'contents'>;
  readonly journal: Pick<SessionJournal, 'heads' | 'read'>;
  readonly folder: Pick<CheckpointFolder, 'find' | 'load' | 'since'>;
  /** The number of the session's first checkpoint. */
  readonly first: number;
}

/** As `pastState`, of whatever has checkpoints and a journal. */
export async function stateAt(past: Past, iterations: number): Promise<PastState> {
  const { session: now, journal, folder, first } = past;
  const checkpoints = folder.since(first);
  const target = lastRevision(journal, checkpoints, iterations);
  for (const { id, revision } of target === undefined ? [] : checkpoints) {
    if (revision > (target as number)) continue;
    const { contents } = await folder.load(id);
    const session = new Session(now.name, now.createdAt, contents, revision);
    await replay(session, journal, folder, target);
    if (session.revision === target) return { contents: session.contents, revision: target };
  }
  throw unavailable(past, checkpoints, iterations);
}

/** The last revision that is known to have had that counter. */
function lastRevision(
  journal: Past['journal'],
  checkpoints: readonly { iterations: number; revision: number }[],
  iterations: number,
): number | undefined {
  const known = checkpoints.filter((each) => each.iterations === iterations).map(({ revision }) => revision);
  for (const head of heads(journal)) if (head.iterations === iterations) known.push(head.revision);
  return known.length === 0 ? undefined : Math.max(...known);
}

/** Of all records that the journal holds, up to the first one that is damaged. */
function* heads(journal: Past['journal']): Generator<ReadHead> {
  try {
    yield* journal.heads(-1);
  } catch (error) {
    if (!(error instanceof JournalDamage)) throw error;
  }
}

function unavailable(past: Past, checkpoints: readonly { iterations: number }[], iterations: number): Problem {
  const known = [past.session.contents.iterations, ...checkpoints.map((each) => each.iterations)];
  const [earliest] = heads(past.journal);
  const history = earliest === undefined ? '' : `, or one that the journal reaches, from ${earliest.iterations} on`;
  const rule = `iterations must be the session's or a checkpoint's: ${[...new Set(known)].slice(0, 8).join(', ')}${history}`;
  return new Problem('iteration_unavailable', `${rule}. Received: ${iterations}`);
}
