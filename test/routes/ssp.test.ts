/** Mode `ssp`: workers that wait for the slowest, and those that are not waited for. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, type Api, startApi } from '../support/api.ts';
import { create, getDocument, patch, refused, succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';
import { bare, pushOf, waiting } from '../support/workers.ts';

const api = await startApi({ after });
const g = { w: { values: [1] } };

function createSsp(name: string, rules: object, on: Api = api): Promise<unknown> {
  return create(on, name, { w: { values: [0] } }, { ...bare, aggregation: { mode: 'ssp', ...rules } });
}

const pushed = async (name: string, worker: string, on: Api = api): Promise<number> =>
  succeeded(await pushOf(on, name, worker, undefined, g)).json.iterations;

/** The worker's next push, which is held to wait. */
async function held(name: string, worker: string, on: Api = api): Promise<Promise<Answer>[]> {
  const push = pushOf(on, name, worker, undefined, g);
  await waiting(on, name, worker);
  return [push];
}

describe('a worker', () => {
  test('that is max_lead steps ahead of the slowest goes on, and with one more waits for it', async () => {
    await createSsp('lead', { max_lead: 2 });
    await pushed('lead', 'slow');
    // Its first step brings it to where the slowest is; then it is 0, 1 and 2 ahead.
    for (let step = 0; step < 4; step++) await pushed('lead', 'fast');
    const [push] = await held('lead', 'fast');
    assert.equal((await getDocument(api, 'lead')).iterations, 5);
    assert.equal(await pushed('lead', 'slow'), 6);
    assert.equal(succeeded((await push) as Answer).json.iterations, 7);
  });

  test('alone never waits', async () => {
    await createSsp('alone', { max_lead: 0 });
    for (let step = 1; step <= 5; step++) assert.equal(await pushed('alone', 'only'), step);
  });

  test('waits no longer than timeout_ms', async () => {
    await createSsp('timeout', { max_lead: 0, timeout_ms: 200 });
    await pushed('timeout', 'slow');
    for (let step = 0; step < 2; step++) await pushed('timeout', 'fast');
    const answer = await pushOf(api, 'timeout', 'fast', undefined, g);
    const problem = refused(answer, 'aggregation_timeout');
    assert.match(problem.detail, /Received: worker "fast", 1 steps ahead$/);
    assert.equal(answer.headers['retry-after'], '1');
    assert.equal((await getDocument(api, 'timeout')).iterations, 3);
  });

  test('does not wait for one that is silent for worker_timeout_ms', async () => {
    await createSsp('silent', { max_lead: 0, worker_timeout_ms: 300 });
    await pushed('silent', 'dead');
    for (let step = 0; step < 2; step++) await pushed('silent', 'fast');
    const start = performance.now();
    await pushed('silent', 'fast');
    assert.ok(performance.now() - start < 10_000, 'it must not wait for timeout_ms');
    // And does not catch up step by step when it is back: it goes on where the slowest is.
    await sleep(1);
    await pushed('silent', 'dead');
    await pushed('silent', 'fast');
  });

  test('that comes later begins where the slowest is, and holds nobody up for what it has not done', async () => {
    await createSsp('later', { max_lead: 1 });
    for (let step = 0; step < 10; step++) await pushed('later', 'a');
    await pushed('later', 'b');
    for (let step = 0; step < 2; step++) await pushed('later', 'a');
    const [push] = await held('later', 'a');
    await pushed('later', 'b');
    succeeded((await push) as Answer);
  });

  test('that has many pushes under way at once gets no further than with one', async () => {
    await createSsp('many', { max_lead: 1, timeout_ms: 300 });
    await pushed('many', 'slow');
    const answers = await Promise.all(Array.from({ length: 8 }, () => pushOf(api, 'many', 'fast', undefined, g)));
    const taken = answers.filter(({ status }) => status === 200).length;
    assert.equal(taken, 3);
    for (const answer of answers.filter(({ status }) => status !== 200)) refused(answer, 'aggregation_timeout');
  });

  test('has to have a name', async () => {
    await createSsp('name', { max_lead: 1 });
    const answer = await api.call('POST', '/v1/sessions/name/gradients', { json: { gradients: g } });
    assert.match(refused(answer, 'invalid_parameter').detail, /must name its "worker"/);
  });

  test('that waits is told of a deletion, of a shutdown, and of other rules', async (t) => {
    const own = await startApi(t);
    for (const name of ['deleted', 'patched', 'stopped']) {
      await createSsp(name, { max_lead: 0 }, own);
      await pushed(name, 'slow', own);
      for (let step = 0; step < 2; step++) await pushed(name, 'fast', own);
    }
    const [deleted] = await held('deleted', 'fast', own);
    succeeded(await own.call('DELETE', '/v1/sessions/deleted'), 204);
    refused((await deleted) as Answer, 'session_not_found');
    const [patched] = await held('patched', 'fast', own);
    await patch(own, 'patched', { aggregation: { max_lead: 5 } });
    succeeded((await patched) as Answer);
    const [stopped] = await held('stopped', 'fast', own);
    const closing = own.app.close();
    refused((await stopped) as Answer, 'shutting_down');
    await closing;
  });
});

