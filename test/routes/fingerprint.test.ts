/** The fingerprint: what it is taken of, what changes it, and what must not. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { type Api, f32, f64, type Json, startApi } from '../support/api.ts';
import { create, patch, push, pushFile, refused, succeeded } from '../support/calls.ts';

async function fingerprint(api: Api, name: string): Promise<Json> {
  return succeeded(await api.call('GET', `/v1/sessions/${name}/fingerprint`)).json;
}

/** SHA-256 of texts (UTF-8) and numbers, as F32 unless they are in a Float64Array. */
function sha256(...pieces: (string | readonly number[] | Float64Array)[]): string {
  const hash = createHash('sha256');
  for (const piece of pieces) {
    if (typeof piece === 'string') hash.update(piece);
    else if (piece instanceof Float64Array) hash.update(f64([...piece]).bytes);
    else hash.update(f32([...piece]).bytes);
  }
  return hash.digest('hex');
}

describe('GET /v1/sessions/{session}/fingerprint', () => {
  test('is the SHA-256 of names, dtypes, shapes and the bits of w, m and v, in order of the names', async (t) => {
    const api = await startApi(t);
    const variables = {
      'b/w': { values: [1, 2, 3, 4, 5, 6], shape: [3, 2] },
      B: { values: [0.5], dtype: 'F64' },
      a: { values: 7 },
    };
    await create(api, 's', variables);
    const zeros = (count: number) => new Array<number>(count).fill(0);
    const expected = sha256(
      '["B","F64",[1]]\n',
      Float64Array.of(0.5, 0, 0),
      '["a","F32",[]]\n',
      [7, 0, 0],
      '["b/w","F32",[3,2]]\n',
      [1, 2, 3, 4, 5, 6, ...zeros(12)],
    );
    assert.deepEqual(await fingerprint(api, 's'), { iterations: 0, sha256: expected });
  });

  test('follows the slots and the counter of each step, and bears the revision as ETag', async (t) => {
    const api = await startApi(t);
    // beta_1 = beta_2 = 0.5, t = 1: m = 0.5 * g = 1, v = |g| = 2, w -= 1 / (1 - 0.5) * 1 / (2 + 0): all exact.
    const config = { learning_rate: 1, beta_1: 0.5, beta_2: 0.5, epsilon: 1e-30 };
    await create(api, 's', { w: { values: [8] } }, { optimizer: { class_name: 'Adamax', config } });
    await push(api, 's', { w: { values: [2] } });
    const answer = succeeded(await api.call('GET', '/v1/sessions/s/fingerprint'));
    assert.deepEqual(answer.json, { iterations: 1, sha256: sha256('["w","F32",[1]]\n', [7, 1, 2]) });
    assert.equal(answer.headers.etag, (await api.call('GET', '/v1/sessions/s')).headers.etag);
  });

  test('is the same however the session came to be, and whatever the number of threads', async (t) => {
    const size = 2_000_000;
    const values = Array.from({ length: size }, (_, k) => Math.fround(Math.sin(k)));
    const prints = new Set<string>();
    for (const threads of [0, 1, 4]) {
      const api = await startApi(t, { threads });
      await create(api, 's', { w: { shape: [size], initializer: 'ones' }, z: { values: [1] } });
      await pushFile(api, 's', { w: f32(values) });
      prints.add((await fingerprint(api, 's')).sha256);
    }
    assert.equal(prints.size, 1);
  });

  test('is back after a restore, and changes with every bit of the state but not with settings', async (t) => {
    const api = await startApi(t);
    await create(api, 's', { w: { values: [1, 2] } });
    const before = await fingerprint(api, 's');
    const { id } = succeeded(await api.call('POST', '/v1/sessions/s/checkpoints'), 201).json;
    await patch(api, 's', { metadata: { note: 'x' }, optimizer: { config: { learning_rate: 0.5 } } });
    assert.deepEqual(await fingerprint(api, 's'), before);
    const seen = new Set([before.sha256]);
    for (const part of ['variables', 'slots/m', 'slots/v']) {
      const json = { variables: { w: { values: [1, 2 + 2 ** -22] } } };
      succeeded(await api.call('PUT', `/v1/sessions/s/${part}`, { json }));
      seen.add((await fingerprint(api, 's')).sha256);
    }
    assert.equal(seen.size, 4);
    succeeded(await api.call('POST', `/v1/sessions/s/checkpoints/${id}/restore`));
    assert.deepEqual(await fingerprint(api, 's'), before);
  });

  test('is 404 where there is no session', async (t) => {
    const api = await startApi(t);
    refused(await api.call('GET', '/v1/sessions/none/fingerprint'), 'session_not_found');
  });
});
