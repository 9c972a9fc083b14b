/**
 * Thousands of valid and invalid requests, generated from the OpenAPI document. A failure prints its seed and path, and
 * `npm run fuzz -- --seed N --path P` sends the same requests again; so does this test with FUZZ_SEED and FUZZ_PATH.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startApi } from '../support/api.ts';
import { fuzz } from './fuzz.ts';
import { fuzzConfig } from './fuzz-config.ts';
import { type Document, operationsOf } from './operations.ts';

const requests = 3_000;
const seed = Number(process.env.FUZZ_SEED ?? 6);

test(`${requests} requests, seed ${seed}`, { timeout: 600_000 }, async (t) => {
  const api = await startApi({ after }, fuzzConfig);
  const tally = await fuzz(api, { requests, seed, path: process.env.FUZZ_PATH });
  t.diagnostic(`\n${tally}`);
  for (const { id, parameters, bodies } of operationsOf(api.app.swagger() as unknown as Document)) {
    assert.ok(tally.of(id, true) >= 2, `${id} must succeed some times. It did ${tally.of(id, true)} times`);
    if (parameters.length + bodies.size === 0) continue;
    assert.ok(tally.of(id, false) >= 2, `${id} must be refused some times. It was ${tally.of(id, false)} times`);
  }
});
