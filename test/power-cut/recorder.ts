/**
 * Runs a process under shim.c: the variables to start it with, and what the log has so far. It takes Linux with glibc and a
 * C compiler; elsewhere there is a reason to skip the test.
 */
import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { mkdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { temporaryFolder } from '../support/server-process.ts';
import { type Entry, readOperationLog } from './operation-log.ts';

const run = promisify(execFile);
const source = join(import.meta.dirname, 'shim.c');

export class Recorder {
  /** Whose files are recorded. */
  readonly folder: string;
  readonly #log: string;
  readonly #shim: string;

  private constructor(base: string) {
    this.folder = join(base, 'data');
    this.#log = join(base, 'operations.log');
    this.#shim = join(base, 'shim.so');
  }

  /** With an empty folder. Skips the test where nothing can be recorded. */
  static async create(t: TestContext): Promise<Recorder | undefined> {
    const reason = await unfit();
    if (reason !== undefined) {
      t.skip(reason);
      return undefined;
    }
    const recorder = new Recorder(await realpath(await temporaryFolder(t)));
    await run('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-o', recorder.#shim, source, '-ldl']);
    await mkdir(recorder.folder);
    return recorder;
  }

  /** For the process. What it starts itself is not recorded. */
  get env(): Record<string, string> {
    return {
      LD_PRELOAD: this.#shim,
      POWER_CUT_FOLDER: this.folder,
      POWER_CUT_LOG: this.#log,
      // Calls that go past libc go past the shim.
      UV_USE_IO_URING: '0',
    };
  }

  /** Where the log ends now. Whatever the process had done when it sent what has just arrived lies before. */
  position(): number {
    return statSync(this.#log).size;
  }

  async entries(): Promise<Entry[]> {
    return readOperationLog(await readFile(this.#log));
  }
}

async function unfit(): Promise<string | undefined> {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  if (header.glibcVersionRuntime === undefined) return 'a preloaded library takes Linux with glibc';
  try {
    await run('cc', ['--version']);
    return undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'there is no C compiler (cc)';
    throw error;
  }
}
