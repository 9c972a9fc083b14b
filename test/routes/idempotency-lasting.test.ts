/** How long a key is known: so many of them, through restarts, restores and deletions, and by forks as far as they share a past. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Api, startApi } from '../support/api.ts';
import { create, getDocument, refused, succeeded } from '../support/calls.ts';
import { assertFirstThenRepeat, isRepeat, type KeyedCall, send, wholeOf } from '../support/repeats.ts';

const variables = { w: { values: [1, 2, 3] } };
const json = { gradients: { w: { values: [1, -2, 0.5] } } };
const stepOf = (name: string): KeyedCall => ({ method: 'POST', path: `/v1/sessions/${name}/gradients`, json });

/** The server, and then the one that goes on with its folder. */
async function* andRestarted(api: Api): AsyncGenerator<Api> {
  yield api;
  yield await api.restart();
}

async function isKnown(api: Api, key: string, call: KeyedCall): Promise<boolean> {
  return isRepeat(succeeded(await send(api, key, call), call.method === 'DELETE' ? 204 : 200));
}

describe('of many keys', () => {
  for (const durability of ['always', 'everysec', 'checkpoint']) {
    test(`the last ones are known, after a restart too, under ${durability}`, async (t) => {
      const api = await startApi(t, { keysMax: 4 });
      await create(api, 'a', variables, { durability });
      for (let k = 0; k < 10; k++) assert.equal(await isKnown(api, `k${k}`, stepOf('a')), false);
      const again = await api.restart();
      for await (const each of andRestarted(again)) {
        for (const k of [6, 7, 8, 9]) assert.equal(await isKnown(each, `k${k}`, stepOf('a')), true, `k${k}`);
        assert.equal((await getDocument(each, 'a')).iterations, 10);
      }
    });
  }

  test('older ones are free again: sent once more, such a request is a first one', async (t) => {
    const api = await startApi(t, { keysMax: 2 });
    await create(api, 'a', variables);
    for (const key of ['k0', 'k1', 'k2']) assert.equal(await isKnown(api, key, stepOf('a')), false);
    assert.equal(await isKnown(api, 'k0', stepOf('a')), false);
    assert.equal((await getDocument(api, 'a')).iterations, 4);
  });

  test("those of one session do not push out another's", async (t) => {
    const api = await startApi(t, { keysMax: 2 });
    for (const name of ['a', 'b']) await create(api, name, variables);
    assert.equal(await isKnown(api, 'k', stepOf('b')), false);
    for (let k = 0; k < 5; k++) await isKnown(api, `k${k}`, stepOf('a'));
    assert.equal(await isKnown(api, 'k', stepOf('b')), true);
  });
});

describe('after a restart', () => {
  for (const durability of ['always', 'everysec', 'checkpoint']) {
    test(`every call is known that was answered before, under ${durability}`, async (t) => {
      let api = await startApi(t);
      const path = '/v1/sessions/a';
      const calls: KeyedCall[] = [
        { method: 'PUT', path, json: { variables, durability } },
        stepOf('a'),
        { method: 'PATCH', path, json: { metadata: { n: 1 } } },
        { method: 'PUT', path: `${path}/variables`, json: { variables } },
        { method: 'PUT', path: `${path}/slots/m`, json: { variables } },
        { method: 'POST', path: `${path}/checkpoints` },
        { method: 'POST', path: `${path}/checkpoints/ckpt-000001/restore` },
        { method: 'POST', path: `${path}/fork`, json: { name: 'b' } },
        { method: 'POST', path: `${path}/fork`, json: { name: 'c' } },
        stepOf('b'),
        { method: 'DELETE', path: '/v1/sessions/c' },
      ];
      const firsts = [];
      for (const [k, call] of calls.entries()) {
        const first = await send(api, `k${k}`, call);
        assert.ok(first.status < 300, `${call.method} ${call.path}: ${first.bytes}`);
        firsts.push(first);
      }
      for (let restart = 0; restart < 2; restart++) {
        const before = [await wholeOf(api, 'a'), await wholeOf(api, 'b')];
        for (const [k, call] of calls.entries()) {
          const repeat = await send(api, `k${k}`, call);
          // What the fork made has been deleted since.
          if (k === 8) refused(repeat, 'session_not_found');
          else assertFirstThenRepeat(firsts[k] as (typeof firsts)[number], repeat);
        }
        assert.deepEqual([await wholeOf(api, 'a'), await wholeOf(api, 'b')], before);
        api = await api.restart();
      }
    });
  }

  test('the first answer is told as it was: iterations, rate and the checkpoint that was written', async (t) => {
    const api = await startApi(t);
    await create(api, 'a', variables, { optimizer: { class_name: 'Adamax', config: { decay: 0.5 } } });
    const written = succeeded(await send(api, 'c', { method: 'POST', path: '/v1/sessions/a/checkpoints' }), 201);
    const first = succeeded(await send(api, 'k', stepOf('a')));
    succeeded(await send(api, 'l', stepOf('a')));
    const again = await api.restart();
    const repeat = succeeded(await send(again, 'k', stepOf('a')));
    for (const member of ['iterations', 'learning_rate']) assert.equal(repeat.json[member], first.json[member], member);
    const repeated = await send(again, 'c', { method: 'POST', path: '/v1/sessions/a/checkpoints' });
    assertFirstThenRepeat(written, repeated);
    assert.deepEqual(repeated.json, written.json);
  });
});

