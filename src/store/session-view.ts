/** What a session document says, as it stands at one moment. */
import type { Head, SessionContents } from '../session/session.ts';
import type { CheckpointInfo } from './checkpoint-folder.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { LiveSession } from './live-session.ts';

export interface SessionView {
  readonly head: Head;
  readonly createdAt: string;
  readonly contents: SessionContents;
  readonly lastCheckpoint: CheckpointInfo | undefined;
}

export function viewOf({ session }: LiveSession, { folder }: Checkpointer): SessionView {
  const { head, createdAt, contents } = session;
  return { head, createdAt, contents, lastCheckpoint: folder.newest };
}
