/** disk.ts as a process. */
import type { ChildProcess } from 'node:child_process';
import { type Children, nextMessage } from './children.ts';
import type { DiskOrder, Sync } from './disk.ts';
import type { Work } from './pairs.ts';

export class Disk {
  readonly #child: ChildProcess;

  constructor(children: Children) {
    this.#child = children.fork('disk.ts');
  }

  /** Writes a file of so many bytes, forces it to the disk and, untimed, removes it. */
  write(path: string, bytes: number, sync: Sync = 'fsync'): Work {
    return this.#work({ write: path, bytes, sync });
  }

  /** Reads a whole file into memory. */
  read(path: string): Work {
    return this.#work({ read: path });
  }

  #work(order: DiskOrder): Work {
    return async (times) => {
      let seconds = 0;
      for (let k = 0; k < times; k++) {
        const answer = nextMessage(this.#child);
        this.#child.send(order);
        seconds += (await answer) as number;
      }
      return seconds;
    };
  }
}
