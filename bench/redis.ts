/** Redis in a process of its own, on a free port of 127.0.0.1 and in a folder of the run. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Children } from './children.ts';
import { freePort } from './server.ts';

const command = 'redis-server';
const startSecondsMax = 10;
const lookMs = 20;

export function hasRedis(): boolean {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** Each value is on the disk before it is acknowledged. Returns the port when it listens. */
export async function startRedis(children: Children): Promise<number> {
  const port = await freePort();
  const options = {
    bind: '127.0.0.1',
    port: String(port),
    dir: children.emptyFolder('redis'),
    save: '',
    appendonly: 'yes',
    appendfsync: 'always',
    'auto-aof-rewrite-percentage': '0',
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  const child = children.spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const deadline = performance.now() + startSecondsMax * 1000;
  while (!(await listens(port))) {
    if (child.exitCode !== null) throw new Error(`${command} must start. It exited with ${child.exitCode}`);
    if (performance.now() > deadline) throw new Error(`${command} must listen within ${startSecondsMax} s`);
    await sleep(lookMs);
  }
  return port;
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
