/** Workers that make each step together, against the same workers whose every push is a step. */
import { type Children, doneBy } from './children.ts';
import type { LoadOrder } from './load.ts';
import { asRate, comparePairs } from './pairs.ts';
import type { Benchmark, Row, Target } from './row.ts';
import { startServer } from './server.ts';

const cases: readonly { workers: number; floats: number; target?: Target }[] = [
  { workers: 4, floats: 1_000_000 },
  { workers: 64, floats: 1_000 },
];

export const workers: Benchmark = {
  name: 'workers',
  notes: [
    'Workers are connections of a client in a process of its own; each sends its next gradient when the reply to the last one is there. In mode `sync` a step takes the gradients of all of them, which are summed, divided and applied once; in mode `async` each is applied by itself. Both reply with all values to each worker. Rates are of gradients.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const server = await startServer(children);
  for (const { workers: count, floats, ...target } of cases) {
    const [together, alone] = [
      await server.createSession({ w: [floats] }),
      await server.createSession({ w: [floats] }),
    ];
    await server.call('PATCH', together, { aggregation: { mode: 'sync', replicas_to_aggregate: count } });
    const child = children.fork('worker-load.ts', String(floats), String(count));
    const rounds = (session: string) =>
      doneBy(child, (times) => ({ port: server.port, path: `${session}/gradients`, times }) satisfies LoadOrder);
    const pairs = await comparePairs(rounds(together), rounds(alone));
    const what = `sync, ${count} workers of ${floats.toLocaleString('en-US')} floats`;
    yield { what, against: 'async, the same workers', ...target, result: asRate(pairs, count, 'gradients') };
    await children.end(child);
  }
}
