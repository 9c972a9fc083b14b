/**
 * One step of Adamax (Kingma & Ba, "Adam", section 7.1, as TensorFlow computes it) over the variables that a request
 * names: the scalars once, clipping, then the kernel on each variable. State is plain memory; this is the update function.
 *
 *     dense    m += (g - m) * (1 - beta_1)            v = max(beta_2 * v, |g|)    w -= alpha * (m / (v + epsilon))
 *     sparse   m = m * beta_1 + s * (1 - beta_1)      v = max(v * beta_2, |s|)    w -= alpha * (m / (v + epsilon))
 *
 * with alpha = learning_rate / (1 - beta_1^t), t = iterations + 1, and s the sums of the rows named.
 */
import type { Clip, Scan, Values } from '../kernel/blocks.ts';
import type { SlicesByRow, StepScalars } from '../kernel/step.ts';
import type { Executor, Progress } from '../kernel/threads.ts';
import type { VariableMemory } from '../kernel/variable-memory.ts';
import type { Work } from '../kernel/work.ts';
import type { VariableDtype } from '../tensor/dtype.ts';
import type { AdamaxConfig } from './adamax-config.ts';
import { clips } from './clipping.ts';
import { stepScalars } from './scalars.ts';

/** The gradient of one variable, checked: finite, and of the variable's size or, if by rows, of as many slices. */
export interface Update {
  readonly memory: VariableMemory;
  readonly values: Values;
  readonly slices: SlicesByRow | undefined;
  readonly scan: Scan;
  /** Receives the updated elements, or rows, if given; may be the very bytes of `values`, in their dtype, if dense. */
  readonly updated: Values | undefined;
}

/**
 * Applies all updates as step number `iterations` + 1; no two are of one variable. Its learning rate is divided by
 * `rateDivisor`. `progress` is told of them by their place in the list, as their blocks are done.
 */
export async function applyUpdates(
  config: AdamaxConfig,
  iterations: number,
  updates: readonly Update[],
  executor: Executor,
  rateDivisor = 1,
  progress?: Progress,
): Promise<void> {
  const clip = clips(
    config,
    updates.map(({ scan }) => scan),
  );
  const scalars: Record<VariableDtype, StepScalars | undefined> = { F32: undefined, F64: undefined };
  const steps: Work[] = [];
  for (let k = 0; k < updates.length; k++) {
    const { memory, values, slices, updated } = updates[k] as Update;
    const own = scalars[memory.dtype] ?? stepScalars(config, iterations, memory.dtype, rateDivisor);
    scalars[memory.dtype] = own;
    const [gradient, itsClip] = [values, clip[k] as Clip];
    // Spelled out, since copies of objects by spreading are slow.
    if (slices === undefined) steps.push({ kind: 'dense', memory, gradient, clip: itsClip, scalars: own, updated });
    else steps.push({ kind: 'sparse', memory, gradient, clip: itsClip, scalars: own, updated, slices });
  }
  await executor.run(steps, progress);
}
