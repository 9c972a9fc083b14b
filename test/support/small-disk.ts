/** A real disk that is soon full: a file system of 8 MB or so in memory, where the test may mount one. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);
export const megabyte = 1024 * 1024;

/** A folder of so many megabytes, until the test ends; where nothing can be mounted, the test is skipped. */
export async function mountSmallDisk(t: TestContext, megabytes = 8): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'adamax-'));
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder]);
  } catch (error) {
    await rmdir(folder);
    t.skip(`nothing can be mounted here: ${(error as Error).message.trim()}`);
    return undefined;
  }
  // Lazily, since the hooks that close the server come after this one.
  t.after(async () => {
    await run('umount', ['--lazy', folder]);
    await rmdir(folder);
  });
  return folder;
}

/** From here on the disk takes no writes. */
export async function makeReadOnly(folder: string): Promise<void> {
  await run('mount', ['-o', 'remount,ro', folder]);
}

/** Takes so many bytes away, and returns what gives them back. */
export async function takeSpace(folder: string, bytes: number): Promise<() => Promise<void>> {
  const path = join(folder, 'filler');
  await writeFile(path, Buffer.alloc(bytes));
  return () => rm(path);
}
