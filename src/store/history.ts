/** A session as it stood earlier: the nearest checkpoint, and what the journal still holds from there on. */
import { Problem } from '../errors.ts';
import { Session, type SessionContents } from '../session/session.ts';
import type { Checkpointer } from './checkpointer.ts';
import { JournalDamage } from './journal-file.ts';
import type { LiveSession } from './live-session.ts';
import type { ReadHead } from './record.ts';
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
    const checkpoints = folder.since(first);
    const target = lastRevision(live, checkpoints, iterations);
    for (const { id, revision } of target === undefined ? [] : checkpoints) {
      if (revision > (target as number)) continue;
      const { name, createdAt } = live.session;
      const { contents } = await folder.load(id);
      const session = new Session(name, createdAt, contents, revision);
      await replay(session, live.log.journal, folder, target);
      if (session.revision === target) return { contents: session.contents, revision: target };
    }
    throw unavailable(live, checkpoints, iterations);
  });
}

/** The last revision that is known to have had that counter. */
function lastRevision(
  live: LiveSession,
  checkpoints: readonly { iterations: number; revision: number }[],
  iterations: number,
): number | undefined {
  const known = checkpoints.filter((each) => each.iterations === iterations).map(({ revision }) => revision);
  for (const head of heads(live)) if (head.iterations === iterations) known.push(head.revision);
  return known.length === 0 ? undefined : Math.max(...known);
}

/** Of all records that the journal holds, up to the first one that is damaged. */
function* heads({ log }: LiveSession): Generator<ReadHead> {
  try {
    yield* log.journal.heads(-1);
  } catch (error) {
    if (!(error instanceof JournalDamage)) throw error;
  }
}

function unavailable(live: LiveSession, checkpoints: readonly { iterations: number }[], iterations: number): Problem {
  const now = live.session.contents.iterations;
  const known = [now, ...checkpoints.map((each) => each.iterations)];
  const [earliest] = heads(live);
  const history = earliest === undefined ? '' : `, or one that the journal reaches, from ${earliest.iterations} on`;
  const rule = `iterations must be the session's or a checkpoint's: ${[...new Set(known)].slice(0, 8).join(', ')}${history}`;
  return new Problem('iteration_unavailable', `${rule}. Received: ${iterations}`);
}
