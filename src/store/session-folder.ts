/** A session's place on the disk, and what the store does for it. */
import type { Executor } from '../kernel/threads.ts';
import type { Damage } from './checkpoint-folder.ts';
import type { DiskSpace } from './disk-space.ts';
import type { Figures } from './figures.ts';
import type { IdempotencyKeys, KeyEntry } from './idempotency.ts';
import type { MemoryBudget } from './memory-budget.ts';

export interface SessionFolder {
  readonly name: string;
  readonly path: string;
  /** Where damaged files go. */
  readonly aside: string;
  readonly onDamage: (damage: Damage) => void;
  readonly onStep: () => void;
  /** To be called, before anything else, where a change is in the journal and could not be applied: memory is not what the disk says. */
  readonly onFault: (error: unknown) => void;
  /** Where what is done is counted. */
  readonly figures: Figures;
  /** Does what is heavy. */
  readonly executor: Executor;
  readonly memory: MemoryBudget;
  readonly disk: DiskSpace;
  /** Of requests to this name. */
  readonly keys: IdempotencyKeys;
  /** Notes a key where requests look for it. */
  readonly remember: (entry: KeyEntry) => void;
}
