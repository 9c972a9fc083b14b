/**
 * The kernel by itself, one thread, on memory that is already there: against the same loops in C, and against copying as
 * many bytes as a step moves.
 */
import { CKernel, compile, compilerFlags, shortVectors } from './c-kernel.ts';
import type { Children } from './children.ts';
import { asRate, comparePairs, timed, type Work } from './pairs.ts';
import type { Benchmark, Row, Target } from './row.ts';
import { denseSteps, type KernelSteps, sparseSteps } from './wasm-kernel.ts';

const denseElements = [1_000_000, 8_000_000, 25_000_000, 64_000_000];
const widths = [16, 64, 256];
/** Sparse steps: `count` of a variable's `rows` at a time, from so many lists of them. */
const [rows, count, lists] = [1_000_000, 10_000, 32];
/** A step of a dense variable reads w, m, v and g and writes w, m and v: 28 bytes an element. */
const copiedBytesPerElement = 28 / 2;
const unit = 'M elements';

export const kernel: Benchmark = {
  name: 'kernel',
  notes: [
    `The loops in C are \`bench/kernel.c\`, compiled with \`cc ${compilerFlags.join(' ')}\`: a process of its own that takes as many steps over the same data when told to, by its own clock. After each row the variables of both must have the same checksum, else the run fails.`,
    'A dense step moves 28 bytes an element: it reads `w`, `m`, `v` and the gradient and writes `w`, `m` and `v`. The copy moves as many: memory of 14 bytes an element is read and 14 are written (`Uint8Array.set` between plain buffers, which is memcpy). A ratio above 1 is possible: a copy may have to fetch the lines that it overwrites, where a step has read them anyway.',
    `The row with 128-bit vectors has \`${shortVectors}\` besides: C's own vectors are as long as the processor has them (512 bits where it can), those of WebAssembly have 128.`,
    'A sparse step updates 10,000 rows, ascending, of 1,000,000. 32 lists of random rows are taken in turn, so that a row has left the near caches before it comes again.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const executable = compile(children);
  const startC = (...args: (string | number)[]) =>
    executable === undefined ? undefined : new CKernel(children, executable, args);
  for (const elements of denseElements) {
    const steps = denseSteps(elements);
    const what = `kernel, F32 dense, ${elements / 1e6} M elements`;
    yield await againstC(what, { atLeast: 0.9 }, elements, steps, startC('dense', elements));
    if (elements === denseElements[0] && executable !== undefined) {
      const short = compile(children, shortVectors) as string;
      const fresh = denseSteps(elements);
      const row = await againstC(what, undefined, elements, fresh, new CKernel(children, short, ['dense', elements]));
      yield { ...row, against: `${row.against}, 128-bit vectors` };
    }
    const pairs = await comparePairs(timed(steps.step), copying(elements * copiedBytesPerElement));
    yield { what, against: 'copying as many bytes', result: asRate(pairs, elements / 1e6, unit) };
  }
  for (const width of widths) {
    const steps = sparseSteps({ width, rows, count, lists });
    const what = `kernel, F32 sparse, rows of ${width}`;
    yield await againstC(what, { atLeast: 0.7 }, count * width, steps, startC('sparse', width, rows, count, lists));
  }
}

async function againstC(
  what: string,
  target: Target | undefined,
  elements: number,
  steps: KernelSteps,
  c: CKernel | undefined,
): Promise<Row> {
  const row = { what, against: 'the same loop in C', ...(target && { target }) };
  if (c === undefined) return { ...row, result: 'no C compiler here' };
  const pairs = await comparePairs(timed(steps.step), (times) => c.steps(times));
  const [own, theirs] = [steps.checksum(), await c.finish()];
  if (own !== theirs) throw new Error(`${what}: both loops must give the same bits. Received: ${own} and ${theirs}`);
  return { ...row, result: asRate(pairs, elements / 1e6, unit) };
}

function copying(bytes: number): Work {
  const from = new Uint8Array(bytes).fill(1);
  const to = new Uint8Array(bytes).fill(2);
  return timed(() => to.set(from));
}
