/**
 * A child: what lmdb does by itself. So many callers at once put values of the same size, each its next one when the last one
 * is on the disk. The options are those of the journal's file (src/journal/journal-file.ts), the keys as long as its own; lmdb
 * itself decides which values share a transaction. Arguments: file, bytes of a value, callers.
 */
import { open } from 'lmdb';
import { databaseOptions } from '../src/journal/journal-entries.ts';

const [path, bytes, callers] = process.argv.slice(2) as [string, string, string];
const value = Buffer.alloc(Number(bytes), 1);
let puts = 0;

const db = open<Buffer, Buffer>({ path, ...databaseOptions });

function nextKey(): Buffer {
  const key = Buffer.alloc(21, 1);
  key.writeDoubleBE(++puts, 9);
  return key;
}

async function put(times: number): Promise<number> {
  const start = performance.now();
  let left = times;
  const caller = async (): Promise<void> => {
    while (left-- > 0) await db.put(nextKey(), value);
  };
  await Promise.all(Array.from({ length: Number(callers) }, caller));
  return (performance.now() - start) / 1000;
}

process.on('message', async (times: number) => {
  process.send?.(await put(times));
});
process.on('disconnect', () => process.exit());
