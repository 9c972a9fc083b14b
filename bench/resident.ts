/** The resident memory of another process, in bytes, as Linux tells it in /proc. */
import { readFileSync } from 'node:fs';

export interface Resident {
  readonly now: number;
  /** The most that it ever was. */
  readonly peak: number;
  /** Without the files that it has mapped, which are the system's to keep or to drop. */
  readonly own: number;
}

export function residentMemory(pid: number): Resident {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytes = (name: string): number => {
    const kibibytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1];
    if (kibibytes === undefined) throw new Error(`/proc/${pid}/status must have ${name}`);
    return Number(kibibytes) * 1024;
  };
  return { now: bytes('VmRSS'), peak: bytes('VmHWM'), own: bytes('RssAnon') + bytes('RssShmem') };
}
