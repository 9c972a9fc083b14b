/** A step that is applied, and what of it is told: the lengths of its gradients and of what they did. */
import type { Progress } from '../kernel/threads.ts';
import type { Session, Step } from '../session/session.ts';
import type { StepReport } from './session-events.ts';

export async function applyStep(
  session: Session,
  step: Step,
  progress?: Progress,
): Promise<Pick<StepReport, 'gradientNorm' | 'updateNorm'>> {
  let sumSquares = 0;
  for (const { scan } of step.updates) sumSquares += scan.sumSquares;
  await session.apply(step, progress);
  // Until a step tells how far it moved the variables.
  const updateNorm = 0;
  return { gradientNorm: Math.sqrt(sumSquares), updateNorm };
}
