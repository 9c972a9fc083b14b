/** What there is to tell about a session's workers: what its state knows of them, and what the server has seen. */
import type { Workers } from '../session/workers.ts';
import type { WorkerWatch } from './worker-watch.ts';

export interface WorkerView {
  readonly name: string;
  /** RFC 3339, UTC; `undefined` if it was not heard of since the server has the session. */
  readonly lastSeen: string | undefined;
  readonly steps: number;
  /** Of the steps whose staleness is known. */
  readonly meanStaleness: number | undefined;
  readonly lastStaleness: number | undefined;
  readonly rejected: number;
  readonly waiting: boolean;
  readonly quarantined: boolean;
}

/** How many there are to tell about, and how many of them are put aside. */
export function countWorkers(workers: Workers, watch: WorkerWatch): { known: number; quarantined: number } {
  let known = 0;
  let quarantined = 0;
  for (const name of watch.names) if (workers.get(name) === undefined) known++;
  for (const [, progress] of workers.entries()) {
    known++;
    if (progress.quarantined) quarantined++;
  }
  return { known, quarantined };
}

/** By name. */
export function viewWorkers(workers: Workers, watch: WorkerWatch): WorkerView[] {
  const names = new Set([...watch.names, ...[...workers.entries()].map(([name]) => name)]);
  return [...names].sort().map((name) => {
    const progress = workers.get(name);
    const watched = watch.get(name);
    return {
      name,
      lastSeen: watched && new Date(performance.timeOrigin + watched.seen).toISOString(),
      steps: progress?.steps ?? 0,
      meanStaleness: progress && progress.known > 0 ? progress.staleness / progress.known : undefined,
      lastStaleness: progress?.last,
      rejected: watched?.rejected ?? 0,
      waiting: watched !== undefined && watched.waiting > 0,
      quarantined: progress?.quarantined ?? false,
    };
  });
}
