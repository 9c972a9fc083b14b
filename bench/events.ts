/** What those who follow a session's events cost those who push to it. */
import { type Children, nextMessage } from './children.ts';
import { Flood } from './flood.ts';
import { asRate, comparePairs } from './pairs.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

const floats = 1_000;
const listeners = 1_000;

export const events: Benchmark = {
  name: 'events',
  notes: [
    'Listeners are connections of a process of their own, which reads whatever comes; so besides the server it is one more that wants the processors.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const server = await startServer(children);
  const [followed, alone] = [await server.createSession({ w: [floats] }), await server.createSession({ w: [floats] })];
  const child = children.fork('event-listeners.ts', String(server.port), String(listeners), followed);
  await nextMessage(child);
  const flood = new Flood(children, 'safetensors', floats, 16);
  const pairs = await comparePairs(
    flood.requests(server.port, `${followed}/gradients`),
    flood.requests(server.port, `${alone}/gradients`),
  );
  child.send({});
  if (!(((await nextMessage(child)) as number) > 0)) throw new Error('listeners must be told of steps');
  yield {
    what: `push and reply, 1,000 floats, 16 connections, ${listeners.toLocaleString('en-US')} listeners`,
    against: 'nobody listening',
    result: asRate(pairs, 1, 'requests'),
  };
}
