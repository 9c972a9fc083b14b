/**
 * One server for one data folder. The lock is a socket in the folder: while its owner lives, a connection succeeds; when
 * it dies, however it dies, connections are refused and the next server takes over. Process ids would not do, since in
 * containers every server has the same one.
 */
import { lstat, rename, rm } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join, relative } from 'node:path';

export class DataLock {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Throws if another server holds the folder. */
  static async acquire(folder: string): Promise<DataLock> {
    const path = join(folder, 'lock.sock');
    for (let attempt = 0; attempt < 5; attempt++) {
      const server = await listen(path);
      if (server !== undefined) return new DataLock(server);
      if (await answers(path)) break;
      await setAside(path);
    }
    throw new Error(`one server at a time can use a data folder, and another one is using ${folder}`);
  }

  async release(): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A socket path is short (about 100 bytes), so the shorter of the two ways to write it is used. */
function socketPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short.length < path.length ? short : path;
}

function listen(path: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error),
    );
    server.listen(socketPath(path), () => resolve(server.unref()));
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath(path));
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** Takes a dead socket away; moved first, so that a server that came alive in between is noticed and put back. */
async function setAside(path: string): Promise<void> {
  const aside = `${path}.${process.pid}.${Date.now()}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  const taken = await lstat(path).then(
    () => true,
    () => false,
  );
  if (!taken && (await answers(aside))) await rename(aside, path);
  else await rm(aside, { force: true });
}