test('the lead survives a crash and a restart, and begins anew with another mode', async (t) => {
  const own = await startApi(t);
  await createSsp('s', { max_lead: 1 }, own);
  await pushed('s', 'slow', own);
  for (let step = 0; step < 3; step++) await pushed('s', 'fast', own);
  const crashed = await startApi(t, {}, await crashedCopy(t, own.folder));
  const [push] = await held('s', 'fast', crashed);
  await pushed('s', 'slow', crashed);
  succeeded((await push) as Answer);
  const restarted = await own.restart();
  const [another] = await held('s', 'fast', restarted);
  await pushed('s', 'slow', restarted);
  succeeded((await another) as Answer);
  await patch(restarted, 's', { aggregation: { mode: 'async' } });
  for (let step = 0; step < 5; step++) await pushed('s', 'fast', restarted);
  await patch(restarted, 's', { aggregation: { mode: 'ssp', max_lead: 1 } });
  for (let step = 0; step < 5; step++) await pushed('s', 'fast', restarted);
});

test('a worker that is put aside holds nobody up, and goes on where the slowest is when it is released', async () => {
  await createSsp('aside', { max_lead: 0, quarantine_after: 1, worker_timeout_ms: 600_000, timeout_ms: 5000 });
  await pushed('aside', 'bad');
  await pushed('aside', 'fast');
  await pushed('aside', 'fast');
  const [waits] = await held('aside', 'fast');
  const notFinite = { w: { values: [1e39] } };
  refused(await pushOf(api, 'aside', 'bad', undefined, notFinite), 'gradient_not_finite');
  succeeded((await waits) as Answer);
  // However often it is heard of.
  refused(await pushOf(api, 'aside', 'bad', undefined, g), 'worker_quarantined');
  await pushed('aside', 'fast');
  succeeded(await api.call('POST', '/v1/sessions/aside/workers/bad/release'));
  await pushed('aside', 'fast');
  await pushed('aside', 'bad');
  await pushed('aside', 'fast');
});

test('a worker that was silent since a restart goes on where the slowest is, and holds nobody up', async (t) => {
  const own = await startApi(t);
  await createSsp('s', { max_lead: 1, worker_timeout_ms: 700, timeout_ms: 200 }, own);
  for (const worker of ['slow', 'fast']) await pushed('s', worker, own);
  const restarted = await own.restart();
  await sleep(750);
  for (let step = 0; step < 6; step++) await pushed('s', 'fast', restarted);
  await pushed('s', 'slow', restarted);
  // It would be told after 200 ms that the other is five steps behind.
  await pushed('s', 'fast', restarted);
});
