/** The fingerprint of a small model, which is meant to be cheap enough to be asked for after each step. */
import type { Children } from './children.ts';
import { getInTurn } from './get.ts';
import { asRate, comparePairs } from './pairs.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

export const fingerprint: Benchmark = {
  name: 'fingerprint',
  notes: [
    'A fingerprint is the SHA-256 of variables and slots, worked out for each call; its reference is the session document of the same session. Both are asked for over one kept-alive connection each, by the process of the benchmark.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const server = await startServer(children);
  const session = await server.createSession({ w: [1_000] });
  const pairs = await comparePairs(getInTurn(server.port, `${session}/fingerprint`), getInTurn(server.port, session));
  yield {
    what: 'fingerprint of 1,000 floats',
    against: 'GET of the session document',
    target: { atLeast: 0.8 },
    result: asRate(pairs, 1, 'calls'),
  };
}
