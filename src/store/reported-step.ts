/** A step that is applied, and what of it is told: whose it was, and the lengths of its gradients and of what they did. */
import type { Progress } from '../kernel/threads.ts';
import type { Session, Step } from '../session/session.ts';
import type { Origin } from '../session/workers.ts';
import type { StepReport } from './session-events.ts';

export async function applyStep(session: Session, step: Step, progress?: Progress): Promise<StepReport> {
  let sumSquares = 0;
  for (const { scan } of step.updates) sumSquares += scan.sumSquares;
  const changed = await session.apply(step, progress);
  const gradientNorm = Math.sqrt(sumSquares);
  const updateNorm = Math.sqrt(changed);
  const { by } = step.origin;
  if (by.length > 1)
    return { gradientNorm, updateNorm, worker: null, staleness: by[0]?.staleness ?? null, workers: namesOf(by) };
  return { gradientNorm, updateNorm, worker: by[0]?.worker ?? null, staleness: by[0]?.staleness ?? null };
}

function namesOf(by: Origin['by']): string[] {
  return by.flatMap(({ worker }) => worker ?? []);
}
