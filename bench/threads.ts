/** Large steps shared by two threads, against one thread: what sharing costs, and how much of the second one is won. */
import { noClip } from '../src/kernel/blocks.ts';
import { Threads } from '../src/kernel/threads.ts';
import { allocate, type VariableMemory } from '../src/kernel/variable-memory.ts';
import { gradientValue } from './numbers.ts';
import { asRate, comparePairs, type Work } from './pairs.ts';
import type { Benchmark, Row } from './row.ts';

const scalars = { alpha: 0.01, beta1: 0.9, omb1: 0.1, beta2: 0.999, eps: 1e-7 };

/** Two million elements are 24 MB with their slots, which the caches hold in part; 25 million are memory's business. */
const cases = [{ millions: 2, target: { atLeast: 1.6 } }, { millions: 25 }];

export const threads: Benchmark = {
  name: 'threads',
  notes: [
    'Two threads against one: dense F32 steps of one variable, gradient in and updated values out in shared memory, as the server takes them, but in the process of the benchmark. Two threads and the one that gives work out share two cores here. The target is for data that memory does not bound.',
  ],
  rows: measure,
};

async function* measure(): AsyncGenerator<Row> {
  const [one, two] = [new Threads(1), new Threads(2)];
  for (const { millions, ...target } of cases) {
    const elements = millions * 1e6;
    const [memory] = allocate([{ dtype: 'F32', rows: elements, width: 1 }]) as [VariableMemory];
    const gradient = new Float32Array(new SharedArrayBuffer(elements * 4)).map((_, k) => gradientValue(k));
    const pairs = await comparePairs(steps(two, memory, gradient), steps(one, memory, gradient));
    const what = `dense step on two threads, ${millions} M elements`;
    yield { what, against: 'on one thread', ...target, result: asRate(pairs, millions, 'M elements') };
  }
  await Promise.all([one.close(), two.close()]);
}

function steps(executor: Threads, memory: VariableMemory, gradient: Float32Array): Work {
  const bytes = Buffer.from(new SharedArrayBuffer(gradient.byteLength)).fill(new Uint8Array(gradient.buffer));
  const values = { dtype: 'F32', bytes } as const;
  const updated = { dtype: 'F32', bytes: Buffer.from(new SharedArrayBuffer(gradient.byteLength)) } as const;
  return async (times) => {
    const start = performance.now();
    for (let k = 0; k < times; k++) {
      await executor.run([
        { kind: 'dense', memory, gradient: values, clip: noClip, scalars, updated, changes: undefined },
      ]);
    }
    return (performance.now() - start) / 1000;
  };
}
