// Worker processes: starting them, and the reports that they send home for the progress line. What they train goes to
// the server over HTTP; nothing of it passes through here. `runWorkers` is for one training, a pool for several.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** What a worker says after each step: the session's step counter, the batch's loss, and how many steps others made meanwhile. */
export interface Report {
  iterations: number;
  loss: number;
  staleness: number;
}

/** What workers train, and the `iterations` at which that ends. */
export interface Training {
  session: string;
  steps: number;
}

/** In the place of a session's name: the parent will say what to train. */
const WAIT = '-';
const READY = 'ready';

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
  const end = killedWithParent(processes);
  try {
    await Promise.all(processes.map(finished));
  } finally {
    end();
  }
}

/** Worker processes that stay, train one session after another, and begin each together. */
export class WorkerPool {
  readonly stop: () => void;
  readonly #processes: ChildProcess[];

  /** `slowness`: of each worker, how many times as long as need be a gradient takes it. */
  constructor(script: string, url: string, slowness: number[]) {
    const path = fileURLToPath(new URL(script, import.meta.url));
    const { length } = slowness;
    this.#processes = slowness.map((times, worker) => fork(path, [url, WAIT, worker, length, times].map(String)));
    this.stop = killedWithParent(this.#processes);
  }

  /** Resolves when all of them are up. To be called once, before anything else. */
  async ready(): Promise<void> {
    await Promise.all(this.#processes.map(ready));
  }

  /** Resolves when all of them are through, to how many milliseconds the first was through after. */
  async train(training: Training): Promise<number> {
    const startedAt = performance.now();
    const through = this.#processes.map(ready);
    for (const process of this.#processes) process.send(training);
    const first = Promise.race(through).then(() => performance.now() - startedAt);
    return (await Promise.all([first, ...through]))[0];
  }
}

/** In a worker: the arguments that its parent gave it. */
export function workerArguments(): Record<'url' | 'session', string> &
  Record<'worker' | 'workers' | 'slowness', number> {
  const [url = '', session = '', worker, workers, slowness = 1] = process.argv.slice(2);
  return { url, session, worker: Number(worker), workers: Number(workers), slowness: Number(slowness) };
}

/** In a worker: what to train, which is what its arguments say or, in a pool, one thing after another. */
export async function* trainings(steps: number): AsyncGenerator<Training> {
  const { session } = workerArguments();
  if (session !== WAIT) yield { session, steps };
  else {
    for (;;) {
      const next = once(process, 'message');
      process.send?.(READY);
      yield (await next)[0];
    }
  }
}

/** In a worker: sends a report home. Without a parent (started by hand) nobody listens. */
export function report(report: Report): void {
  process.send?.(report);
}

/** Returns what ends the processes. They also end when this one is told to. */
function killedWithParent(processes: ChildProcess[]): () => void {
  const kill = () => {
    for (const process of processes) process.kill();
  };
  process.once('SIGINT', kill).once('SIGTERM', kill);
  return () => {
    kill();
    process.off('SIGINT', kill).off('SIGTERM', kill);
  };
}

/** Resolves when the worker says so; other messages are reports. Rejects when it ends before. */
function ready(process: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      process.off('message', onMessage).off('exit', onExit).off('error', settle);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onMessage = (message: unknown) => {
      if (message === READY) settle();
    };
    const onExit = (code: number | null, signal: NodeJS.Signals | null) =>
      settle(new Error(`worker must stay until it is stopped. Received: ${code ?? signal}`));
    process.on('message', onMessage).on('exit', onExit).on('error', settle);
  });
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
