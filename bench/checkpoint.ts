/** Checkpoints: what a push pays for one that is being written, and how fast one is written by itself. */
import { join } from 'node:path';
import { denseBody } from './bodies.ts';
import type { Children } from './children.ts';
import { Disk } from './disk-child.ts';
import { beside, type Latencies, pushesInTurn, steadyPushes } from './latency.ts';
import { asRate, compare, comparePairs, samplePairs, timed } from './pairs.ts';
import { type Body, Poster } from './post.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

const [floats, smallFloats] = [25_000_000, 1_000];
const pairsTaken = 5;
const [smallPushes, everyMs, largePushes] = [600, 5, 12];

export const checkpoint: Benchmark = {
  name: 'checkpoint',
  notes: [
    `Beside a checkpoint: \`POST …/checkpoints\` over a connection of its own, the next one as soon as the last is answered. The session has two variables, \`w\` of 25,000,000 floats and \`b\` of 1,000, so that a checkpoint has 300 MB. Pushes to \`b\` are sent as those beside large pushes are, ${smallPushes} a sample; pushes to \`w\` one after the other, ${largePushes} a sample, of which the slowest is the p99. ${pairsTaken} pairs of samples, with and without the checkpoints.`,
    'The speed of a checkpoint is that of its file, from the request to its `201`, with nothing else going on. Its reference is a process that writes as many bytes to a file in the same file system, in pieces of 1 MiB from one warm buffer, and calls fsync.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const server = await startServer(children);
  const session = await server.createSession({ w: [floats], b: [smallFloats] });
  const poster = new Poster(server.port, `${session}/gradients`, Number.POSITIVE_INFINITY);
  const push = (body: Body) => () => poster.post(body);
  const [small, large] = [push(denseBody(smallFloats, 'b')), push(denseBody(floats))];
  const writeCheckpoint = () => server.call('POST', `${session}/checkpoints`);
  yield* besideCheckpoints('1,000-float push', () => steadyPushes(small, smallPushes, everyMs));
  yield* besideCheckpoints('25,000,000-float push', () => pushesInTurn(large, largePushes));

  async function* besideCheckpoints(what: string, sample: () => Promise<Latencies>): AsyncGenerator<Row> {
    const pairs = await samplePairs(pairsTaken, () => beside(writeCheckpoint, sample), sample);
    for (const figure of ['median', 'p99'] as const) {
      yield {
        what: `${what} while its session's 300 MB checkpoint is written, ${figure}`,
        against: 'the same without a checkpoint',
        target: { atMost: 1.5 },
        result: compare(pairs, 'ms', (latencies) => latencies[figure]),
      };
    }
  }

  const { bytes } = JSON.parse(await writeCheckpoint()) as { bytes: number };
  const plain = new Disk(children).write(join(children.folder, 'plain'), bytes);
  const pairs = await comparePairs(timed(writeCheckpoint), plain);
  yield {
    what: 'checkpoint of 300 MB',
    against: 'writing as many bytes',
    target: { atLeast: 0.8 },
    result: asRate(pairs, bytes / 1e6, 'MB'),
  };
}
