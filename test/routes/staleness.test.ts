/** Mode `async`: what is made of gradients whose variables are not the newest. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { startApi } from '../support/api.ts';
import { create, getDocument, patch, push, readNumbers, refused, stateOf, succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';
import { bare, pushOf } from '../support/workers.ts';

const api = await startApi({ after });
const g = { w: { values: [2] } };

/** At iteration 4, w = -4. */
async function sessionAtFour(name: string, aggregation: object): Promise<void> {
  await create(api, name, { w: { values: [0] } }, { ...bare, aggregation });
  for (let step = 0; step < 4; step++) await push(api, name, g, `?base=${step}`);
}

describe('max_staleness', () => {
  test('bounds how far base may lie behind: at the bound, and one beyond it', async () => {
    await sessionAtFour('bound', { mode: 'async', max_staleness: 2 });
    const problem = refused(await pushOf(api, 'bound', 'a', 1, g), 'gradient_stale');
    assert.equal(problem.detail, "base must be at most 2 behind the session's iterations, 4. Received: 1");
    assert.equal(problem.iterations, 4);
    assert.deepEqual(await readNumbers(api, 'bound', 'w'), [-4]);
    assert.equal(succeeded(await pushOf(api, 'bound', 'a', 2, g)).json.iterations, 5);
  });

  test('needs base', async () => {
    await sessionAtFour('base', { mode: 'async', max_staleness: 0 });
    const problem = refused(await pushOf(api, 'base', 'a', undefined, g), 'invalid_parameter');
    assert.match(problem.detail, /must name its "base" where the session looks at staleness\. Received: none/);
    refused(await pushOf(api, 'base', 'a', 3, g), 'gradient_stale');
    succeeded(await pushOf(api, 'base', 'a', 4, g));
  });

  test('can be set and taken away, and is not needed', async () => {
    await sessionAtFour('patched', { mode: 'async' });
    succeeded(await pushOf(api, 'patched', 'a', 0, g));
    await patch(api, 'patched', { aggregation: { max_staleness: 3 } });
    refused(await pushOf(api, 'patched', 'a', 0, g), 'gradient_stale');
    assert.deepEqual((await patch(api, 'patched', { aggregation: { max_staleness: null } })).aggregation, {
      mode: 'async',
    });
    succeeded(await pushOf(api, 'patched', 'a', 0, g));
  });

  test('is judged after a repeat is recognised', async () => {
    await sessionAtFour('repeat', { mode: 'async', max_staleness: 0 });
    const key = { 'idempotency-key': 'k' };
    succeeded(await pushOf(api, 'repeat', 'a', 4, g, key));
    const again = succeeded(await pushOf(api, 'repeat', 'a', 4, g, key));
    assert.deepEqual([again.json.iterations, again.headers['idempotency-replayed']], [5, 'true']);
  });
});

describe('scaling', () => {
  test('divides the rate by the staleness beyond the bound, and says so', async () => {
    await sessionAtFour('scaled', { mode: 'async', max_staleness: 1, staleness_policy: 'scale' });
    const fresh = succeeded(await pushOf(api, 'scaled', 'a', 3, g)).json;
    assert.deepEqual([fresh.learning_rate, fresh.variables.w.values], [1, [-5]]);
    // Staleness 4 at iteration 5: w = -5 - 1/4.
    const stale = succeeded(await pushOf(api, 'scaled', 'a', 1, g)).json;
    assert.deepEqual([stale.learning_rate, stale.variables.w.values], [0.25, [-5.25]]);
    assert.equal((await getDocument(api, 'scaled')).learning_rate, 1);
  });

  test('without a bound is for every push', async () => {
    await sessionAtFour('every', { mode: 'async', staleness_policy: 'scale' });
    const rates = [];
    for (const base of [4, 4, 4, 4]) rates.push(succeeded(await pushOf(api, 'every', 'a', base, g)).json.learning_rate);
    // Staleness 0, 1, 2, 3.
    assert.deepEqual(rates, [1, 1, 0.5, Math.fround(1 / 3)]);
  });

  test('is what a replay does again', async (t) => {
    const own = await startApi(t);
    await create(
      own,
      's',
      { w: { values: [0, 1] }, d: { values: [0.5], dtype: 'F64' } },
      { aggregation: { mode: 'async', staleness_policy: 'scale' } },
    );
    for (const base of [0, 0, 0, 1, 0]) {
      succeeded(await pushOf(own, 's', 'a', base, { w: { values: [0.3, -0.1] }, d: { values: [0.7] } }));
    }
    const again = await startApi(t, {}, await crashedCopy(t, own.folder));
    assert.deepEqual(await stateOf(again, 's'), await stateOf(own, 's'));
  });
});
