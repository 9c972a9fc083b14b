/** Latencies of pushes, one by one, in milliseconds: how they are taken, beside what, and the two figures of them. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Of the windows of time by which a load under change is told. */
export const windowMs = 100;

export interface Latencies {
  readonly median: number;
  readonly p99: number;
}

/**
 * One push every `everyMs`, whether or not those before it are over. So a server that stands still for 100 ms delays as
 * many pushes as clients would have sent meanwhile, where one client that waits for each reply would see one late push.
 */
export async function steadyPushes(push: () => Promise<void>, count: number, everyMs: number): Promise<Latencies> {
  const start = performance.now();
  const sent: Promise<number>[] = [];
  while (sent.length < count) {
    await sleep(start + sent.length * everyMs - performance.now());
    sent.push(timed(push));
  }
  return summary(await Promise.all(sent));
}

/** Each push as soon as the one before it is over. */
export async function pushesInTurn(push: () => Promise<void>, count: number): Promise<Latencies> {
  const taken: number[] = [];
  while (taken.length < count) taken.push(await timed(push));
  return summary(taken);
}

/** Does something over and over until `measure` is done. */
export async function beside<T>(task: () => Promise<unknown>, measure: () => Promise<T>): Promise<T> {
  let running = true;
  const repeat = async (): Promise<void> => {
    while (running) await task();
  };
  const repeated = repeat();
  try {
    return await measure();
  } finally {
    running = false;
    await repeated;
  }
}

async function timed(push: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await push();
  return performance.now() - start;
}

export function summary(latencies: readonly number[]): Latencies {
  const sorted = latencies.toSorted((a, b) => a - b);
  const percentile = (percent: number) => sorted[Math.ceil((percent / 100) * sorted.length) - 1] as number;
  return { median: percentile(50), p99: percentile(99) };
}
