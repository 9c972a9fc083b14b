/** What is told of workers, and how they are put aside and taken back. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { startApi } from '../support/api.ts';
import { create, getDocument, patch, push, refused, stateOf, succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';
import { bare, pushOf, workersOf } from '../support/workers.ts';

const api = await startApi({ after });
const good = { w: { values: [1] } };
// Finite as JSON, infinite in F32.
const bad = { w: { values: [1e39] } };
const variables = { w: { values: [0] } };

describe('GET /v1/sessions/{session}/workers', () => {
  test('has who pushed, by name, with steps, staleness and refusals', async () => {
    await create(api, 'list', variables, { ...bare, aggregation: { mode: 'async', max_staleness: 2 } });
    const begun = Date.now();
    succeeded(await pushOf(api, 'list', 'b', 0, good));
    succeeded(await pushOf(api, 'list', 'a', 0, good));
    succeeded(await pushOf(api, 'list', 'a', 0, good));
    refused(await pushOf(api, 'list', 'c', 0, good), 'gradient_stale');
    refused(await pushOf(api, 'list', 'c', 3, bad), 'gradient_not_finite');
    const answer = succeeded(await api.call('GET', '/v1/sessions/list/workers'));
    assert.equal(answer.headers.etag, '"3"');
    const { session, revision, workers } = answer.json;
    assert.deepEqual([session, revision], ['list', 3]);
    for (const { last_seen } of workers) {
      assert.ok(Math.abs(Date.parse(last_seen) - begun) < 60_000, last_seen);
    }
    const rest = { waiting: false, quarantined: false };
    assert.deepEqual(
      workers.map(({ last_seen, ...each }: { last_seen: string }) => each),
      [
        { name: 'a', steps: 2, mean_staleness: 1.5, last_staleness: 2, rejected: 0, ...rest },
        { name: 'b', steps: 1, mean_staleness: 0, last_staleness: 0, rejected: 0, ...rest },
        { name: 'c', steps: 0, mean_staleness: null, last_staleness: null, rejected: 2, ...rest },
      ],
    );
  });

  test('leaves out who has no name, and knows no staleness where no base was given', async () => {
    await create(api, 'nameless', variables);
    await push(api, 'nameless', good);
    await push(api, 'nameless', good, '?worker=a');
    const [worker, ...others] = await workersOf(api, 'nameless');
    assert.deepEqual([worker.name, worker.steps, worker.mean_staleness, others.length], ['a', 1, null, 0]);
  });

  test('keeps steps over restarts and crashes, and forgets when it has not seen a worker since', async (t) => {
    const own = await startApi(t);
    await create(own, 's', variables);
    await pushOf(own, 's', 'a', 0, good);
    const crashed = await startApi(t, {}, await crashedCopy(t, own.folder));
    for (const each of [crashed, await own.restart()]) {
      const [worker] = await workersOf(each, 's');
      assert.deepEqual([worker.name, worker.steps, worker.last_staleness, worker.last_seen], ['a', 1, 0, null]);
    }
  });

  test('is not of a session that there is not', async () => {
    refused(await api.call('GET', '/v1/sessions/none/workers'), 'session_not_found');
  });
});

test("metrics say what a session's workers did together, and how stale steps were", async () => {
  await create(api, 'metrics', variables, { ...bare, aggregation: { mode: 'async', max_staleness: 9 } });
  // Staleness 0, 1, 2, 3, 4.
  for (let step = 0; step < 5; step++) succeeded(await pushOf(api, 'metrics', 'a', 0, good));
  refused(await pushOf(api, 'metrics', 'b', 0, bad), 'gradient_not_finite');
  const text = succeeded(await api.call('GET', '/metrics')).bytes.toString();
  const figure = (line: string) =>
    text
      .split('\n')
      .find((each) => each.startsWith(`${line} `))
      ?.split(' ')
      .at(-1);
  assert.equal(figure('adamax_workers{session="metrics"}'), '2');
  assert.equal(figure('adamax_workers_quarantined{session="metrics"}'), '0');
  assert.equal(figure('adamax_worker_pushes_refused_total{session="metrics"}'), '1');
  assert.doesNotMatch(text, /worker="/, 'workers may be many, and are not told one by one');
  const buckets = { '0': '1', '1': '2', '2': '3', '4': '5', '128': '5', '+Inf': '5' };
  for (const [le, count] of Object.entries(buckets)) {
    assert.equal(figure(`adamax_staleness_bucket{session="metrics",le="${le}"}`), count, le);
  }
  assert.equal(figure('adamax_staleness_sum{session="metrics"}'), '10');
  assert.equal(figure('adamax_staleness_count{session="metrics"}'), '5');
});

describe('quarantine', () => {
  const rules = { aggregation: { mode: 'async', quarantine_after: 2 } };

  test('takes so many gradients in a row that are not finite, and lasts until the release', async () => {
    await create(api, 'q', variables, rules);
    refused(await pushOf(api, 'q', 'a', 0, bad), 'gradient_not_finite');
    succeeded(await pushOf(api, 'q', 'a', 0, good));
    refused(await pushOf(api, 'q', 'a', 0, bad), 'gradient_not_finite');
    refused(await pushOf(api, 'q', 'a', 0, { x: { values: [1] } }), 'unknown_variable');
    refused(await pushOf(api, 'q', 'a', 0, bad), 'gradient_not_finite');
    const before = await stateOf(api, 'q');
    for (const gradients of [good, bad]) {
      const problem = refused(await pushOf(api, 'q', 'a', 0, gradients), 'worker_quarantined');
      assert.match(problem.detail, /must be released before it pushes again\. Received: a push of "a"$/);
    }
    succeeded(await pushOf(api, 'q', 'b', 0, good));
    assert.equal((await workersOf(api, 'q')).find(({ name }) => name === 'a').quarantined, true);
    const released = succeeded(await api.call('POST', '/v1/sessions/q/workers/a/release'));
    assert.equal(released.headers.etag, `"${released.json.revision}"`);
    succeeded(await pushOf(api, 'q', 'a', 0, good));
    refused(await pushOf(api, 'q', 'a', 0, bad), 'gradient_not_finite');
    succeeded(await pushOf(api, 'q', 'a', 0, good));
    assert.notDeepEqual(await stateOf(api, 'q'), before);
  });

  test('is a change of the session, which survives a crash and a restart', async (t) => {
    const own = await startApi(t);
    await create(own, 's', variables, rules);
    const { revision } = await getDocument(own, 's');
    for (let k = 0; k < 2; k++) refused(await pushOf(own, 's', 'w/1 ä', 0, bad), 'gradient_not_finite');
    assert.equal((await getDocument(own, 's')).revision, revision + 1);
    const crashed = await startApi(t, {}, await crashedCopy(t, own.folder));
    for (const each of [crashed, await own.restart()]) {
      refused(await pushOf(each, 's', 'w/1 ä', 0, good), 'worker_quarantined');
      const path = `/v1/sessions/s/workers/${encodeURIComponent('w/1 ä')}/release`;
      const headers = { 'idempotency-key': 'release' };
      const { json } = succeeded(await each.call('POST', path, { headers }));
      assert.equal(json.revision, revision + 2);
      const again = succeeded(await each.call('POST', path, { headers }));
      assert.deepEqual([again.json.revision, again.headers['idempotency-replayed']], [revision + 2, 'true']);
      succeeded(await pushOf(each, 's', 'w/1 ä', 0, good));
    }
  });

  test('is no matter of who has no name, nor without the rule', async () => {
    await create(api, 'no', variables, rules);
    for (let k = 0; k < 3; k++) {
      const answer = await api.call('POST', '/v1/sessions/no/gradients', { json: { gradients: bad } });
      refused(answer, 'gradient_not_finite');
    }
    await push(api, 'no', good);
    await patch(api, 'no', { aggregation: { quarantine_after: null } });
    for (let k = 0; k < 3; k++) refused(await pushOf(api, 'no', 'a', 0, bad), 'gradient_not_finite');
    succeeded(await pushOf(api, 'no', 'a', 0, good));
  });

  test('of a worker that is not in it ends without a change', async () => {
    await create(api, 'free', variables);
    const { json } = succeeded(await api.call('POST', '/v1/sessions/free/workers/nobody/release'));
    assert.equal(json.revision, 0);
    refused(await api.call('POST', '/v1/sessions/none/workers/a/release'), 'session_not_found');
    const answer = await api.call('POST', '/v1/sessions/free/workers/a/release', { headers: { 'if-match': '"7"' } });
    refused(answer, 'precondition_failed');
    refused(await api.call('POST', '/v1/sessions/free/workers/a/release', { json: { x: 1 } }), 'invalid_parameter');
  });
});
