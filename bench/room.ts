/** Whether the disk under a folder has room for a benchmark, and is one. */
import { statfsSync } from 'node:fs';

const tmpfs = 0x0102_1994;

/** `undefined` where it has so many bytes free; else what is missing. */
export function lackOfRoom(folder: string, bytes: number): string | undefined {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize < bytes ? 'not enough disk here' : undefined;
}

/** As `lackOfRoom`, for what is meant to wait for a disk. */
export function lackOfDisk(folder: string, bytes: number): string | undefined {
  return statfsSync(folder).type === tmpfs ? 'the temporary folder is in memory here' : lackOfRoom(folder, bytes);
}
