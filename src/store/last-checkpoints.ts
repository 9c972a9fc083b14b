/** The last checkpoints of a server that ends. What fails is logged and costs that session alone; the others are saved all the same. */
import type { Journal } from '../journal/journal.ts';
import type { HeldSession } from './held-session.ts';
import type { Log } from './log.ts';

/** Resolves to whether all of them are written. */
export async function writeLastCheckpoints(
  sessions: Iterable<HeldSession>,
  journal: Journal | undefined,
  log: Log,
): Promise<boolean> {
  // Before all else what has been acknowledged: large checkpoints may not be over in time.
  await journal?.flush();
  let isSaved = true;
  for (const held of sessions) {
    try {
      await held.close();
    } catch (error) {
      log.error({ session: held.name, error: String(error) }, 'the last checkpoint could not be written');
      isSaved = false;
    }
  }
  return isSaved;
}
