/** What a killed process has left in the tail is put into the journal, as far as it leads on from what is there. */
import type { Journal } from './journal.ts';
import { smallBytes } from './journal-folder.ts';
import { readLeft } from './tail-frames.ts';

/**
 * Before anything else is put. `reached`: the sessions that there are, by id in hexadecimal, and the revisions of their newest
 * checkpoints. Returns those of which something is lost.
 */
export async function takeTail(journal: Journal, reached: ReadonlyMap<string, number>): Promise<Set<string>> {
  const { file } = journal;
  const left = await readLeft(journal.tail.paths);
  try {
    for await (const { session, key, head, headBytes, data } of left.frames()) {
      const checkpoint = reached.get(session.toString('hex'));
      // Of a session that is no more, or lmdb has it, or what it leads on from was never acknowledged, nor was it.
      if (checkpoint === undefined || head.previous !== Math.max(checkpoint, file.lastRevision(session))) continue;
      await journal.submit(() => {
        file.putRecord(session, head.revision, headBytes, [data]);
        if (key !== undefined) file.putKey(session, file.lastKey(session) + 1, key);
      }, smallBytes + data.length);
    }
    return new Set(left.lost.flatMap((session) => session?.toString('hex') ?? [...reached.keys()]));
  } finally {
    await left.close();
  }
}
