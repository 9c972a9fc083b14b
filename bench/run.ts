/**
 * `npm run bench`: runs every benchmark, prints each row as it comes, and writes RESULTS.md beside this file. With names
 * (`npm run bench -- kernel`) it runs those and prints only. A new benchmark is one file, and one line in the list below.
 * A run takes about three quarters of an hour, on a machine that has nothing else to do; `large` alone wants 14 GB of memory
 * and 11 GB of disk, and says so where they are not there; so does `durable-redis` where there is no `redis-server`. Durable
 * rows want a temporary folder that is on a disk.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { besideLarge } from './beside.ts';
import { checkpoint } from './checkpoint.ts';
import { Children } from './children.ts';
import { manyConnections } from './connections.ts';
import { deltaRead } from './delta-read.ts';
import { densePush } from './dense-push.ts';
import { durableLarge } from './durable-large.ts';
import { durablePush } from './durable-push.ts';
import { durableRedis } from './durable-redis.ts';
import { events } from './events.ts';
import { fingerprint } from './fingerprint.ts';
import { json } from './json.ts';
import { kernel } from './kernel.ts';
import { large } from './large.ts';
import { memory } from './memory.ts';
import { recovery } from './recovery.ts';
import { line, type Measured, resultsPage } from './report.ts';
import type { Benchmark, Row } from './row.ts';
import { sparsePush } from './sparse-push.ts';
import { start } from './start.ts';
import { threads } from './threads.ts';
import { workers } from './workers.ts';

const benchmarks: readonly Benchmark[] = [
  kernel,
  threads,
  densePush,
  sparsePush,
  manyConnections,
  json,
  workers,
  events,
  deltaRead,
  besideLarge,
  checkpoint,
  durablePush,
  durableRedis,
  durableLarge,
  recovery,
  fingerprint,
  memory,
  start,
  large,
];

function chosen(names: readonly string[]): readonly Benchmark[] {
  if (names.length === 0) return benchmarks;
  return names.map((name) => {
    const benchmark = benchmarks.find((each) => each.name === name);
    if (benchmark !== undefined) return benchmark;
    throw new Error(`a benchmark must be one of ${benchmarks.map((each) => each.name).join(', ')}. Received: ${name}`);
  });
}

async function main(names: readonly string[]): Promise<void> {
  const selection = chosen(names);
  const children = new Children();
  const all: Measured[] = [];
  for (const benchmark of selection) {
    const rows: Row[] = [];
    for await (const row of benchmark.rows(children)) {
      console.log(line(row));
      rows.push(row);
    }
    await children.stop();
    all.push({ benchmark, rows });
  }
  if (names.length > 0) return;
  writeFileSync(join(import.meta.dirname, 'RESULTS.md'), resultsPage('npm run bench', new Date(), all));
}

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error: Error) => {
    console.error(error);
    process.exit(1);
  },
);
