/** What those who follow a session are told, and that they can come back. How many are served at once is event-streams.test.ts. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, describe, test } from 'node:test';
import { type Api, type Json, startApi } from '../support/api.ts';
import { create, patch, push, refused, succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';
import { follow, idsOf } from '../support/event-client.ts';
import { pushOf } from '../support/workers.ts';

const api = await startApi({ after });
const gradients = { w: { values: [3, 4] } };
const variables = { w: { values: [1, 2] } };
/** No checkpoints but those that are asked for. */
const byHand = { checkpointing: { every_steps: null, every_seconds: null } };

function eventsPath(name: string): string {
  return `/v1/sessions/${name}/events`;
}

async function pushes(to: Api, name: string, count: number): Promise<void> {
  for (let k = 0; k < count; k++) await push(to, name, gradients);
}

describe('what is told', () => {
  test('every change and checkpoint, in the order in which they took effect', async () => {
    await create(api, 'told', variables, byHand);
    const client = await follow(api, 'told');
    const path = '/v1/sessions/told';
    const first = await push(api, 'told', gradients);
    const named = await push(api, 'told', { w: { indices: [1], values: [-2] } }, '?worker=w%0A1&base=0');
    await patch(api, 'told', { iterations: 7 });
    succeeded(await api.call('PUT', `${path}/variables`, { json: { variables: { w: { values: [5, 6] } } } }));
    const written = succeeded(await api.call('POST', `${path}/checkpoints`), 201).json;
    await push(api, 'told', gradients);
    succeeded(await api.call('POST', `${path}/checkpoints/${written.id}/restore`));
    succeeded(await api.call('DELETE', path), 204);
    const events = await client.take(8);
    assert.equal(await client.ended, 'whole');
    assert.equal(client.received.length, 8);
    assert.deepEqual(idsOf(events), ['1', '2', '3', '4', `4+${written.id}`, '5', '6', 'deleted']);
    const [one, two, patched, assigned, checkpoint, , restored, deleted] = events.map(({ event, data }) => ({
      event,
      ...data,
    }));
    const { update_norm, ...rest } = one;
    // The first step changes each element by the rate, but for epsilon and rounding.
    assert.ok(Math.abs(update_norm / (first.learning_rate * Math.SQRT2) - 1) < 1e-5, update_norm);
    assert.deepEqual(rest, {
      event: 'step',
      revision: 1,
      iterations: 1,
      learning_rate: first.learning_rate,
      gradient_norm: 5,
      worker: null,
      staleness: null,
    });
    assert.deepEqual(
      [two.revision, two.iterations, two.learning_rate, two.gradient_norm, two.worker, two.staleness],
      [named.revision, 2, named.learning_rate, 2, 'w\n1', 1],
    );
    assert.deepEqual(patched, { event: 'session', revision: 3, iterations: 7, change: 'patched' });
    assert.deepEqual(assigned, { event: 'session', revision: 4, iterations: 7, change: 'assigned' });
    assert.deepEqual(checkpoint, { event: 'checkpoint', revision: 4, ...written });
    assert.deepEqual(restored, { event: 'session', revision: 6, iterations: 7, change: 'restored' });
    assert.deepEqual(deleted, { event: 'session', revision: 6, iterations: 7, change: 'deleted' });
  });

  test('a step of several workers names them, and workers that are put aside and taken back are told', async () => {
    const aggregation = { mode: 'sync', replicas_to_aggregate: 2, quarantine_after: 1 };
    await create(api, 'several', { w: { values: [0] } }, { ...byHand, aggregation });
    const client = await follow(api, 'several');
    await Promise.all(['b', 'a'].map((worker) => pushOf(api, 'several', worker, 0, { w: { values: [6] } })));
    refused(await pushOf(api, 'several', 'c', 1, { w: { values: [1e39] } }), 'gradient_not_finite');
    succeeded(await api.call('POST', '/v1/sessions/several/workers/c/release'));
    const [together, aside, back] = await client.take(3);
    const { gradient_norm, worker, staleness, workers } = (together as Json).data;
    assert.deepEqual([gradient_norm, worker, staleness, workers], [6, null, 0, ['a', 'b']]);
    const about = { iterations: 1, worker: 'c' };
    assert.deepEqual(aside, { id: '2', event: 'session', data: { revision: 2, change: 'quarantined', ...about } });
    assert.deepEqual(back, { id: '3', event: 'session', data: { revision: 3, change: 'released', ...about } });
    client.close();
  });

  test('a norm that JSON cannot carry is null, and what was refused or repeated is not told', async () => {
    await create(api, 'norms', { w: { values: [1, 2], dtype: 'F64' } }, byHand);
    const client = await follow(api, 'norms');
    await push(api, 'norms', { w: { values: [1e300, 1e300] } });
    refused(
      await api.call('POST', '/v1/sessions/norms/gradients', { json: { gradients: { w: { values: [1] } } } }),
      'shape_mismatch',
    );
    const headers = { 'idempotency-key': 'once' };
    for (const _ of [1, 2])
      succeeded(await api.call('POST', '/v1/sessions/norms/gradients', { json: { gradients }, headers }));
    await push(api, 'norms', gradients);
    const events = await client.take(3);
    assert.deepEqual(idsOf(events), ['1', '2', '3']);
    assert.deepEqual(
      events.map(({ data }) => data.gradient_norm),
      [null, 5, 5],
    );
    client.close();
  });

  test('steps that share an fsync come one after the other', async () => {
    await create(api, 'many', variables, byHand);
    const client = await follow(api, 'many');
    await Promise.all(Array.from({ length: 40 }, (_, k) => push(api, 'many', gradients, `?worker=w${k}`)));
    const events = await client.take(40);
    assert.deepEqual(
      idsOf(events),
      Array.from({ length: 40 }, (_, k) => String(k + 1)),
    );
    assert.equal(new Set(events.map(({ data }) => data.worker)).size, 40);
    client.close();
  });

  test('a read that waits for a change is not answered for a checkpoint', async () => {
    await create(api, 'waits', variables, byHand);
    const headers = { 'if-none-match': '"0"', prefer: 'wait=20' };
    const reading = api.call('GET', '/v1/sessions/waits/variables', { headers });
    const client = await follow(api, 'waits');
    succeeded(await api.call('POST', '/v1/sessions/waits/checkpoints'), 201);
    await client.next();
    await push(api, 'waits', gradients);
    assert.equal(succeeded(await reading).json.revision, 1);
    client.close();
  });
});

