/** Small pushes to one session beside large ones to another: how late they are, and how late the server's event loop is. */
import { denseBody } from './bodies.ts';
import type { Children } from './children.ts';
import { Flood } from './flood.ts';
import { beside, type Latencies, steadyPushes } from './latency.ts';
import { compare, samplePairs } from './pairs.ts';
import { Poster } from './post.ts';
import type { Benchmark, Row } from './row.ts';
import { type Server, startServer } from './server.ts';

const [floats, largeFloats] = [1_000, 25_000_000];
const [pairsTaken, pushes, everyMs] = [5, 600, 5];
/** prom-client's histogram records the time from one tick to the next, and a tick is due after so long. */
const tickMs = 10;

export const besideLarge: Benchmark = {
  name: 'beside',
  notes: [
    `Beside large pushes: those are of ${largeFloats.toLocaleString('en-US')} floats, over one connection, back to back, from a client in a process of its own. A small one is sent every ${everyMs} ms, over as many connections as that takes, whether or not those before it are over; so a server that stands still delays as many of them as clients would have sent meanwhile. A sample is ${pushes} small pushes; ${pairsTaken} pairs of samples, with and without the large pushes.`,
    `The event-loop delay is \`nodejs_eventloop_lag_p99_seconds\` of \`/metrics\`, over each of these samples: every look at \`/metrics\` empties its histogram, so one look comes before the sample and one after it. The histogram records the time between ticks that are ${tickMs} ms apart on an idle loop; ${tickMs} ms are taken off, so that what is left is the delay.`,
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const server = await startServer(children);
  const small = await server.createSession({ w: [floats] });
  const large = await server.createSession({ w: [largeFloats] });
  const poster = new Poster(server.port, `${small}/gradients`, Number.POSITIVE_INFINITY);
  const body = denseBody(floats);
  const sample = () => withLoopDelay(server, () => steadyPushes(() => poster.post(body), pushes, everyMs));
  const pushLarge = new Flood(children, 'safetensors', largeFloats, 1).requests(server.port, `${large}/gradients`);
  await pushLarge(2);
  const pairs = await samplePairs(pairsTaken, () => beside(() => pushLarge(1), sample), sample);
  const where = 'beside pushes of 25,000,000 floats to another session';
  const row = { against: 'the same with nothing beside it', target: { atMost: 10, unit: 'ms' } };
  yield { what: `1,000-float push ${where}, p99`, ...row, result: compare(pairs, 'ms', ({ p99 }) => p99) };
  yield {
    what: `event-loop delay of the server ${where}, p99`,
    ...row,
    result: compare(pairs, 'ms', ({ loopDelay }) => loopDelay),
  };
}

/** `measure`, and the p99 of the event loop's delay meanwhile, in milliseconds. */
async function withLoopDelay(
  server: Server,
  measure: () => Promise<Latencies>,
): Promise<Latencies & { readonly loopDelay: number }> {
  await server.call('GET', '/metrics');
  const latencies = await measure();
  const text = await server.call('GET', '/metrics');
  const seconds = /^nodejs_eventloop_lag_p99_seconds (\S+)$/m.exec(text)?.[1];
  if (seconds === undefined) throw new Error('/metrics must have nodejs_eventloop_lag_p99_seconds');
  return { ...latencies, loopDelay: Math.max(0, Number(seconds) * 1000 - tickMs) };
}
