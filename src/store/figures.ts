/**
 * What the server has counted since it was started, of sessions that are gone too. A push that was applied is counted in each of
 * its stages; where several made one step, the last of them was its `journal` and `apply`, and the others' `wait` lasts until then.
 */
import { Histogram, secondsBounds } from '../histogram.ts';

/**
 * `read`: its body; `wait`: for its turn and for other workers; `check`: to decode and check it; `journal`: until its record is where
 * its level wants it, and the steps before it are applied; `apply`; `reply`: until the system has its last byte.
 */
export const stages = ['read', 'wait', 'check', 'journal', 'apply', 'reply'] as const;

export class Figures {
  /** Seconds, by stage of a push. */
  readonly stages = Object.fromEntries(stages.map((stage) => [stage, new Histogram(secondsBounds)])) as Readonly<
    Record<(typeof stages)[number], Histogram>
  >;
  /** Seconds that checkpoints took. */
  readonly checkpoints = new Histogram(secondsBounds);
}
