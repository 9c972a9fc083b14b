/**
 * The processes and the temporary folder of a run. None of them outlives it: children are killed when their benchmark
 * ends, when it fails, and when the run itself is interrupted. What they do is left to the files that start them.
 */
import { type ChildProcess, fork, type Serializable, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Work } from './pairs.ts';

export class Children {
  readonly folder = mkdtempSync(join(tmpdir(), 'adamax-bench-'));
  readonly #running = new Set<ChildProcess>();

  constructor() {
    process.once('exit', () => {
      for (const child of this.#running) child.kill('SIGKILL');
      rmSync(this.folder, { recursive: true, force: true });
    });
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  }

  spawn(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
    return this.#watch(spawn(command, args, options));
  }

  /** Starts a script of this folder, with a channel for messages. */
  fork(script: string, ...args: readonly string[]): ChildProcess {
    return this.#watch(fork(join(import.meta.dirname, script), args));
  }

  /** Starts a script that sends its port as soon as it listens. */
  async forkServer(script: string, ...args: readonly string[]): Promise<number> {
    return (await nextMessage(this.fork(script, ...args))) as number;
  }

  /** Ends one, as an operator does unless said otherwise, and waits until it is gone. */
  async end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (!this.#running.has(child)) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  }

  /** An empty folder within the run's own. */
  emptyFolder(name: string): string {
    const folder = join(this.folder, name);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    return folder;
  }

  /** Kills them all, since nothing that they hold is wanted any more, and waits until they are gone. */
  async stop(): Promise<void> {
    const exits = [...this.#running].map((child) => once(child, 'exit'));
    for (const child of this.#running) child.kill('SIGKILL');
    await Promise.all(exits);
  }

  #watch(child: ChildProcess): ChildProcess {
    this.#running.add(child);
    child.once('exit', () => this.#running.delete(child));
    child.once('error', () => this.#running.delete(child));
    return child;
  }
}

/** What a forked child does so many times when it gets the order, and answers with the seconds that it took. */
export function doneBy(child: ChildProcess, order: (times: number) => Serializable): Work {
  return async (times) => {
    const answer = nextMessage(child);
    child.send(order(times));
    return (await answer) as number;
  };
}

/** The next message of a forked child. Throws if it exits instead. */
export async function nextMessage(child: ChildProcess): Promise<unknown> {
  const settled = new AbortController();
  const { signal } = settled;
  const exit = once(child, 'exit', { signal }).then(([code]) => {
    throw new Error(`a child must answer. It exited with ${code}`);
  });
  exit.catch(() => undefined);
  try {
    const [message] = await Promise.race([once(child, 'message', { signal }), exit]);
    return message;
  } finally {
    settled.abort();
  }
}
