// A server of its own for the examples: started as a user would start it, on a free port of this machine and an empty
// data folder, and stopped and swept up afterwards.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SERVER = join(ROOT, 'dist/src/server.js');
const HOST = '127.0.0.1';
const READY_TIMEOUT_MS = 30_000;
const POLL_MS = 50;

export interface Server {
  url: string;
  stop(): Promise<void>;
}

/** Resolves once the server is ready. Builds it first where that has not been done. */
export async function startServer(): Promise<Server> {
  if (!existsSync(SERVER)) execFileSync('npm', ['run', '--silent', 'build'], { cwd: ROOT, stdio: 'inherit' });
  const folder = await mkdtemp(join(tmpdir(), 'adamax-example-'));
  const port = await freePort();
  const child = spawn(process.execPath, [SERVER], {
    // None of the caller's settings: neither variables nor a .env file.
    cwd: folder,
    env: { PATH: process.env.PATH, HOST, PORT: String(port), DATA_DIR: join(folder, 'data'), LOG_LEVEL: 'warn' },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  let stopping = false;
  const exited = new Promise<void>((resolve) =>
    child.once('exit', (code, signal) => {
      if (!stopping) console.error(`server must run until it is stopped. Received: ${signal ?? `exit code ${code}`}`);
      resolve();
    }),
  );
  const stop = async () => {
    stopping = true;
    child.kill('SIGTERM');
    await exited;
    await rm(folder, { recursive: true, force: true });
  };
  const url = `http://${HOST}:${port}`;
  try {
    await ready(url, child);
  } catch (error) {
    await stop();
    throw error;
  }
  return { url, stop };
}

async function ready(url: string, child: ChildProcess): Promise<void> {
  for (const deadline = Date.now() + READY_TIMEOUT_MS; Date.now() < deadline; await sleep(POLL_MS)) {
    if (child.exitCode !== null) throw new Error('server must start');
    const response = await fetch(`${url}/readyz`).catch(() => null); // refused until it listens
    if (response?.ok) return;
  }
  throw new Error(`server must be ready within ${READY_TIMEOUT_MS} ms`);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, HOST, () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
