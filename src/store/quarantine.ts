/** Puts workers aside and takes them back: a change of the session's state like any other. */
import type { Head } from '../session/session.ts';
import type { LiveSession } from './live-session.ts';
import type { ChangeRequest } from './requests.ts';

/** Where it is so already, nothing changes. */
export async function setQuarantined(
  live: LiveSession,
  worker: string,
  quarantined: boolean,
  request: ChangeRequest = {},
): Promise<Head> {
  const { session } = live;
  const isSo = () => (session.contents.workers.get(worker)?.quarantined ?? false) === quarantined;
  let hasChanged = false;
  const head = await live.change(request, async (commit) => {
    if (isSo()) return session.head;
    await commit({ kind: 'worker', worker, quarantined }, {});
    hasChanged = true;
    return session.setQuarantined(worker, quarantined);
  });
  if (!hasChanged && request.key !== undefined) await live.note(request.key, {});
  return head;
}
