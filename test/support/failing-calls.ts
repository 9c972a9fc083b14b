/**
 * System calls of a server process that fail on demand while it runs: those that change files below its data folder, counted
 * from the moment of arming, the n-th one, or all from it on. faults/failing-calls.c does it inside the process.
 */
import { execFile } from 'node:child_process';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { temporaryFolder } from './server-process.ts';

const run = promisify(execFile);
const source = fileURLToPath(new URL('../faults/failing-calls.c', import.meta.url));

/** As in the source. */
const bits = { open: 1, write: 2, sync: 4, rename: 8, truncate: 16, remove: 32, mkdir: 64 } as const;
const fields = ['kinds', 'at', 'lasting', 'error', 'torn', 'calls', 'failed'] as const;

/** `open` for writing, every form of `write`, `fsync` and `fdatasync`, `rename` and `link`, and so on. */
export type Kind = keyof typeof bits;
export const kinds = Object.keys(bits) as readonly Kind[];

export interface Fault {
  /** Those that count. */
  readonly kinds: readonly Kind[];
  /** Which call fails, from 0 on; none if there are fewer. */
  readonly at: number;
  readonly code: 'EIO' | 'ENOSPC';
  /** All calls from that one on fail. */
  readonly lasting?: boolean;
  /** A failing write leaves half of its bytes behind. */
  readonly torn?: boolean;
}

export class FailingCalls {
  /** For the server process. */
  readonly env: Readonly<Record<string, string>>;
  readonly #control: number;

  private constructor(control: number, env: Readonly<Record<string, string>>) {
    this.#control = control;
    this.env = env;
  }

  /** For servers over this data folder, which must be there; where it cannot be done, the test is skipped. */
  static async prepare(t: TestContext, dataDir: string): Promise<FailingCalls | undefined> {
    const folder = await temporaryFolder(t);
    const library = join(folder, 'failing-calls.so');
    if (!(await present('getconf', ['GNU_LIBC_VERSION']))) {
      t.skip('calls can be made to fail with the GNU C library only');
      return undefined;
    }
    if (!(await present('cc', ['--version']))) {
      t.skip('there is no C compiler');
      return undefined;
    }
    await run('cc', ['-shared', '-fPIC', '-O1', '-Wall', '-Wextra', '-Werror', '-o', library, source, '-ldl']);
    const path = join(folder, 'control');
    await writeFile(path, new Uint8Array(4 * fields.length));
    const control = openSync(path, 'r+');
    t.after(() => closeSync(control));
    return new FailingCalls(control, {
      LD_PRELOAD: library,
      FAILING_CALLS_CONTROL: path,
      FAILING_CALLS_FOLDER: dataDir,
    });
  }

  arm({ kinds, at, code, lasting = false, torn = false }: Fault): void {
    this.clear();
    const mask = kinds.reduce((sum, kind) => sum | bits[kind], 0);
    const error = constants.errno[code];
    const rest = { at, lasting: Number(lasting), error, torn: Number(torn), calls: 0, failed: 0 };
    this.#write(1, Object.values(rest));
    // Last, so that no call is counted that is judged by half of it.
    this.#write(0, [mask]);
  }

  clear(): void {
    this.#write(0, [0]);
  }

  /** How many calls failed since the last arming. */
  get failed(): number {
    const values = new Uint32Array(fields.length);
    readSync(this.#control, values, 0, values.byteLength, 0);
    return values[fields.indexOf('failed')] as number;
  }

  #write(field: number, values: readonly number[]): void {
    writeSync(this.#control, Uint32Array.from(values), 0, undefined, 4 * field);
  }
}

function present(command: string, values: readonly string[]): Promise<boolean> {
  return run(command, values).then(
    () => true,
    () => false,
  );
}
