/** Durable small pushes against Redis that forces each value to the disk, where it is installed. */
import { type Children, doneBy } from './children.ts';
import { connectionCounts, diskBytes, durableRows, whatIsPushed } from './durable.ts';
import { hasRedis, startRedis } from './redis.ts';
import { lackOfDisk } from './room.ts';
import type { Benchmark, Row } from './row.ts';

const against = 'Redis, appendfsync always';
const target = { atLeast: 1 };

export const durableRedis: Benchmark = {
  name: 'durable-redis',
  notes: [
    'Redis is the `redis-server` that is installed, if there is one, with an append-only file, `appendfsync always`, and neither snapshots nor rewriting of that file. A client in a process of its own (`bench/redis-load.ts`, on `node:net`) sets values of as many bytes as the record of a durable push, over as many connections, each with a key of its own, and sends the next one when the last one is acknowledged. Redis replies `+OK` where a push replies the updated values.',
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const lack = hasRedis() ? lackOfDisk(children.folder, diskBytes) : 'left out: no redis-server here';
  if (lack !== undefined) {
    for (const connections of connectionCounts)
      yield { what: whatIsPushed(connections), against, target, result: lack };
    return;
  }
  const port = await startRedis(children);
  yield* durableRows(children, against, target, (bytes, callers) => {
    const child = children.fork('redis-load.ts', String(port), String(bytes), String(callers));
    return doneBy(child, (times) => times);
  });
}
