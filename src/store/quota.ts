/** How many sessions a client may make, and how large: counted over the sessions that it reaches, whoever made them. */
import { Problem } from '../errors.ts';

export interface Quota {
  /** Who has it, as messages name it. */
  readonly name: string;
  readonly sessionsMax: number;
  /** Of variables and slots together. */
  readonly bytesMax: number;
  reaches(session: string): boolean;
}

export interface Sized {
  readonly name: string;
  readonly bytes: number;
}

/** Throws `session_quota_exceeded` where another session of so many bytes, beside those of `sessions` that are reached, is too much. */
export function requireQuota(quota: Quota, sessions: readonly Sized[], bytes: number): void {
  const reached = sessions.filter(({ name }) => quota.reaches(name));
  if (reached.length >= quota.sessionsMax) {
    const rule = `token "${quota.name}" must have at most ${quota.sessionsMax} sessions`;
    throw exceeded(`${rule}. Received: one more beside ${reached.length}`);
  }
  const held = reached.reduce((sum, each) => sum + each.bytes, 0);
  if (held + bytes > quota.bytesMax) {
    const rule = `the sessions of token "${quota.name}" must have at most ${quota.bytesMax} bytes of variables and slots`;
    throw exceeded(`${rule}. Received: ${bytes} bytes more beside ${held}`);
  }
}

export function exceeded(detail: string): Problem {
  return new Problem('session_quota_exceeded', detail, { headers: { 'retry-after': '60' } });
}