describe('the reply', () => {
  test('is a stream that nobody keeps, gathers or compresses', async () => {
    await create(api, 'reply', variables, byHand);
    const client = await follow(api, 'reply');
    const { headers, statusCode } = client.response;
    assert.equal(statusCode, 200);
    assert.equal(headers['content-type'], 'text/event-stream');
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(headers['x-accel-buffering'], 'no');
    assert.equal(headers['content-encoding'], undefined);
    assert.equal(headers.etag, '"0"');
    await push(api, 'reply', gradients);
    await client.next();
    assert.ok(client.text.startsWith('retry: 1000\n\nid: 1\nevent: step\ndata: {"revision":1,'), client.text);
    client.close();
  });

  test('HEAD has its header and an end', async () => {
    await create(api, 'head', variables, byHand);
    const head = succeeded(await api.call('HEAD', eventsPath('head')));
    assert.equal(head.headers['content-type'], 'text/event-stream');
    assert.equal(head.headers.etag, '"0"');
    assert.equal((await api.call('HEAD', eventsPath('nobody'))).status, 404);
  });

  test('is a problem for what cannot be followed', async () => {
    await create(api, 'refusals', variables, byHand);
    const path = eventsPath('refusals');
    refused(await api.call('GET', eventsPath('nobody')), 'session_not_found');
    refused(await api.call('GET', `${path}?from=1`), 'invalid_parameter');
    refused(await api.call('GET', path, { headers: { accept: 'application/json' } }), 'not_acceptable');
    assert.equal((await api.call('POST', path)).headers.allow, 'GET, HEAD');
    for (const id of ['', 'x', '-1', '1.5', '1+ckpt', '99999999999999999999']) {
      for (const method of ['GET', 'HEAD']) {
        const answer = await api.call(method, path, { headers: { 'last-event-id': id } });
        assert.equal(answer.status, 400, id);
        if (method === 'GET')
          assert.match(refused(answer, 'invalid_parameter').detail, /^Last-Event-ID must be the id/);
      }
    }
  });

  test('listeners are counted, and who hangs up is not', async () => {
    await create(api, 'counted', variables, byHand);
    const count = async () =>
      /^adamax_event_listeners (\d+)$/m.exec((await api.call('GET', '/metrics')).bytes.toString());
    const before = Number((await count())?.[1]);
    const clients = await Promise.all([1, 2, 3].map(() => follow(api, 'counted')));
    assert.equal(Number((await count())?.[1]), before + 3);
    for (const client of clients) client.close();
    while (Number((await count())?.[1]) > before);
    await push(api, 'counted', gradients);
  });
});

