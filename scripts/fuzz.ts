/**
 * `npm run fuzz -- [--requests 100000] [--seed N] [--path P] [--authorization 'Bearer …']`: the fuzz test with as many
 * requests as there is time for. Prints how each operation was answered, and ends with 1 at the first reply that must not be.
 * The path that is printed with a failure makes the same requests alone come again.
 */
import { parseArgs } from 'node:util';
import { fuzz } from '../test/fuzz/fuzz.ts';
import { fuzzConfig } from '../test/fuzz/fuzz-config.ts';
import { startApi } from '../test/support/api.ts';

async function main(): Promise<void> {
  const options = {
    requests: { type: 'string', default: '100000' },
    seed: { type: 'string' },
    path: { type: 'string' },
    authorization: { type: 'string' },
  } as const;
  const { values } = parseArgs({ options });
  const requests = Number(values.requests);
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  if (!(requests > 0 && Number.isSafeInteger(seed)))
    throw new Error('--requests must be above 0, and --seed an integer');
  const tasks: (() => Promise<void>)[] = [];
  const api = await startApi({ after: (task) => tasks.push(task) }, fuzzConfig);
  try {
    console.log(`seed ${seed}`);
    const { path, authorization } = values;
    console.log(String(await fuzz(api, { requests, seed, path, authorization })));
  } finally {
    for (const task of tasks) await task();
  }
}

await main();
