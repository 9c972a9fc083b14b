/**
 * How much of a session would be there after a crash, and where it lies: in the newest checkpoint, or in records behind it. What
 * is said is known: the disk may have more, never less.
 */
import type { RecordPlace } from '../journal/reach.ts';
import type { Position } from '../session/session.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { LiveSession } from './live-session.ts';

export interface DurableState {
  /** What a killed process leaves. */
  readonly written: Position;
  /** What a power cut leaves. */
  readonly durable: Position;
  /** Where that lies. */
  readonly in: 'checkpoint' | RecordPlace;
  /** Whether it is the session as it stands. */
  readonly isLast: boolean;
}

export function durableStateOf({ session, log, resumed }: LiveSession, { saved }: Checkpointer): DurableState {
  const { reach } = log;
  const recorded = reach.durable(log.journal.synced);
  const isBehind = recorded === undefined || recorded.position.revision <= saved.revision;
  const found = isBehind ? { position: saved, in: 'checkpoint' as const } : recorded;
  const { written } = reach;
  // A start may go on at another revision, with the same state.
  const revision = session.revision === resumed?.to ? resumed.from : session.revision;
  return {
    written: written === undefined || written.revision <= saved.revision ? saved : written,
    durable: found.position,
    in: found.in,
    isLast: found.position.revision >= revision,
  };
}
