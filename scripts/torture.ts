/**
 * `npm run torture -- --minutes 10 [--seed N]`: bouts of killing the built server under load, longer and more varied than the
 * test's, until the time is up. Prints the seed and a line a round, and ends with 1 and what differs at the first thing that
 * is not as on a server that never crashed; the data folder is then kept. A seed gives the same sessions, gradients, kinds
 * of requests and rounds again. When exactly a kill comes, and in which order requests arrive, is up to the machine: a
 * failure comes again with its seed only about as likely as it came.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type BoutPlan, runBout } from '../test/support/crash-load.ts';
import { below, models, pick, type Random, randomModel, stream } from '../test/support/crash-models.ts';
import { ServerProcess } from '../test/support/server-process.ts';

const entry = join(import.meta.dirname, '../dist/src/server.js');
const named = Object.values(models);

function drawPlan(seed: number): BoutPlan {
  const random = stream(seed, 8);
  const model = () => (random() < 0.4 ? pick(random, named) : randomModel(random));
  const several = (atLeast: number, atMost: number) => [...Array(atLeast + below(random, atMost - atLeast + 1)).keys()];
  return {
    seed,
    rounds: 10,
    clients: pick(random, [2, 6, 16]),
    crowds: several(1, 4).map((nth) => ({
      name: `crowd-${nth}`,
      seed: seed * 100 + nth,
      model: model(),
      share: 1 + below(random, 4),
      durability: pick(random, ['always', 'everysec'] as const),
      checkpointing: drawCheckpointing(random),
    })),
    diaries: several(1, 3).map((nth) => ({
      name: `diary-${nth}`,
      seed: seed * 100 + 50 + nth,
      models: [model(), model(), models.small],
    })),
    loadMs: pick(random, [
      [0, 100],
      [50, 1000],
      [500, 3000],
    ] as const),
  };
}

function drawCheckpointing(random: Random): object {
  return {
    every_steps: pick(random, [1, 7, 100, null]),
    every_seconds: pick(random, [1, 300, null]),
    keep: pick(random, [1, 2, 5]),
  };
}

async function main(): Promise<void> {
  const options = { minutes: { type: 'string', default: '10' }, seed: { type: 'string' } } as const;
  const { values } = parseArgs({ options });
  const minutes = Number(values.minutes);
  const first = Number(values.seed ?? Date.now() % 1_000_000);
  if (!(minutes > 0 && Number.isSafeInteger(first)))
    throw new Error('--minutes must be above 0, and --seed an integer');
  const folder = await mkdtemp(join(tmpdir(), 'adamax-torture-'));
  const running = new Set<ServerProcess>();
  const launch = (name: string): ServerProcess => {
    const env = { DATA_DIR: join(folder, name), LOG_LEVEL: 'info' };
    const server = new ServerProcess({ entry, env });
    running.add(server);
    server.exited.then(
      () => running.delete(server),
      () => running.delete(server),
    );
    return server;
  };
  process.once('exit', () => {
    for (const server of running) server.kill('SIGKILL');
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  const until = performance.now() + minutes * 60_000;
  for (let seed = first; performance.now() < until; seed++) {
    console.log(`seed ${seed}`);
    // Anew for each bout, since both keep their logs in memory.
    const reference = launch('reference');
    await reference.logged('all sessions recovered');
    try {
      const outcome = await runBout(drawPlan(seed), { launch: () => launch('killed'), reference, report: console.log });
      console.log(`seed ${seed}: as without crashes. ${JSON.stringify(outcome)}`);
    } catch (error) {
      console.log(`seed ${seed} failed; the data folder is ${folder}`);
      throw error;
    }
    await reference.end('SIGTERM');
  }
  await rm(folder, { recursive: true, force: true });
}

main().then(
  () => process.exit(0),
  (error: Error) => {
    console.error(error);
    process.exit(1);
  },
);
