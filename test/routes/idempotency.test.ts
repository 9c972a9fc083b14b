/** Every call that changes something, sent twice with one `Idempotency-Key`, is applied once, and the repeat says so. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { encodeFile, f32, i64, safetensors, startApi } from '../support/api.ts';
import { create, getDocument, push, refused, stateOf, succeeded } from '../support/calls.ts';
import { assertFirstThenRepeat, isRepeat, type KeyedCall, said, send, tensorsOf, wholeOf } from '../support/repeats.ts';

const api = await startApi({ after });
/** The rate changes with every step, so that an answer's tells which step it is about. */
const decaying = { optimizer: { class_name: 'Adamax', config: { learning_rate: 0.5, decay: 0.25 } } };
const variables = { w: { values: [1, 2, 3] }, e: { shape: [4, 2], initializer: 'ones' } };
const dense = { w: { values: [1, -2, 0.5] } };
const sparse = { e: { indices: [3, 1, 3], values: [1, 2, 3, 4, 5, 6] } };
const file = encodeFile({ w: f32([1, -2, 0.5]), 'e:indices': i64([2]), 'e:values': f32([1, 2], [1, 2]) });

let sessions = 0;
async function newSession(): Promise<string> {
  const name = `s${++sessions}`;
  await create(api, name, variables, decaying);
  await push(api, name, dense);
  succeeded(await api.call('POST', `/v1/sessions/${name}/checkpoints`), 201);
  await push(api, name, sparse);
  return name;
}

describe('gradients sent twice are one step; the repeat has the first iterations and rate, and the values now:', () => {
  const json = { gradients: { ...dense, ...sparse } };
  const forms: Record<string, Omit<KeyedCall, 'method' | 'path'> & { query?: string }> = {
    'as JSON': { json },
    'as safetensors': { bytes: file },
    'as JSON, answered in safetensors': { json, headers: { accept: safetensors } },
    'as safetensors, answered in JSON': { bytes: file, headers: { accept: 'application/json' } },
    'answered in BF16': { json, query: '?dtype=BF16' },
    'as safetensors, answered in F64': { bytes: file, query: '?dtype=F64' },
    'answered without values': { json, headers: { prefer: 'return=minimal' } },
    'as safetensors, answered without values': { bytes: file, headers: { prefer: 'return=minimal' } },
  };
  for (const [what, { query = '', ...form }] of Object.entries(forms)) {
    test(what, async () => {
      const name = await newSession();
      const call = { method: 'POST', path: `/v1/sessions/${name}/gradients${query}`, ...form };
      const first = await send(api, 'k', call);
      const at = await stateOf(api, name);
      assertFirstThenRepeat(first, await send(api, 'k', call));
      assert.deepEqual(await stateOf(api, name), at);
      await push(api, name, dense);
      const now = await wholeOf(api, name);
      const repeat = await send(api, 'k', call);
      assertFirstThenRepeat(first, repeat);
      assert.deepEqual(await wholeOf(api, name), now);
      for (const member of ['iterations', 'learning_rate']) {
        assert.equal(said(repeat, member), said(first, member), member);
      }
      const { revision } = await getDocument(api, name);
      assert.equal(said(repeat, 'revision'), revision);
      assert.equal(repeat.headers.etag, `"${revision}"`);
      if (what.includes('without')) {
        assert.deepEqual(tensorsOf(repeat), tensorsOf(first));
        return;
      }
      assert.deepEqual(tensorsOf(repeat), tensorsOf(await current(name, form.headers, query, what)));
      assert.notDeepEqual(tensorsOf(repeat), tensorsOf(first));
    });
  }

  /** What a step that changes nothing would be answered with now: dense variables whole, of sparse ones the rows. */
  async function current(name: string, headers: KeyedCall['headers'], query: string, what: string) {
    const accept = headers?.accept ?? (what.startsWith('as safetensors') ? safetensors : 'application/json');
    const copy = `${name}-copy`;
    succeeded(await api.call('POST', `/v1/sessions/${name}/fork`, { json: { name: copy } }), 201);
    const patch = { optimizer: { config: { learning_rate: 0, decay: 0 } } };
    succeeded(await api.call('PATCH', `/v1/sessions/${copy}`, { json: patch }));
    const body = what.startsWith('as safetensors') ? { bytes: file } : { json };
    return succeeded(
      await api.call('POST', `/v1/sessions/${copy}/gradients${query}`, { ...body, headers: { accept } }),
    );
  }
});

