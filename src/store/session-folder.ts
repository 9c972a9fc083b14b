/** A session's place on the disk, and what the store does for it. */
import type { Executor } from '../kernel/threads.ts';
import type { Damage } from './checkpoint-folder.ts';
import type { IdempotencyKeys, KeyEntry } from './idempotency.ts';

export interface SessionFolder {
  readonly name: string;
  readonly path: string;
  /** Where damaged files go. */
  readonly aside: string;
  readonly onDamage: (damage: Damage) => void;
  readonly onStep: () => void;
  /** To be called where memory is not what the disk says any more. */
  readonly onFault: (error: unknown) => void;
  /** Does what is heavy. */
  readonly executor: Executor;
  /** Of requests to this name. */
  readonly keys: IdempotencyKeys;
  /** Notes a key where requests look for it. */
  readonly remember: (entry: KeyEntry) => void;
}
