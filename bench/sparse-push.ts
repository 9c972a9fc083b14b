/** A sparse push and its reply (the rows touched), one at a time, against an echo of the same bytes. */
import { sparseBody } from './bodies.ts';
import type { Children } from './children.ts';
import { asMilliseconds, comparePairs } from './pairs.ts';
import { Poster } from './post.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

const [count, width, rows, bodies] = [10_000, 64, 1_000_000, 16];

export const sparsePush: Benchmark = {
  name: 'sparse-push',
  notes: [
    'A sparse push names 10,000 distinct random rows, in random order; 16 such bodies are sent in turn. Client and echo are those of the dense push.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const sent = Array.from({ length: bodies }, (_, list) => sparseBody(list, count, rows, width));
  const server = await startServer(children);
  const session = await server.createSession({ w: [rows, width] });
  const echo = await children.forkServer('echo-server.ts', String(Math.max(...sent.map(({ bytes }) => bytes.length))));
  const pairs = await comparePairs(
    new Poster(server.port, `${session}/gradients`, 1).inTurn(sent),
    new Poster(echo, '/', 1).inTurn(sent),
  );
  const what = `sparse push and reply, ${count.toLocaleString('en-US')} rows of ${width} into 1,000,000`;
  yield { what, against: 'node:http echo', target: { atMost: 1.5 }, result: asMilliseconds(pairs) };
}
