/** A dense push and its reply, one at a time, against an echo of the same bytes. */
import { denseBody } from './bodies.ts';
import type { Children } from './children.ts';
import { asMilliseconds, comparePairs } from './pairs.ts';
import { Poster } from './post.ts';
import type { Benchmark, Row, Target } from './row.ts';
import { startServer } from './server.ts';

const cases: readonly { floats: number; target?: Target }[] = [
  { floats: 1_000 },
  { floats: 250_000, target: { atMost: 1.3 } },
  { floats: 25_000_000, target: { atMost: 1.2 } },
];

export const densePush: Benchmark = {
  name: 'dense-push',
  notes: [
    'A push is sent as safetensors over one kept-alive connection of 127.0.0.1 by a client on `node:http`, and is over when the last byte of the reply (the updated values) is there. Server and reference are processes of their own; the client is the process of the benchmark.',
    'The echo is a `node:http` server (`bench/echo-server.ts`) that reads the whole body chunk by chunk into a buffer made beforehand, and replies with that buffer. Both get the same bodies from the same client.',
    'Sessions are created with `durability: checkpoint`, unless a row says that its pushes are durable, and no checkpoints by rule.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const server = await startServer(children);
  for (const { floats, ...target } of cases) {
    const body = denseBody(floats);
    const session = await server.createSession({ w: [floats] });
    const echo = await children.forkServer('echo-server.ts', String(body.bytes.length));
    const pairs = await comparePairs(
      new Poster(server.port, `${session}/gradients`, 1).inTurn([body]),
      new Poster(echo, '/', 1).inTurn([body]),
    );
    const what = `dense push and reply, ${floats.toLocaleString('en-US')} floats`;
    yield { what, against: 'node:http echo', ...target, result: asMilliseconds(pairs) };
  }
}
