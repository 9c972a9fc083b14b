/** A folder's files by their paths, to compare folders. */
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';

/** Without sockets, and without the files whose names `left` matches; folders have `null`. */
export async function contentsOf(folder: string, left?: RegExp): Promise<Record<string, string | null>> {
  const contents: Record<string, string | null> = {};
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    if (left?.test(entry.name)) continue;
    if (entry.isDirectory()) contents[relative(folder, path)] = null;
    else if (entry.isFile()) contents[relative(folder, path)] = await readFile(path, 'latin1');
  }
  return Object.fromEntries(Object.entries(contents).sort(([a], [b]) => (a < b ? -1 : 1)));
}
