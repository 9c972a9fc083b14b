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
import { blocksHere, type Executor, type Progress } from '../kernel/threads.ts';
import type { VariableMemory } from '../kernel/variable-memory.ts';
import { blocksOf, costOf, type Step } from '../kernel/work.ts';
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
 * `rateDivisor`. `progress` is told of them by their place in the list, as their blocks are done. Resolves to the sum of squares
 * of all that is taken from w, added up in the order of the updates and of their blocks, whoever does them.
 */
export async function applyUpdates(
  config: AdamaxConfig,
  iterations: number,
  updates: readonly Update[],
  executor: Executor,
  rateDivisor = 1,
  progress?: Progress,
): Promise<number> {
  const clip = clips(
    config,
    updates.map(({ scan }) => scan),
  );
  const scalars: Record<VariableDtype, StepScalars | undefined> = { F32: undefined, F64: undefined };
  const steps: Step[] = [];
  for (let k = 0; k < updates.length; k++) {
    const { memory, values, slices, updated } = updates[k] as Update;
    const own = scalars[memory.dtype] ?? stepScalars(config, iterations, memory.dtype, rateDivisor);
    scalars[memory.dtype] = own;
    const [gradient, itsClip] = [values, clip[k] as Clip];
    // Spelled out, since copies of objects by spreading are slow.
    const changes = undefined;
    if (slices === undefined)
      steps.push({ kind: 'dense', memory, gradient, clip: itsClip, scalars: own, updated, changes });
    else steps.push({ kind: 'sparse', memory, gradient, clip: itsClip, scalars: own, updated, changes, slices });
  }
  makeRoomForChanges(steps);
  await executor.run(steps, progress);
  return sumOfChanges(steps);
}

/** Where other threads can write, if they will. */
function makeRoomForChanges(steps: readonly Step[]): void {
  if (costOf(steps) <= blocksHere) {
    for (const step of steps) step.changes = new Float64Array(blocksOf(step));
    return;
  }
  const blocks = steps.reduce((sum, step) => sum + blocksOf(step), 0);
  const memory = new SharedArrayBuffer(blocks * Float64Array.BYTES_PER_ELEMENT);
  let at = 0;
  for (const step of steps) {
    step.changes = new Float64Array(memory, at, blocksOf(step));
    at += step.changes.byteLength;
  }
}

function sumOfChanges(steps: readonly Step[]): number {
  let sum = 0;
  for (const { changes = noChanges } of steps)
    for (let block = 0; block < changes.length; block++) sum += changes[block] as number;
  return sum;
}

const noChanges = new Float64Array(0);
