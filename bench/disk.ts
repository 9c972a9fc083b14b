/**
 * A child: what a disk and its file system do by themselves. Told to, it writes a file from one warm piece of 1 MiB and
 * forces it to the disk, or reads a whole file into memory, and answers with the seconds that it took.
 */
import { closeSync, fdatasyncSync, fsyncSync, openSync, readFile, rmSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';

/** How a file is forced to the disk: with all that the file system says of it, or as much as it takes to find the bytes. */
export type Sync = 'fsync' | 'fdatasync';

export type DiskOrder =
  | { readonly write: string; readonly bytes: number; readonly sync: Sync }
  | { readonly read: string };

const piece = Buffer.alloc(1024 * 1024, 1);

function write(path: string, bytes: number, sync: Sync): number {
  const start = performance.now();
  const file = openSync(path, 'w');
  for (let left = bytes; left > 0; ) left -= writeSync(file, piece, 0, Math.min(left, piece.length));
  if (sync === 'fsync') fsyncSync(file);
  else fdatasyncSync(file);
  closeSync(file);
  const seconds = (performance.now() - start) / 1000;
  rmSync(path);
  return seconds;
}

async function read(path: string): Promise<number> {
  const start = performance.now();
  await promisify(readFile)(path);
  return (performance.now() - start) / 1000;
}

process.on('message', async (order: DiskOrder) => {
  process.send?.('write' in order ? write(order.write, order.bytes, order.sync) : await read(order.read));
});
process.on('disconnect', () => process.exit());
