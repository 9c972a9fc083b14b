/**
 * One step of Adamax (Kingma & Ba, "Adam", section 7.1, as TensorFlow computes it) over the variables that a request
 * names: the scalars once, clipping, then the kernel on each variable. State is plain memory; this is the update function.
 *
 *     dense    m += (g - m) * (1 - beta_1)            v = max(beta_2 * v, |g|)    w -= alpha * (m / (v + epsilon))
 *     sparse   m = m * beta_1 + s * (1 - beta_1)      v = max(v * beta_2, |s|)    w -= alpha * (m / (v + epsilon))
 *
 * with alpha = learning_rate / (1 - beta_1^t), t = iterations + 1, and s the sums of the rows named.
 */
import type { Scan, Values } from '../kernel/blocks.ts';
import { type RowGroups, stepDense, stepSparse } from '../kernel/step.ts';
import type { VariableMemory } from '../kernel/variable-memory.ts';
import type { AdamaxConfig } from './adamax-config.ts';
import { clips } from './clipping.ts';
import { stepScalars } from './scalars.ts';

/** The gradient of one variable, checked: finite, and of the variable's size or, with `groups`, of the rows grouped. */
export interface Update {
  readonly memory: VariableMemory;
  readonly values: Values;
  readonly groups: RowGroups | undefined;
  readonly scan: Scan;
  /** Receives the updated elements, or rows, if given; may be the very bytes of `values`, in their dtype, if dense. */
  readonly updated: Values | undefined;
}

/** Applies all updates, by variable name, as step number `iterations` + 1. */
export function applyUpdates(config: AdamaxConfig, iterations: number, updates: ReadonlyMap<string, Update>): void {
  const scans = new Map([...updates].map(([name, { scan }]) => [name, scan]));
  const clip = clips(config, scans);
  const scalars = {
    F32: stepScalars(config, iterations, 'F32'),
    F64: stepScalars(config, iterations, 'F64'),
  };
  for (const [name, { memory, values, groups, updated }] of updates) {
    const clipping = clip.get(name) ?? { limit: null, factor: 1 };
    if (groups === undefined) stepDense(memory, values, clipping, scalars[memory.dtype], updated);
    else stepSparse(memory, values, groups, clipping, scalars[memory.dtype], updated);
  }
}
