/** What a push is told about the variables that its gradients are of: which were too old, and what age costs. */
import { Problem } from '../errors.ts';
import type { AsyncAggregation } from '../session/aggregation.ts';
import type { Position } from '../session/session.ts';

/** Throws for gradients of variables that have not been yet. */
export function requirePast(base: number | undefined, { iterations }: Position): void {
  if (base === undefined || base <= iterations) return;
  throw new Problem(
    'invalid_argument',
    `base must be at most the session's iterations, ${iterations}. Received: ${base}`,
  );
}

/** What the learning rate is divided by. Throws `gradient_stale` for a gradient that is refused for its staleness. */
export function rateDivisor(
  { max_staleness, staleness_policy }: AsyncAggregation,
  staleness: number | undefined,
  from: Position,
): number {
  if (max_staleness === undefined && staleness_policy !== 'scale') return 1;
  if (staleness === undefined) throw needed('"base" where the session looks at staleness', 'none');
  if (staleness <= (max_staleness ?? 0)) return 1;
  if (staleness_policy === 'scale') return staleness;
  const base = from.iterations - staleness;
  const rule = `base must be at most ${max_staleness} behind the session's iterations, ${from.iterations}`;
  throw stale(`${rule}. Received: ${base}`, from);
}

export function stale(detail: string, { iterations }: Position): Problem {
  return new Problem('gradient_stale', detail, { iterations });
}

export function needed(what: string, received: string): Problem {
  return new Problem('invalid_parameter', `a push must name its ${what}. Received: ${received}`);
}