/** Each is sent to a session of its own; `is` says what must hold after the first, and still after the repeat. */
const others: Record<string, (name: string) => Omit<KeyedCall, 'headers'>> = {
  'a patch': (name) => ({ method: 'PATCH', path: `/v1/sessions/${name}`, json: { metadata: { a: 1 }, iterations: 7 } }),
  'an assignment of variables as JSON': (name) => ({
    method: 'PUT',
    path: `/v1/sessions/${name}/variables`,
    json: { variables: { w: { values: [7, 8, 9] } } },
  }),
  'an assignment of variables as safetensors': (name) => ({
    method: 'PUT',
    path: `/v1/sessions/${name}/variables`,
    bytes: encodeFile({ w: f32([7, 8, 9]) }),
  }),
  'an assignment of a slot': (name) => ({
    method: 'PUT',
    path: `/v1/sessions/${name}/slots/v`,
    json: { variables: { e: { indices: [1], values: [5, 6] } } },
  }),
  'a checkpoint': (name) => ({ method: 'POST', path: `/v1/sessions/${name}/checkpoints` }),
  "a checkpoint's deletion": (name) => ({ method: 'DELETE', path: `/v1/sessions/${name}/checkpoints/ckpt-000001` }),
  'a restore': (name) => ({ method: 'POST', path: `/v1/sessions/${name}/checkpoints/ckpt-000001/restore` }),
};

describe('sent twice, and once more after other changes, is done once:', () => {
  for (const [what, callFor] of Object.entries(others)) {
    test(what, async () => {
      const name = await newSession();
      const before = await wholeOf(api, name);
      const first = await send(api, 'k', callFor(name));
      // A restore is followed by a checkpoint in its own time; behind another one, it is there.
      if (what === 'a restore') succeeded(await api.call('POST', `/v1/sessions/${name}/checkpoints`), 201);
      const done = await wholeOf(api, name);
      assert.notDeepEqual(done, before);
      const repeat = await send(api, 'k', callFor(name));
      assertFirstThenRepeat(first, repeat);
      assert.deepEqual(await wholeOf(api, name), done);
      if (first.status !== 204)
        assert.deepEqual({ ...repeat.json, last_checkpoint: 0 }, { ...first.json, last_checkpoint: 0 });
      await push(api, name, dense);
      const later = await wholeOf(api, name);
      assertFirstThenRepeat(first, await send(api, 'k', callFor(name)));
      assert.deepEqual(await wholeOf(api, name), later);
    });
  }

  test('a creation', async () => {
    const call = { method: 'PUT', path: '/v1/sessions/created', json: { variables, ...decaying } };
    const first = await send(api, 'k', call);
    await push(api, 'created', dense);
    const now = await wholeOf(api, 'created');
    assertFirstThenRepeat(first, await send(api, 'k', call));
    assert.deepEqual(await wholeOf(api, 'created'), now);
    refused(await api.call(call.method, call.path, { json: call.json }), 'session_exists');
  });

  test('a creation from a model file', async () => {
    const bytes = encodeFile({ w: f32([1, 2]) });
    const call = { method: 'PUT', path: '/v1/sessions/created-from-file', bytes };
    const first = await send(api, 'k', call);
    assertFirstThenRepeat(first, await send(api, 'k', call));
  });

  test('a deletion, also when there is a new session of that name', async () => {
    const name = await newSession();
    const call = { method: 'DELETE', path: `/v1/sessions/${name}` };
    const first = await send(api, 'k', call);
    assertFirstThenRepeat(first, await send(api, 'k', call));
    await create(api, name, { other: { values: [1] } });
    const now = await wholeOf(api, name);
    assertFirstThenRepeat(first, await send(api, 'k', call));
    assert.deepEqual(await wholeOf(api, name), now);
  });

  test('a fork, and the repeat is about the fork as it is now', async () => {
    const name = await newSession();
    const call = { method: 'POST', path: `/v1/sessions/${name}/fork`, json: { name: `${name}-fork` } };
    const first = await send(api, 'k', call);
    await push(api, `${name}-fork`, dense);
    const now = await wholeOf(api, `${name}-fork`);
    const repeat = await send(api, 'k', call);
    assertFirstThenRepeat(first, repeat);
    assert.equal(repeat.json.name, `${name}-fork`);
    assert.deepEqual(await wholeOf(api, `${name}-fork`), now);
  });
});

test('a restore that would go back once more does not', async () => {
  const name = await newSession();
  const call = { method: 'POST', path: `/v1/sessions/${name}/checkpoints/latest/restore` };
  const first = await send(api, 'k', call);
  assert.equal(first.json.iterations, 1);
  await push(api, name, dense);
  const repeat = await send(api, 'k', call);
  assert.equal(isRepeat(repeat), true);
  assert.equal((await getDocument(api, name)).iterations, 2);
});

test('the repeat of an assignment has the first iterations and rate', async () => {
  const name = await newSession();
  const json = { variables: { w: { values: [7, 8, 9] } } };
  const call = { method: 'PUT', path: `/v1/sessions/${name}/variables`, json };
  const first = await send(api, 'k', call);
  await push(api, name, dense);
  const repeat = await send(api, 'k', call);
  assertFirstThenRepeat(first, repeat);
  for (const member of ['iterations', 'learning_rate']) assert.equal(said(repeat, member), said(first, member), member);
  assert.equal(said(repeat, 'revision'), (await getDocument(api, name)).revision);
});
