/**
 * Whole steps of one variable, as the server has them taken: through an executor, so that a snapshot is told of what will
 * change. Blocks of a step are step.test.ts's own.
 */
import { type Clip, noClip, type Values } from '../../src/kernel/blocks.ts';
import type { StepScalars } from '../../src/kernel/step.ts';
import { type Executor, here } from '../../src/kernel/threads.ts';
import type { VariableMemory } from '../../src/kernel/variable-memory.ts';
import { groupByRow } from '../../src/optimizer/indexed-slices.ts';

export interface StepGiven {
  readonly gradient: Values;
  readonly scalars: StepScalars;
  /** Receives the new values, of a sparse step those of the rows named, ascending. */
  readonly updated?: Values | undefined;
  readonly clip?: Clip;
  /** Receives the sums of squares of what is taken from w, block by block. */
  readonly changes?: Float64Array | undefined;
}

export function takeDense(memory: VariableMemory, given: StepGiven, executor: Executor = here): Promise<void> {
  return executor.run([{ kind: 'dense', memory, clip: noClip, updated: undefined, changes: undefined, ...given }]);
}

/** `indices` has the row of each slice. */
export async function takeSparse(
  memory: VariableMemory,
  indices: Float64Array,
  { gradient, scalars, updated, changes, clip = noClip }: StepGiven,
  executor: Executor = here,
): Promise<void> {
  const slices = groupByRow(indices);
  await executor.run([{ kind: 'sparse', memory, gradient, slices, clip, scalars, updated, changes }]);
}
