/** The server under test, as built, in a process of its own, and what the benchmarks ask of it besides pushes. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Children } from './children.ts';

const script = join(import.meta.dirname, '../dist/src/server.js');
const startSecondsMax = 30;
/** Between two looks at whether the server is ready: no start is measured more finely. */
const lookMs = 5;

/** Starts it on a data folder, an empty one if none is given, with other variables of its environment; waits until it is ready. */
export async function startServer(
  children: Children,
  folder = children.emptyFolder('data'),
  secondsMax = startSecondsMax,
  others: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const port = await freePort();
  const environment = { HOST: '127.0.0.1', PORT: String(port), DATA_DIR: folder, LOG_LEVEL: 'warn', ...others };
  const started = performance.now();
  const child = children.spawn(process.execPath, [script], {
    cwd: folder,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const deadline = started + secondsMax * 1000;
  while (!(await isReady(port))) {
    if (child.exitCode !== null) throw new Error(`the server must start. It exited with ${child.exitCode}`);
    if (performance.now() > deadline) throw new Error(`the server must be ready within ${secondsMax} s`);
    await sleep(lookMs);
  }
  return new Server(children, child, port, (performance.now() - started) / 1000);
}

export class Server {
  readonly port: number;
  /** From the start of the process until it was ready. */
  readonly startedInSeconds: number;
  readonly #children: Children;
  readonly #child: ChildProcess;
  #sessions = 0;

  constructor(children: Children, child: ChildProcess, port: number, startedInSeconds: number) {
    this.#children = children;
    this.#child = child;
    this.port = port;
    this.startedInSeconds = startedInSeconds;
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('the server must run');
    return this.#child.pid;
  }

  /**
   * A session with these F32 variables, all zeros, by their shapes; returns its path. No checkpoint but the one of the
   * creation, so that pushes alone are measured; nothing is kept of the journal that a restart does not need.
   */
  async createSession(
    shapes: Record<string, readonly number[]>,
    durability: 'checkpoint' | 'always' = 'checkpoint',
  ): Promise<string> {
    const path = `/v1/sessions/session-${++this.#sessions}`;
    await this.call('PUT', path, {
      variables: Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, { shape }])),
      durability,
      checkpointing: { every_steps: null, every_seconds: null, keep: 1, keep_journal_steps: 0 },
    });
    return path;
  }

  /** The text of the reply. Throws unless the request succeeds. */
  async call(method: string, path: string, body?: object): Promise<string> {
    const content = body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, { method, ...content });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} must succeed. Received: ${text}`);
    return text;
  }

  /** Ends it as an operator does. */
  stop(): Promise<void> {
    return this.#children.end(this.#child);
  }

  /** Ends it as a crash does. */
  kill(): Promise<void> {
    return this.#children.end(this.#child, 'SIGKILL');
  }
}

async function isReady(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/readyz`)).ok;
  } catch {
    return false;
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