test('a restore does not make the keys of what came after the checkpoint free', async (t) => {
  const api = await startApi(t);
  await create(api, 'a', variables);
  assert.equal(await isKnown(api, 'k', stepOf('a')), false);
  succeeded(await api.call('POST', '/v1/sessions/a/checkpoints/ckpt-000001/restore'));
  for await (const each of andRestarted(api)) assert.equal(await isKnown(each, 'k', stepOf('a')), true);
});

test('a deleted session takes the keys of its steps with it: a new one of the name knows none', async (t) => {
  const api = await startApi(t);
  await create(api, 'a', variables);
  assert.equal(await isKnown(api, 'k', stepOf('a')), false);
  succeeded(await api.call('DELETE', '/v1/sessions/a'), 204);
  await create(api, 'a', variables);
  const again = await api.restart();
  assert.equal(await isKnown(again, 'k', stepOf('a')), false);
  assert.equal((await getDocument(again, 'a')).iterations, 1);
});

describe('a fork', () => {
  /** `a` with three keyed steps; `earlier` is forked at the second, `now` as it is. */
  async function forked(t: Parameters<typeof startApi>[0]): Promise<Api> {
    const api = await startApi(t);
    await create(api, 'a', variables);
    for (const key of ['k1', 'k2', 'k3']) assert.equal(await isKnown(api, key, stepOf('a')), false);
    for (const fork of [{ name: 'earlier', iterations: 2 }, { name: 'now' }]) {
      succeeded(await api.call('POST', '/v1/sessions/a/fork', { json: fork }), 201);
    }
    return api;
  }

  test('does not apply again what its past has applied, after a restart neither', async (t) => {
    const api = await forked(t);
    for await (const each of andRestarted(api)) {
      for (const [name, keys] of Object.entries({ earlier: ['k1', 'k2'], now: ['k1', 'k2', 'k3'] })) {
        for (const key of keys) await send(each, key, stepOf(name));
        assert.equal((await getDocument(each, name)).iterations, keys.length, name);
      }
    }
  });

  test('applies what came after the iteration that it was made at', async (t) => {
    const api = await forked(t);
    assert.equal(await isKnown(api, 'k3', stepOf('earlier')), false);
    assert.equal((await getDocument(api, 'earlier')).iterations, 3);
    assert.equal(await isKnown(api, 'k3', stepOf('a')), true);
  });

  test('and what it was made from have later keys of their own', async (t) => {
    const api = await forked(t);
    assert.equal(await isKnown(api, 'later', stepOf('now')), false);
    assert.equal(await isKnown(api, 'later', stepOf('a')), false);
    assert.equal(await isKnown(api, 'later', stepOf('now')), true);
  });

  test('answers a repeat of a step of its past as one', async (t) => {
    const api = await forked(t);
    assert.equal(await isKnown(api, 'k2', stepOf('earlier')), true);
  });
});

test('a fork does not know the key by which its source was made: that made another session', async (t) => {
  const api = await startApi(t);
  const call = { json: { variables: { w: { values: [1] } } }, headers: { 'idempotency-key': 'made' } };
  succeeded(await api.call('PUT', '/v1/sessions/source', call), 201);
  succeeded(await api.call('POST', '/v1/sessions/source/fork', { json: { name: 'copy' } }), 201);
  refused(await api.call('PUT', '/v1/sessions/copy', call), 'session_exists');
});
