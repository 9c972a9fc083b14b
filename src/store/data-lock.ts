/**
 * One server for one data folder. The lock is a socket in the folder, `lock-<n>.sock`: while its owner lives, a connection
 * succeeds; when it dies, however it dies, connections are refused and the next server takes number n + 1. Process ids
 * would not do, since in containers every server has the same one.
 *
 * Two can never hold it: a socket listens before it is linked to its number, so a refusal means a dead owner; a link is
 * given to one; a number is only taken once its predecessor was found dead; and the highest one stays, even when it is
 * released, so that numbers only rise and who comes late with an old one finds a higher one.
 */
import { randomBytes } from 'node:crypto';
import { link, readdir, rm } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join, relative } from 'node:path';

/** Systems allow 103 to 107; beyond that, Node 20 would cut the path short without a word. */
const socketPathBytesMax = 103;

export class DataLock {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Throws if another server holds the folder. */
  static async acquire(folder: string): Promise<DataLock> {
    const unnumbered = join(folder, `lock-${randomBytes(4).toString('hex')}.tmp`);
    const server = await listen(unnumbered);
    try {
      await takeNumber(folder, unnumbered);
      return new DataLock(server);
    } catch (error) {
      server.close();
      throw error;
    } finally {
      await rm(unnumbered, { force: true });
    }
  }

  async release(): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function takeNumber(folder: string, unnumbered: string): Promise<void> {
  for (;;) {
    const highest = await highestNumber(folder);
    if (highest > 0 && (await answers(numbered(folder, highest)))) {
      throw inUse(folder);
    }
    const path = numbered(folder, highest + 1);
    if (!(await isLinked(unnumbered, path, folder))) continue;
    if ((await highestNumber(folder)) === highest + 1) return removeOthers(folder, path);
    await rm(path);
  }
}

function numbered(folder: string, number: number): string {
  return join(folder, `lock-${number}.sock`);
}

/** 0 if the folder has never been locked. */
async function highestNumber(folder: string): Promise<number> {
  const numbers = (await readdir(folder)).map((name) => Number(/^lock-(\d+)\.sock$/.exec(name)?.[1] ?? 0));
  return Math.max(0, ...numbers);
}

/** `false` where the number is taken. */
async function isLinked(unnumbered: string, path: string, folder: string): Promise<boolean> {
  try {
    await link(unnumbered, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    // Only a winner removes it, in `removeOthers`.
    throw code === 'ENOENT' ? inUse(folder) : error;
  }
}

/** Those with a number are dead, and those without one have come too late. */
async function removeOthers(folder: string, own: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (/^lock-(\d+\.sock|[0-9a-f]+\.tmp)$/.test(name) && path !== own) await rm(path, { force: true });
  }
}

export class FolderInUse extends Error {
  override readonly name = 'FolderInUse';
}

function inUse(folder: string): Error {
  return new FolderInUse(`one server at a time can use a data folder, and another one is using ${folder}`);
}

function listen(path: string): Promise<Server> {
  const short = socketPath(path);
  if (Buffer.byteLength(short) > socketPathBytesMax) {
    const rule = `a socket in it must have a path of at most ${socketPathBytesMax} bytes`;
    throw new Error(`${rule}. Received: ${Buffer.byteLength(short)} bytes, ${short}`);
  }
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', reject).listen(short, () => resolve(server.unref()));
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath(path));
    socket.once('connect', () => resolve(true));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT'));
    socket.once('connect', () => socket.destroy());
  });
}

/** The shorter of the two ways to write it. */
function socketPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short.length < path.length ? short : path;
}
