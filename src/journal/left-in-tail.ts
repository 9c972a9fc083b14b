/** What a killed process has left in the tail is put into the journal, as far as it leads on from what is there. */
import type { Journal } from './journal.ts';
import { smallBytes } from './journal-folder.ts';
import { readLeft } from './tail-frames.ts';

/** Put in one transaction, or a few. */
const bytesAtOnce = 8 * 1024 * 1024;

/** Where a session's records and idempotency keys end. */
interface End {
  revision: number;
  key: number;
}

/**
 * Before anything else is put. `reached`: the sessions that there are, by id in hexadecimal, and the revisions of their newest
 * checkpoints. Returns those of which something is lost.
 */
export async function takeTail(journal: Journal, reached: ReadonlyMap<string, number>): Promise<Set<string>> {
  const { file } = journal;
  const left = await readLeft(journal.tail.paths);
  const ends = new Map<string, End>();
  let putting: Promise<void>[] = [];
  let bytes = 0;
  try {
    for await (const { session, keys, head, headBytes, data } of left.frames()) {
      const id = session.toString('hex');
      const checkpoint = reached.get(id);
      // Of a session that is no more.
      if (checkpoint === undefined) continue;
      const end = ends.get(id) ?? {
        revision: Math.max(checkpoint, file.lastRevision(session)),
        key: file.lastKey(session),
      };
      // lmdb has it, or what it leads on from was never acknowledged, nor was it.
      if (head.previous !== end.revision) continue;
      ends.set(id, end);
      end.revision = head.revision;
      const first = end.key + 1;
      end.key += keys.length;
      const put = journal.submit(() => {
        file.putRecord(session, head.revision, headBytes, [data]);
        keys.forEach((key, k) => {
          file.putKey(session, first + k, key);
        });
      }, smallBytes + data.length);
      put.catch(() => undefined);
      putting.push(put);
      bytes += smallBytes + data.length;
      if (bytes < bytesAtOnce) continue;
      await Promise.all(putting);
      putting = [];
      bytes = 0;
    }
    await Promise.all(putting);
    return new Set(left.lost.flatMap((session) => session?.toString('hex') ?? [...reached.keys()]));
  } finally {
    await left.close();
  }
}
