/** What is known of names, whether there are such sessions or not: the keys that requests to them bore, and who is at work on them. */
import { Problem } from '../errors.ts';
import { IdempotencyKeys, type KeyEntry } from './idempotency.ts';

export class Names {
  readonly #keysMax: number;
  readonly #keys = new Map<string, IdempotencyKeys>();
  readonly #busy = new Set<string>();

  /** `keysMax`: how many keys are remembered of each name. */
  constructor(keysMax: number) {
    this.#keysMax = keysMax;
  }

  /** Of requests that were sent to `name`. */
  keysOf(name: string): IdempotencyKeys {
    let keys = this.#keys.get(name);
    if (keys === undefined) {
      keys = new IdempotencyKeys(this.#keysMax);
      this.#keys.set(name, keys);
    }
    return keys;
  }

  /** Whether a request to `name` bore that key, and has not failed. */
  knows(name: string, key: string): boolean {
    return this.#keys.get(name)?.knows(key) === true;
  }

  /** Notes what a request to `name`, or to the session that the entry names, did. */
  remember(name: string, entry: KeyEntry): void {
    this.keysOf(entry.sentTo ?? name).remember(entry);
  }

  /** Of requests that have made or deleted sessions, and are known by the name that they were sent to. */
  get elsewhere(): KeyEntry[] {
    return [...this.#keys.values()].flatMap(({ entries }) => entries.filter(({ sentTo }) => sentTo !== undefined));
  }

  /** A session is no more: `kept` is all that stays known of the requests that were sent to it. */
  forget(name: string, kept: readonly KeyEntry[]): void {
    const others = this.keysOf(name).entries.filter(({ sentTo }) => sentTo !== undefined);
    this.keysOf(name).replace([...others, ...kept]);
    if (others.length + kept.length === 0) this.#keys.delete(name);
  }

  /** Runs a creation or deletion; a second one of the same name meanwhile is told that the name is taken. */
  async alone<T>(name: string, task: () => Promise<T>): Promise<T> {
    if (this.#busy.has(name)) throw taken(name);
    this.#busy.add(name);
    try {
      return await task();
    } finally {
      this.#busy.delete(name);
    }
  }
}

export function taken(name: string): Problem {
  return new Problem(
    'session_exists',
    `a new session must have a name that is free. Received: ${JSON.stringify(name)}`,
  );
}
