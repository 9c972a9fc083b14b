/**
 * What the bearer of a token may do: its role, in the sessions that its patterns reach, until it expires, so often a second,
 * and how many sessions it may make. The token itself is known to its bearer alone; here is its SHA-256.
 */
import type { Quota } from '../store/quota.ts';
import { Rate } from './rate.ts';

/** Each may do what those before it may. */
export const roles = ['read', 'push', 'admin'] as const;
export type Role = (typeof roles)[number];

export interface TokenDescription {
  readonly name: string;
  /** SHA-256 of the token, 32 bytes. */
  readonly digest: Buffer;
  readonly roles: readonly Role[];
  /** Names of sessions, in which `*` stands for any characters. */
  readonly sessions: readonly string[];
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
  readonly requestsPerSecond: number;
  readonly sessionsMax: number;
  readonly bytesMax: number;
}

export class Token implements Quota {
  readonly name: string;
  readonly digest: Buffer;
  readonly role: Role;
  readonly expiresAt: number;
  readonly sessionsMax: number;
  readonly bytesMax: number;
  /** Requests that it may send; undefined for any number. */
  readonly rate: Rate | undefined;
  readonly #patterns: readonly string[];

  constructor(description: TokenDescription) {
    const { name, digest, expiresAt, requestsPerSecond, sessionsMax, bytesMax } = description;
    this.name = name;
    this.digest = digest;
    this.role = roles[Math.max(...description.roles.map((role) => roles.indexOf(role)))] as Role;
    this.expiresAt = expiresAt;
    this.sessionsMax = sessionsMax;
    this.bytesMax = bytesMax;
    this.rate = requestsPerSecond === Infinity ? undefined : new Rate(requestsPerSecond, requestsPerSecond);
    this.#patterns = description.sessions;
  }

  may(role: Role): boolean {
    return roles.indexOf(role) <= roles.indexOf(this.role);
  }

  /** Whether a session of this name is one of its own. */
  reaches(session: string): boolean {
    return this.#patterns.some((pattern) => matches(pattern, session));
  }

  hasExpired(now: number): boolean {
    return now >= this.expiresAt;
  }
}

/** Whether `*` in the pattern can stand for something so that it is the name. Only the last star is ever tried anew: time grows with the product of the lengths. */
function matches(pattern: string, name: string): boolean {
  let [at, star, from] = [0, -1, 0];
  for (let k = 0; k < name.length; ) {
    if (pattern[at] === '*') {
      [star, from] = [at++, k];
    } else if (pattern[at] === name[k]) {
      at++;
      k++;
    } else if (star >= 0) {
      at = star + 1;
      k = ++from;
    } else {
      return false;
    }
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}
