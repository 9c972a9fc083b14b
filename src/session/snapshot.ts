/** A session as it stands at one moment, to be read out while steps go on changing it. */
import type { VariableSnapshot } from '../kernel/snapshot.ts';
import type { Head, Session, SessionContents } from './session.ts';

export interface SessionSnapshot {
  readonly head: Head;
  readonly createdAt: string;
  readonly contents: SessionContents;
  /** By variable name. */
  readonly variables: ReadonlyMap<string, VariableSnapshot>;
  /** To be called when all has been read, or reading is given up. */
  end(): void;
}

/** One snapshot of a session at a time. */
export function takeSnapshot(session: Session): SessionSnapshot {
  const { head, createdAt } = session;
  const contents = { ...session.contents, workers: session.contents.workers.copy() };
  const variables = new Map([...contents.variables].map(([name, { memory }]) => [name, memory.beginSnapshot()]));
  return {
    head,
    createdAt,
    contents,
    variables,
    end() {
      for (const { memory } of contents.variables.values()) memory.endSnapshot();
    },
  };
}
