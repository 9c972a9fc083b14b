/** One of the threads that threads.ts gives work to: it is told of a run, does pieces of it, and forgets it. */
import { parentPort, workerData } from 'node:worker_threads';
import { collectNow } from '../tensor/reclaim.ts';
import { Bank } from './bank.ts';
import type { Done, Order } from './threads.ts';
import { type MemoryLayout, VariableMemory } from './variable-memory.ts';
import { perform, type Work } from './work.ts';

const { thread } = workerData as { thread: number };
const banks = new Map<number, Bank>();
const runs = new Map<number, Work[]>();

parentPort?.on('message', (order: Order) => {
  if ('ranges' in order) {
    const works = runs.get(order.run) as Work[];
    for (const { work, first, last } of order.ranges) perform(works[work] as Work, first, last);
    parentPort?.postMessage({ run: order.run, piece: order.piece } satisfies Done);
  } else if ('start' in order) {
    for (const memory of order.banks) banks.set(memory.id, new Bank(memory, thread));
    runs.set(order.start, order.works.map(received));
  } else if ('end' in order) runs.delete(order.end);
  else if ('forget' in order) for (const id of order.forget) banks.delete(id);
  else collectNow();
});

function received(work: Work<MemoryLayout>): Work {
  if (!('memory' in work)) return work;
  const segments = work.memory.segments.map((segment) => ({ ...segment, bank: banks.get(segment.bank) as Bank }));
  return { ...work, memory: new VariableMemory(work.memory, segments) };
}
