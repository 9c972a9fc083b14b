/** Durable file operations: what they leave behind is on the disk, whole, or is not there at all. */
import { mkdir, open, readdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Problem } from '../errors.ts';

/** Writes a file that appears under its name only when its bytes are on the disk. */
export async function writeFileDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    const file = await open(temporary, 'w');
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await renameDurably(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** Renames, and makes the change of the folders durable. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(dirname(to));
  if (dirname(from) !== dirname(to)) await syncFolder(dirname(from));
}

export async function removeDurably(path: string): Promise<void> {
  await rm(path, { force: true });
  await syncFolder(dirname(path));
}

/** Removes what a crash left of files that were being written. Others in the folder are not touched. */
export async function removeUnfinished(folder: string): Promise<void> {
  const names = await readdir(folder);
  for (const name of names) {
    const [, file] = /^(ckpt-\d+\.safetensors|ckpt-\d+\.safetensors\.sha256|session\.json)\.tmp$/.exec(name) ?? [];
    if (file === undefined) continue;
    // A checkpoint's SHA-256 has its name already when the checkpoint has not.
    if (!names.includes(file)) await rm(join(folder, `${file}.sha256`), { force: true });
    await rm(join(folder, name));
  }
}

/** Makes a folder, and those that it is in. Unlike `mkdir` with `recursive`, it says so where the disk is full. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT') throw error;
    await makeFolder(dirname(path));
    await makeFolder(path);
  }
}

export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Of all these files; one that is not there has none. */
export async function bytesOf(paths: readonly string[]): Promise<number> {
  const sizes = await Promise.all(paths.map((path) => stat(path).catch(() => undefined)));
  return sizes.reduce((sum, found) => sum + (found?.size ?? 0), 0);
}

/** Of the disk that a folder is on: bytes in all, and those that are free for this process; `undefined` where it does not say. */
export async function diskSpace(path: string): Promise<{ bytes: number; free: number } | undefined> {
  const found = await statfs(path).catch(() => undefined);
  return found && { bytes: found.blocks * found.bsize, free: found.bavail * found.bsize };
}

/** A failed call of the file system as the problem that it is for a client; other errors as they are. */
export function storageProblem(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (error instanceof Problem || typeof code !== 'string' || !('syscall' in (error as object))) return error;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new Problem('insufficient_storage', 'the disk must have room for what is written. It is full', {
      cause: error,
    });
  }
  return new Problem('storage_failed', `the disk must take what is written to it. It failed: ${code}`, {
    cause: error,
    headers: { 'retry-after': '10' },
  });
}
