/** More requests than the server takes at a time: who is refused, how, and that nothing else comes of it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, type Api, encodeFile, f32, safetensors, startApi } from '../support/api.ts';
import { create, getDocument, refused, succeeded } from '../support/calls.ts';
import { follow } from '../support/event-client.ts';
import { head, jsonRequest, RawConnection } from '../support/raw-connection.ts';
import { startServer, temporaryFolder } from '../support/server-process.ts';
import { createSync, pushOf } from '../support/workers.ts';

const gradients = { w: { values: [1, 1] } };
const path = '/v1/sessions/s/gradients';

/** With a session `s` of two floats. */
async function start(t: TestContext, requestsMax: number, others = {}): Promise<Api> {
  const api = await startApi(t, { requestsMax, ...others });
  await create(api, 's', { w: { values: [1, 2] } });
  return api;
}

function push(api: Api): Promise<Answer> {
  return api.call('POST', path, { json: { gradients } });
}

/** So many pushes that wait for their turn, which comes when `open` is called. */
async function hold(api: Api, pushes: number): Promise<{ open: () => void; answers: Promise<Answer[]> }> {
  const { turns } = api.store.session('s').live;
  let open = (): void => undefined;
  void turns.alone(() => new Promise<void>((resolve) => (open = resolve)));
  const answers = Promise.all(Array.from({ length: pushes }, () => push(api)));
  while (api.app.admission.counted < pushes) await sleep(1);
  return { open, answers };
}

/** Asked without a request, which would be one too many. */
async function someoneWaits(api: Api, name: string): Promise<void> {
  while (!api.store.session(name).workers.some((worker) => worker.waiting)) await sleep(1);
}

describe('requests under way', () => {
  test('are as many as REQUESTS_MAX; one more is refused at once, and nothing comes of it', async (t) => {
    const api = await start(t, 3);
    const { open, answers } = await hold(api, 3);
    const refusals = [
      await push(api),
      await api.call('GET', '/v1/sessions/s'),
      await api.call('DELETE', '/v1/sessions/s'),
    ];
    for (const refusal of refusals) {
      const { detail, instance } = refused(refusal, 'overloaded');
      assert.equal(detail, 'at most 3 requests can be under way (REQUESTS_MAX). Received: one more');
      assert.ok(refusal.headers['retry-after'] === '1' && instance.startsWith('/v1/sessions/s'), instance);
    }
    open();
    for (const answer of await answers) succeeded(answer);
    // There is room again as soon as those before have been answered.
    assert.equal(succeeded(await push(api)).json.iterations, 4);
    const text = (await api.call('GET', '/metrics')).bytes.toString();
    assert.match(text, /^adamax_requests_refused_total 3$/m);
    assert.match(text, /^adamax_requests_under_way 0$/m);
  });

  test('do not keep probes, figures and documents from being answered', async (t) => {
    const api = await start(t, 1);
    const { open, answers } = await hold(api, 1);
    refused(await push(api), 'overloaded');
    for (const open of ['/healthz', '/readyz', '/metrics', '/openapi.json', '/docs/errors']) {
      succeeded(await api.call('GET', open));
    }
    open();
    await answers;
  });

  test('that come in one piece count together, though each takes no time, and are answered in order', async (t) => {
    const api = await startApi(t, { requestsMax: 4 });
    await create(api, 's', { w: { values: [1, 2] } }, { durability: 'checkpoint' });
    const connection = await RawConnection.open(api);
    connection.write(...Array(5).fill(jsonRequest('POST', path, { gradients })));
    for (let step = 1; step <= 4; step++) assert.equal((await connection.next()).json.iterations, step);
    const refusal = await connection.next();
    assert.deepEqual([refusal.status, refusal.json.code], [503, 'overloaded']);
    assert.equal((await getDocument(api, 's')).iterations, 4);
    connection.socket.destroy();
  });

  test('do not count while they wait for other workers, for a change, or for events', async (t) => {
    const api = await start(t, 1);
    await createSync(api, 'together', { w: { values: [1, 2] } }, 2);
    const events = await follow(api, 's');
    const { revision } = await getDocument(api, 's');
    const headers = { prefer: 'wait=30', 'if-none-match': `"${revision}"` };
    const { mock } = t.mock.method(api.app.admission, 'stepAside');
    const change = api.call('GET', '/v1/sessions/s/variables', { headers });
    change.catch(() => undefined);
    while (mock.callCount() < 1) await sleep(1);
    const first = pushOf(api, 'together', 'a', 0, gradients);
    await someoneWaits(api, 'together');
    succeeded(await pushOf(api, 'together', 'b', 0, gradients));
    succeeded(await first);
    succeeded(await push(api));
    succeeded(await change);
    assert.equal((await events.next()).event, 'step');
    events.close();
  });

  test('do not count while they wait for the slowest worker', async (t) => {
    const api = await start(t, 1);
    await create(api, 'near', { w: { values: [1, 2] } }, { aggregation: { mode: 'ssp', max_lead: 1 } });
    for (const worker of ['a', 'b', 'a', 'a']) succeeded(await pushOf(api, 'near', worker, undefined, gradients));
    const ahead = pushOf(api, 'near', 'a', undefined, gradients);
    await someoneWaits(api, 'near');
    succeeded(await pushOf(api, 'near', 'b', undefined, gradients));
    succeeded(await ahead);
  });

  test('do not count while their clients send nothing', async (t) => {
    const api = await start(t, 1);
    const slow = await RawConnection.open(api);
    slow.write(head('POST', path, { 'content-type': 'application/json', 'content-length': 40 }), '{');
    while (api.app.admission.counted < 1) await sleep(1);
    refused(await push(api), 'overloaded');
    for (let second = 0; second < 2; second++) api.app.admission.lookForSlow();
    succeeded(await push(api));
    slow.socket.destroy();
  });
});

