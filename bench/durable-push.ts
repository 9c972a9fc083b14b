/** Durable small pushes against what lmdb, which the journal lies in, does by itself. */
import { join } from 'node:path';
import { type Children, doneBy } from './children.ts';
import {
  connectionCounts,
  diskBytes,
  durableRows,
  floats,
  warmUp,
  warmUpPushes,
  whatIsPushed,
  withoutJournal,
} from './durable.ts';
import { Flood } from './flood.ts';
import { asRate, comparePairs } from './pairs.ts';
import { lackOfDisk } from './room.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

const against = 'bare lmdb commits';
const target = { atLeast: 0.7 };

export const durablePush: Benchmark = {
  name: 'durable-push',
  notes: [
    `Durable pushes go to a session with \`durability: always\` and no checkpoints by rule, from a client in a process of its own; each connection sends its next push when the reply to the last one (the updated values) is there. ${warmUpPushes.toLocaleString('en-US')} pushes over 16 connections come first, untimed. All files of these rows are in the temporary folder, which must be on a disk.`,
    "The bare commits are those of a process (`bench/bare-lmdb.ts`) that opens lmdb with the same options as the journal does, and puts values of as many bytes as the record of such a push, from as many callers as there are connections, each of which waits until its value is on the disk. It is asked by nobody and has nothing else to do. A push is acknowledged from the journal's tail, and lmdb has it later, so that a ratio above 1 would be possible.",
    'The rows without a journal are of the same pushes to a session with `durability: checkpoint`.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const lack = lackOfDisk(children.folder, diskBytes);
  if (lack !== undefined) {
    for (const connections of connectionCounts)
      yield { what: whatIsPushed(connections), against, target, result: lack };
    return;
  }
  yield* durableRows(children, against, target, (bytes, callers) => {
    const path = join(children.folder, `bare-${callers}.mdb`);
    const child = children.fork('bare-lmdb.ts', path, String(bytes), String(callers));
    return doneBy(child, (times) => times);
  });
  yield* againstUnrecorded(children);
}

/** What durability takes of a push. */
async function* againstUnrecorded(children: Children): AsyncGenerator<Row> {
  const server = await startServer(children);
  const [durable, other] = [
    await server.createSession({ w: [floats] }, 'always'),
    await server.createSession({ w: [floats] }),
  ];
  for (const session of [durable, other]) await warmUp(children, server.port, session);
  for (const connections of connectionCounts) {
    const flood = new Flood(children, 'safetensors', floats, connections);
    const pairs = await comparePairs(
      flood.requests(server.port, `${durable}/gradients`),
      flood.requests(server.port, `${other}/gradients`),
    );
    yield { what: whatIsPushed(connections), against: withoutJournal, result: asRate(pairs, 1, 'pushes') };
  }
}
