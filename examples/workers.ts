// Worker processes: starting them, and the reports that they send home for the progress line. What they train goes to
// the server over HTTP; nothing of it passes through here.

import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** What a worker says after each step: the session's step counter, the batch's loss, and how many steps others made meanwhile. */
export interface Report {
  iterations: number;
  loss: number;
  staleness: number;
}

/** Runs `workers` processes of `script` (beside this file) until all are done. Throws when one of them fails. */
export async function runWorkers(
  script: string,
  { url, session, workers }: { url: string; session: string; workers: number },
  onReport: (report: Report) => void,
): Promise<void> {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const processes = Array.from({ length: workers }, (_, worker) =>
    fork(path, [url, session, String(worker), String(workers)]).on('message', onReport),
  );
  const kill = () => {
    for (const process of processes) process.kill();
  };
  process.once('SIGINT', kill).once('SIGTERM', kill);
  try {
    await Promise.all(processes.map(finished));
  } finally {
    kill();
    process.off('SIGINT', kill).off('SIGTERM', kill);
  }
}

/** In a worker: the arguments that `runWorkers` gave it. */
export function workerArguments(): { url: string; session: string; worker: number; workers: number } {
  const [url = '', session = '', worker, workers] = process.argv.slice(2);
  return { url, session, worker: Number(worker), workers: Number(workers) };
}

/** In a worker: sends a report home. Without a parent (started by hand) nobody listens. */
export function report(report: Report): void {
  process.send?.(report);
}

function finished(process: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    process.once('error', reject);
    process.once('exit', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`worker must exit with 0. Received: ${code ?? signal}`));
    });
  });
}