describe('the body of a refused request', () => {
  test('if it is small is read and forgotten, and the connection goes on', async (t) => {
    const api = await start(t, 1);
    const { open, answers } = await hold(api, 1);
    const connection = await RawConnection.open(api);
    const request = jsonRequest('POST', path, { gradients });
    connection.write(request.slice(0, -5));
    const refusal = await connection.next();
    assert.deepEqual([refusal.status, refusal.headers.connection], [503, 'keep-alive']);
    open();
    await answers;
    connection.write(request.slice(-5), request);
    assert.equal((await connection.next()).json.iterations, 2);
    connection.socket.destroy();
  });

  const large = encodeFile({ w: f32(Array(2_000_000).fill(1)) });
  const announced = head('POST', path, { 'content-type': safetensors, 'content-length': large.length });

  test('if it is large is not waited for, and takes no memory', async (t) => {
    const api = await start(t, 1, { memoryBytesMax: 12_000_000 });
    const { open, answers } = await hold(api, 1);
    for (let k = 0; k < 5; k++) {
      const connection = await RawConnection.open(api);
      connection.write(announced, large.subarray(0, 1000));
      const refusal = await connection.next();
      assert.deepEqual([refusal.status, refusal.json.code, refusal.headers.connection], [503, 'overloaded', 'close']);
      connection.socket.destroy();
    }
    open();
    await answers;
    // It has a shape that does not fit, but room.
    refused(await api.call('POST', path, { bytes: large }), 'shape_mismatch');
  });

  test('if it is large does not keep the refusal from a client that looks when it has sent everything', async (t) => {
    const api = await start(t, 1);
    const { open, answers } = await hold(api, 1);
    const connection = await RawConnection.open(api);
    connection.socket.pause();
    connection.write(announced, large);
    await once(connection.socket, 'drain');
    connection.socket.resume();
    assert.equal((await connection.next()).json.code, 'overloaded');
    await connection.closed();
    open();
    await answers;
  });

  test('is not asked for', async (t) => {
    const api = await start(t, 1);
    const { open, answers } = await hold(api, 1);
    const connection = await RawConnection.open(api);
    connection.write(announced.replace('host', 'expect: 100-continue\r\nhost'));
    const refusal = await connection.next();
    assert.deepEqual([refusal.status, refusal.headers.connection], [503, 'close']);
    await connection.closed();
    open();
    await answers;
  });
});

test('the log sums refusals up instead of a line for each', async (t) => {
  const server = await startServer(t, await temporaryFolder(t), { REQUESTS_MAX: '1' });
  await server.call('PUT', '/v1/sessions/s', {
    json: { variables: { w: { values: [1, 2] } } },
  });
  const calls = Array.from({ length: 20 }, () => server.call('GET', '/v1/sessions/s/fingerprint'));
  const refusals = (await Promise.all(calls)).filter(({ status }) => status === 503).length;
  assert.ok(refusals > 0, 'requests at once must be more than one');
  const message = 'overloaded: requests were refused';
  assert.equal((await server.logged(message)).level, 40);
  // On a slow machine they come within more than one second.
  const told = () => server.log.filter(({ msg }) => msg === message).reduce((sum, line) => sum + line.refused, 0);
  for (let look = 0; told() < refusals && look < 100; look++) await sleep(50);
  assert.equal(told(), refusals);
  assert.equal(server.log.filter(({ msg, status }) => msg === 'request' && status === 503).length, 0);
});
