/**
 * One step of Adamax (Kingma & Ba, "Adam", section 7.1, as TensorFlow computes it) over the variables that a request
 * names: the scalars once, clipping, then the kernel on each variable. State is plain memory; this is the update function.
 *
 *     dense    m += (g - m) * (1 - beta_1)            v = max(beta_2 * v, |g|)    w -= alpha * (m / (v + epsilon))
 *     sparse   m = m * beta_1 + s * (1 - beta_1)      v = max(v * beta_2, |s|)    w -= alpha * (m / (v + epsilon))
 *
 * with alpha = learning_rate / (1 - beta_1^t), t = iterations + 1, and s the sums of the rows named.
 */
import { noClip, type Scan, type Values } from '../kernel/blocks.ts';
import type { StepScalars } from '../kernel/step.ts';
import type { Executor, Progress } from '../kernel/threads.ts';
import type { VariableMemory } from '../kernel/variable-memory.ts';
import type { Work } from '../kernel/work.ts';
import type { VariableDtype } from '../tensor/dtype.ts';
import type { AdamaxConfig } from './adamax-config.ts';
import { clips } from './clipping.ts';
import type { NamedRows } from './indexed-slices.ts';
import { stepScalars } from './scalars.ts';

/** The gradient of one variable, checked: finite, and of the variable's size or, if `named`, of as many rows. */
export interface Update {
  readonly memory: VariableMemory;
  readonly values: Values;
  readonly named: NamedRows | undefined;
  readonly scan: Scan;
  /** Receives the updated elements, or rows, if given; may be the very bytes of `values`, in their dtype, if dense. */
  readonly updated: Values | undefined;
}

/**
 * Applies all updates, by variable name, as step number `iterations` + 1. `progress` is told of the updates by their
 * number, as their blocks are done.
 */
export async function applyUpdates(
  config: AdamaxConfig,
  iterations: number,
  updates: ReadonlyMap<string, Update>,
  executor: Executor,
  progress?: Progress,
): Promise<void> {
  const scans = new Map([...updates].map(([name, { scan }]) => [name, scan]));
  const clip = clips(config, scans);
  const scalars = new Map<VariableDtype, StepScalars>();
  for (const {
    memory: { dtype },
  } of updates.values()) {
    if (!scalars.has(dtype)) scalars.set(dtype, stepScalars(config, iterations, dtype));
  }
  const steps = [...updates].map(([name, { memory, values, named, updated }]): Work => {
    const own = scalars.get(memory.dtype) as StepScalars;
    const step = { memory, gradient: values, clip: clip.get(name) ?? noClip, scalars: own };
    if (named === undefined) return { kind: 'dense', ...step, updated };
    const { rows, firsts, later } = named;
    return { kind: 'sparse', ...step, slices: { rows, firsts, later } };
  });
  await executor.run(steps, progress);
  const replies = [...updates.values()].flatMap(({ memory, named, updated }): Work[] =>
    named === undefined || updated === undefined
      ? []
      : [{ kind: 'readRows', memory, part: 'w', rows: named.ascending, to: updated }],
  );
  if (replies.length > 0) await executor.run(replies);
}
