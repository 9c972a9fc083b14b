/** kernel.c as a process: compiled if there is a compiler, then asked for so many steps at a time. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Children } from './children.ts';

export const compilerFlags = ['-O3', '-march=native', '-ffp-contract=off'];

/** The first line of what `cc --version` says; undefined without a compiler. */
export function compilerVersion(): string | undefined {
  const { status, stdout } = spawnSync('cc', ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout.split('\n', 1)[0] : undefined;
}

/** With vectors no longer than those that WebAssembly has, to see what the longer ones are good for. */
export const shortVectors = '-mprefer-vector-width=128';

/** The path of the executable; undefined without a compiler. */
export function compile(children: Children, ...more: readonly string[]): string | undefined {
  if (compilerVersion() === undefined) return undefined;
  const source = join(import.meta.dirname, 'kernel.c');
  const executable = join(children.folder, ['kernel', ...more].join(''));
  const flags = [...compilerFlags, ...more, '-Wall', '-Wextra'];
  const { status, stderr } = spawnSync('cc', [...flags, source, '-o', executable, '-lm'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`bench/kernel.c must compile. cc said: ${stderr}`);
  return executable;
}

export class CKernel {
  readonly #input: NodeJS.WritableStream;
  readonly #lines: AsyncIterator<string>;

  /** `args`: as kernel.c's header has them. */
  constructor(children: Children, executable: string, args: readonly (string | number)[]) {
    const { stdin, stdout } = children.spawn(executable, args.map(String), { stdio: ['pipe', 'pipe', 'inherit'] });
    if (stdin === null || stdout === null) throw new Error('the pipes of a child must exist');
    this.#input = stdin;
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  }

  /** Takes so many steps; seconds by the program's own clock. */
  async steps(times: number): Promise<number> {
    this.#input.write(`${times}\n`);
    return this.#nextNumber();
  }

  /** Ends the program; the checksum of its `w`. */
  async finish(): Promise<number> {
    this.#input.end();
    return this.#nextNumber();
  }

  async #nextNumber(): Promise<number> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('kernel.c must answer each line. It has ended');
    return Number(value);
  }
}