describe('who comes back with Last-Event-ID', () => {
  test('goes on behind it, with no gap and no double', async () => {
    await create(api, 'back', variables, byHand);
    const whole = await follow(api, 'back');
    await pushes(api, 'back', 3);
    succeeded(await api.call('POST', '/v1/sessions/back/checkpoints'), 201);
    await pushes(api, 'back', 3);
    const all = idsOf(await whole.take(7));
    for (const [index, id] of all.entries()) {
      const client = await follow(api, 'back', id);
      assert.deepEqual(idsOf(await client.take(6 - index)), all.slice(index + 1));
      client.close();
    }
    const late = await follow(api, 'back', all.at(-1));
    await pushes(api, 'back', 1);
    assert.deepEqual(idsOf(await late.take(1)), ['7']);
    for (const client of [whole, late]) client.close();
  });

  test('may name a revision that it has read, also in the middle of pushes', async () => {
    await create(api, 'middle', variables, byHand);
    await push(api, 'middle', gradients);
    let done = false;
    const pushing = pushes(api, 'middle', 60).finally(() => {
      done = true;
    });
    const clients = [];
    while (!done) {
      const { revision } = (await api.call('GET', '/v1/sessions/middle')).json;
      clients.push({ revision, client: await follow(api, 'middle', String(revision)) });
    }
    await pushing;
    for (const { revision, client } of clients) {
      const expected = Array.from({ length: 61 - revision }, (_, k) => String(revision + k + 1));
      assert.deepEqual(idsOf(await client.take(expected.length)), expected);
      assert.equal(client.received.length, expected.length);
      client.close();
    }
    assert.ok(clients.length > 3);
  });

  test('is told that events are lost where they are, and gets those that are kept', async () => {
    await create(api, 'lost', variables, byHand);
    await pushes(api, 'lost', 2);
    for (const id of ['3', '1000', '2000+ckpt-000003']) {
      const client = await follow(api, 'lost', id);
      const events = await client.take(4);
      assert.deepEqual(idsOf(events), ['events_lost', '0+ckpt-000001', '1', '2']);
      assert.deepEqual(
        [events[0]?.event, events[0]?.data],
        ['session', { revision: 0, iterations: 0, change: 'events_lost' }],
      );
      client.close();
    }
  });

  test('finds all after a restart that it had not heard of, and that the rest is lost', async (t) => {
    const before = await startApi(t);
    await create(before, 'restarted', variables, byHand);
    const client = await follow(before, 'restarted');
    await pushes(before, 'restarted', 4);
    const last = (await client.take(4)).at(-1)?.id;
    const after = await before.restart();
    assert.equal(await client.ended, 'whole');
    const back = await follow(after, 'restarted', last);
    await push(after, 'restarted', gradients);
    // The last checkpoint was written when nobody listened any more.
    assert.deepEqual(idsOf(await back.take(2)), ['4+ckpt-000002', '5']);
    const late = await follow(after, 'restarted', '2');
    assert.deepEqual(idsOf(await late.take(3)), ['events_lost', '4+ckpt-000002', '5']);
    for (const each of [back, late]) each.close();
  });

  test('finds all after a crash: what the journal brings back is told again', async (t) => {
    await create(api, 'crashed', variables, byHand);
    const client = await follow(api, 'crashed');
    await push(api, 'crashed', gradients);
    await patch(api, 'crashed', { metadata: { a: 1 } });
    succeeded(await api.call('POST', '/v1/sessions/crashed/checkpoints'), 201);
    await push(api, 'crashed', gradients, '?worker=w1&base=1');
    const assignment = { json: { variables: { w: { values: [5, 6] } } } };
    succeeded(await api.call('PUT', '/v1/sessions/crashed/variables', assignment));
    await push(api, 'crashed', gradients);
    const told = await client.take(6);
    client.close();
    const after = await startApi(t, {}, await crashedCopy(t, api.folder));
    for (let index = 1; index < told.length; index++) {
      const back = await follow(after, 'crashed', told[index]?.id);
      const missed = await back.take(told.length - 1 - index);
      assert.deepEqual(missed, told.slice(index + 1));
      back.close();
    }
    const back = await follow(after, 'crashed', told.at(-1)?.id);
    await push(after, 'crashed', gradients);
    assert.deepEqual(idsOf(await back.take(1)), ['6']);
    back.close();
  });

  test('is told after a crash that states are lost which it had heard of', async (t) => {
    await create(api, 'forgotten', variables, { ...byHand, durability: 'checkpoint' });
    await pushes(api, 'forgotten', 2);
    succeeded(await api.call('POST', '/v1/sessions/forgotten/checkpoints'), 201);
    await pushes(api, 'forgotten', 3);
    const after = await startApi(t, {}, await crashedCopy(t, api.folder));
    const { revision } = (await after.call('GET', '/v1/sessions/forgotten')).json;
    assert.ok(revision > 5);
    await push(after, 'forgotten', gradients);
    const checks: [string, string[]][] = [
      ['2', ['2+ckpt-000002', String(revision + 1)]],
      ['2+ckpt-000002', [String(revision + 1)]],
      [String(revision), [String(revision + 1)]],
      ['4', ['events_lost', '2+ckpt-000002', String(revision + 1)]],
    ];
    for (const [id, expected] of checks) {
      const back = await follow(after, 'forgotten', id);
      assert.deepEqual(idsOf(await back.take(expected.length)), expected, id);
      back.close();
    }
  });
});

describe('the end', () => {
  test('of the server comes after all that was done, and is an end as HTTP has it', async (t) => {
    const server = await startApi(t);
    await create(server, 'ending', variables, byHand);
    const clients = await Promise.all([1, 2, 3].map(() => follow(server, 'ending')));
    const under = Array.from({ length: 20 }, () => push(server, 'ending', gradients).catch(() => undefined));
    const arrived = once(server.app.server, 'request');
    await arrived;
    const begun = performance.now();
    await server.app.close();
    assert.ok(performance.now() - begun < 5_000);
    const applied = (await Promise.all(under)).filter((each) => each !== undefined).length;
    for (const client of clients) {
      assert.equal(await client.ended, 'whole');
      assert.equal(client.received.length, server.store.session('ending').revision);
    }
    assert.ok(applied > 0);
  });
});
