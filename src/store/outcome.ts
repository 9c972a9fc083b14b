/** What came of a request for a change, or had come of it when the request is a repeat. */
import type { KeyEntry } from './idempotency.ts';
import type { LiveSession } from './live-session.ts';
import type { ChangeRequest } from './requests.ts';

export interface Outcome<T> {
  readonly result: T;
  readonly replayed: boolean;
}

/** Carries out `first`, or `again` for a repeat of a request to this session. */
export function outcomeOf<T>(
  live: LiveSession,
  { key }: ChangeRequest,
  first: () => Promise<T>,
  again: (entry: KeyEntry) => Promise<T>,
): Promise<Outcome<T>> {
  return live.keys.once<Outcome<T>>(
    key,
    async () => ({ result: await first(), replayed: false }),
    async (entry) => ({ result: await again(entry), replayed: true }),
  );
}
