/** Small pushes over many connections: requests a second against a Fastify route that takes and returns as many bytes. */
import { type Children, nextMessage } from './children.ts';
import type { LoadOrder } from './load.ts';
import { asRate, comparePairs, type Work } from './pairs.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

const [floats, connections] = [1_000, 16];

export const manyConnections: Benchmark = {
  name: 'connections',
  notes: [
    'Requests over 16 connections come from a client in a process of its own, all to one session; each connection sends its next request when the reply to the last one is there. The Fastify route (`bench/fastify-server.ts`) takes the body as a buffer and sends it back.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const server = await startServer(children);
  const path = await server.createSession([floats]);
  const reference = await children.forkServer('fastify-server.ts');
  const load = children.fork('load.ts', String(floats), String(connections));
  const requests = (port: number, to: string): Work => {
    return async (times) => {
      const answer = nextMessage(load);
      load.send({ port, path: to, times } satisfies LoadOrder);
      return (await answer) as number;
    };
  };
  const pairs = await comparePairs(requests(server.port, path), requests(reference, '/'));
  const what = 'dense push and reply, 1,000 floats, 16 connections';
  yield { what, against: 'Fastify route', target: { atLeast: 0.75 }, result: asRate(pairs, 1, 'requests') };
}
