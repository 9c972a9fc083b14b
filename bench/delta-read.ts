/** What has changed of a large embedding since a revision, against all of it. */
import { sparseBody } from './bodies.ts';
import type { Children } from './children.ts';
import { getInTurn } from './get.ts';
import { asMilliseconds, comparePairs } from './pairs.ts';
import { Poster } from './post.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

const rows = 1_000_000;
const width = 64;
const changed = rows / 100;

export const deltaRead: Benchmark = {
  name: 'delta-read',
  notes: [
    'Reads are in safetensors, over one kept-alive connection. A hundredth of the rows, all over the variable, was changed by one push after the revision that is asked for.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const server = await startServer(children);
  const session = await server.createSession({ w: [rows, width] });
  await new Poster(server.port, `${session}/gradients`, 1).post(sparseBody(0, changed, rows, width));
  const safetensors = 'application/vnd.safetensors';
  const pairs = await comparePairs(
    getInTurn(server.port, `${session}/variables?since=0`, safetensors),
    getInTurn(server.port, `${session}/variables`, safetensors),
  );
  yield {
    what: 'read with `since`, 1 % of 1,000,000 rows of 64',
    against: 'read of all',
    result: asMilliseconds(pairs),
  };
}
