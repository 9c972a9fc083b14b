/** The server under test, as built, in a process of its own on an empty data folder. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Children } from './children.ts';

const script = join(import.meta.dirname, '../dist/src/server.js');
const startSeconds = 30;

export interface Server {
  readonly port: number;
  /** Creates a session with one F32 variable `w` and returns the path that takes its gradients. */
  createSession(shape: readonly number[]): Promise<string>;
}

export async function startServer(children: Children): Promise<Server> {
  const port = await freePort();
  const folder = children.emptyFolder('data');
  const environment = { HOST: '127.0.0.1', PORT: String(port), DATA_DIR: folder, LOG_LEVEL: 'warn' };
  const child = children.spawn(process.execPath, [script], {
    cwd: folder,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const url = `http://127.0.0.1:${port}`;
  const deadline = performance.now() + startSeconds * 1000;
  while (!(await isReady(url))) {
    if (child.exitCode !== null) throw new Error(`the server must start. It exited with ${child.exitCode}`);
    if (performance.now() > deadline) throw new Error(`the server must be ready within ${startSeconds} s`);
    await sleep(50);
  }
  return { port, createSession: (shape) => createSession(url, shape) };
}

/** No checkpoint but the one of the creation, so that pushes alone are measured. */
async function createSession(url: string, shape: readonly number[]): Promise<string> {
  const path = `/v1/sessions/of-${shape.join('-')}`;
  const body = JSON.stringify({
    variables: { w: { shape } },
    durability: 'checkpoint',
    checkpointing: { every_steps: null, every_seconds: null },
  });
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url + path, { method: 'PUT', headers, body });
  if (response.status !== 201) throw new Error(`a session must be created. Received: ${await response.text()}`);
  return `${path}/gradients`;
}

async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/readyz`)).ok;
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
