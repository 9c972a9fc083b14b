/** Durable pushes of 100 MB, in steady state, against plain writing of their gradients. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Children } from './children.ts';
import { Disk } from './disk-child.ts';
import { withoutJournal } from './durable.ts';
import { Flood } from './flood.ts';
import { asRate, type Pair, samplePairs } from './pairs.ts';
import { lackOfDisk } from './room.ts';
import type { Benchmark, Row } from './row.ts';
import { type Server, startServer } from './server.ts';

const floats = 25_000_000;
const gradientBytes = 4 * floats;
const connectionCounts = [1, 2] as const;
const pushes = 4;
const pairsTaken = 7;
/** Two sessions with two checkpoints each, the journal of a sample, the plain file. */
const diskBytes = 4 * 12 * floats + pushes * gradientBytes + gradientBytes;
/** How long the journal may take to be trimmed behind a checkpoint. */
const trimMs = 1_000;
const against = 'writing the gradients to a file';
const target = { atLeast: 0.8 };

export const durableLarge: Benchmark = {
  name: 'durable-large',
  notes: [
    `Large durable pushes are of 25,000,000 floats, ${pushes} a sample, over one connection, one after the other, and over two, so that one push can be received while another is written; the client is a process of its own and reads the whole reply. ${pairsTaken} pairs of samples. After each sample, untimed, a checkpoint is written and the journal is trimmed. The rows without a journal are of the same pushes to a session with \`durability: checkpoint\`.`,
    'Their reference is a process that writes as many bytes as each gradient has to a fresh file in the same file system, in pieces of 1 MiB from one warm buffer, and calls fdatasync; the file is removed after that, untimed.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const lack = lackOfDisk(children.folder, diskBytes);
  if (lack !== undefined) {
    for (const connections of connectionCounts) yield { ...claim(connections), result: lack };
    return;
  }
  const server = await startServer(children);
  const session = await server.createSession({ w: [floats] }, 'always');
  const plain = new Disk(children).write(join(children.folder, 'plain'), gradientBytes, 'fdatasync');
  const other = await server.createSession({ w: [floats] });
  const unrecorded = (flood: Flood) => flood.requests(server.port, `${other}/gradients`);
  for (const connections of connectionCounts) {
    const flood = new Flood(children, 'safetensors', floats, connections);
    const push = flood.requests(server.port, `${session}/gradients`);
    const measured = async (): Promise<number> => {
      const seconds = await push(pushes);
      await trimJournal(server, session);
      return seconds;
    };
    const pairs: Pair[] = await samplePairs(pairsTaken, measured, () => plain(pushes));
    yield { ...claim(connections), result: asRate(pairs, (pushes * gradientBytes) / 1e6, 'MB') };
    const others: Pair[] = await samplePairs(pairsTaken, measured, () => unrecorded(flood)(pushes));
    yield { what: whatOver(connections), against: withoutJournal, result: asRate(others, pushes, 'pushes') };
  }
}

function whatOver(connections: number): string {
  return `durable push and reply, 25,000,000 floats, ${connections > 1 ? `${connections} connections` : '1 connection'}`;
}

function claim(connections: number): Omit<Row, 'result'> {
  return { what: whatOver(connections), against, target };
}

/** The journal is trimmed behind the reply. */
async function trimJournal(server: Server, session: string): Promise<void> {
  await server.call('POST', `${session}/checkpoints`);
  await sleep(trimMs);
}
