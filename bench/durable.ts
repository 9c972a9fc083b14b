/** Small pushes that are on the disk when they are acknowledged, in pushes a second, against another way to write as much. */

import { encodeChange } from '../src/journal/changes.ts';
import { encodeHead } from '../src/journal/record.ts';
import { noOrigin } from '../src/session/workers.ts';
import type { Children } from './children.ts';
import { Flood } from './flood.ts';
import { asRate, comparePairs, type Work } from './pairs.ts';
import type { Row, Target } from './row.ts';
import { startServer } from './server.ts';

export const floats = 1_000;
export const withoutJournal = 'the same without a journal';
export const connectionCounts = [1, 16, 64] as const;
export const warmUpPushes = 20_000;
/** More than all samples write. */
export const diskBytes = 4e9;

export function whatIsPushed(connections: number): string {
  return `durable push and reply, 1,000 floats, ${connections} connection${connections > 1 ? 's' : ''}`;
}

/**
 * One row for each number of connections. `write`: values of so many bytes from so many callers at once, each of which puts
 * its next one when its last one is on the disk.
 */
export async function* durableRows(
  children: Children,
  against: string,
  target: Target,
  write: (bytes: number, callers: number) => Work,
): AsyncGenerator<Row> {
  const server = await startServer(children);
  const session = await server.createSession({ w: [floats] }, 'always');
  const bytes = recordBytes();
  await warmUp(children, server.port, session);
  for (const connections of connectionCounts) {
    const flood = new Flood(children, 'safetensors', floats, connections);
    const pairs = await comparePairs(flood.requests(server.port, `${session}/gradients`), write(bytes, connections));
    yield { what: whatIsPushed(connections), against, target, result: asRate(pairs, 1, 'pushes') };
  }
  // The next one gets a folder of the same name.
  await server.stop();
}

/** A training is longer than what a process needs to get up to speed, and than the samples. */
export async function warmUp(children: Children, port: number, session: string): Promise<void> {
  await new Flood(children, 'safetensors', floats, 16).requests(port, `${session}/gradients`)(warmUpPushes);
}

/** What such a push puts in the journal. */
function recordBytes(): number {
  const values = { dtype: 'F32', shape: [floats], bytes: new Uint8Array(4 * floats) } as const;
  const { description } = encodeChange({
    kind: 'gradients',
    gradients: new Map([['w', { values }]]),
    origin: noOrigin,
  });
  const dataBytes = values.bytes.length;
  const place = { chain: 0, session: Buffer.alloc(8), previous: 0, revision: 1, iterations: 1 };
  return encodeHead({ kind: 'gradients', ...place, description, dataBytes, dataChecksum: 0 }).bytes.length + dataBytes;
}
