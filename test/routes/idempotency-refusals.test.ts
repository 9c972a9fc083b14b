/** What an `Idempotency-Key` does not do: stand for two requests, outlive a failure, or let a condition be judged twice. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { encodeFile, f32, startApi } from '../support/api.ts';
import { create, getDocument, push, refused, succeeded } from '../support/calls.ts';
import { assertFirstThenRepeat, isRepeat, type KeyedCall, send, wholeOf } from '../support/repeats.ts';

const api = await startApi({ after });
const variables = { w: { values: [1, 2, 3] } };
const gradients = { w: { values: [1, -2, 0.5] } };

let sessions = 0;
async function newSession(): Promise<{ name: string; path: string; step: KeyedCall }> {
  const name = `s${++sessions}`;
  await create(api, name, variables);
  const path = `/v1/sessions/${name}`;
  return { name, path, step: { method: 'POST', path: `${path}/gradients`, json: { gradients } } };
}

describe('the key of another request is refused, and nothing changes:', () => {
  const strangers: Record<string, (path: string) => KeyedCall> = {
    'another body': (path) => ({
      method: 'POST',
      path: `${path}/gradients`,
      json: { gradients: { w: { values: [1, -2, 0.25] } } },
    }),
    'another format': (path) => ({
      method: 'POST',
      path: `${path}/gradients`,
      bytes: encodeFile({ w: f32([1, -2, 0.5]) }),
    }),
    'another query': (path) => ({ method: 'POST', path: `${path}/gradients?worker=b`, json: { gradients } }),
    'another address': (path) => ({ method: 'PUT', path: `${path}/variables`, json: { variables } }),
    'another slot': (path) => ({ method: 'PUT', path: `${path}/slots/m`, json: { variables } }),
    'no body': (path) => ({ method: 'POST', path: `${path}/checkpoints` }),
    'another method': (path) => ({ method: 'PATCH', path, json: { iterations: 9 } }),
    'a deletion': (path) => ({ method: 'DELETE', path }),
    'a fork': (path) => ({ method: 'POST', path: `${path}/fork`, json: { name: 'never' } }),
  };
  for (const [what, callFor] of Object.entries(strangers)) {
    test(what, async () => {
      const { name, path, step } = await newSession();
      succeeded(await send(api, 'k', step));
      const before = await wholeOf(api, name);
      refused(await send(api, 'k', callFor(path)), 'idempotency_key_reused');
      assert.deepEqual(await wholeOf(api, name), before);
      refused(await api.call('GET', '/v1/sessions/never'), 'session_not_found');
      assert.equal(isRepeat(await send(api, 'k', step)), true);
    });
  }

  test('a creation with another body', async () => {
    const call = { method: 'PUT', path: '/v1/sessions/once', json: { variables } };
    succeeded(await send(api, 'k', call), 201);
    refused(await send(api, 'k', { ...call, json: { variables, metadata: {} } }), 'idempotency_key_reused');
  });

  test('of another session it is a key of its own', async () => {
    const [one, other] = [await newSession(), await newSession()];
    succeeded(await send(api, 'k', one.step));
    assert.equal(isRepeat(await send(api, 'k', other.step)), false);
    assert.equal((await getDocument(api, other.name)).iterations, 1);
  });
});

describe('two at once', () => {
  test('are one step: the second waits for the first and is its repeat', async () => {
    const { name, step } = await newSession();
    const answers = await Promise.all(Array.from({ length: 6 }, () => send(api, 'k', step)));
    for (const answer of answers) assert.equal(succeeded(answer).json.iterations, 1);
    assert.equal(answers.filter((answer) => !isRepeat(answer)).length, 1);
    assert.equal((await getDocument(api, name)).revision, 1);
  });

  test('are one session', async () => {
    const call = { method: 'PUT', path: '/v1/sessions/twin', json: { variables } };
    const answers = await Promise.all([1, 2, 3].map(() => send(api, 'k', call)));
    for (const answer of answers) succeeded(answer, 201);
    assert.equal(answers.filter((answer) => !isRepeat(answer)).length, 1);
  });

  test('are one checkpoint, one fork and one deletion', async () => {
    const { name, path } = await newSession();
    const calls: [number, KeyedCall][] = [
      [201, { method: 'POST', path: `${path}/checkpoints` }],
      [201, { method: 'POST', path: `${path}/fork`, json: { name: `${name}-fork` } }],
      [204, { method: 'DELETE', path }],
    ];
    for (const [status, call] of calls) {
      const key = `k-${call.method}-${status}-${call.path}`;
      const answers = await Promise.all([1, 2, 3].map(() => send(api, key, call)));
      for (const answer of answers) succeeded(answer, status);
      assert.equal(answers.filter((answer) => !isRepeat(answer)).length, 1, key);
      if (status === 201 && call.json === undefined) {
        const { checkpoints } = (await api.call('GET', `${path}/checkpoints`)).json;
        assert.equal(checkpoints.length, 2);
      }
    }
  });

  test('that both differ are one step and one refusal', async () => {
    const { name, step } = await newSession();
    const stranger = { ...step, json: { gradients: { w: { values: [5, 5, 5] } } } };
    const answers = await Promise.all([send(api, 'k', step), send(api, 'k', stranger)]);
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 422]);
    assert.equal((await getDocument(api, name)).iterations, 1);
  });
});

describe('a first that failed leaves its key free:', () => {
  const bad = { gradients: { w: { values: [1e39, 0, 0] } } };
  test('one that is not finite', async () => {
    const { name, step } = await newSession();
    refused(await send(api, 'k', { ...step, json: bad }), 'gradient_not_finite');
    assert.equal(isRepeat(succeeded(await send(api, 'k', step))), false);
    assert.equal((await getDocument(api, name)).iterations, 1);
    refused(await send(api, 'k', { ...step, json: bad }), 'idempotency_key_reused');
  });

  test('one at another revision', async () => {
    const { name, step } = await newSession();
    refused(await send(api, 'k', { ...step, headers: { 'if-match': '"7"' } }), 'precondition_failed');
    assert.equal(isRepeat(succeeded(await send(api, 'k', { ...step, headers: { 'if-match': '"0"' } }))), false);
    assert.equal((await getDocument(api, name)).iterations, 1);
  });

  test('one whose session, checkpoint or iteration is not there', async () => {
    const call = { method: 'POST', path: '/v1/sessions/later/fork', json: { name: 'after-later' } };
    refused(await send(api, 'k', call), 'session_not_found');
    await create(api, 'later', variables);
    const early = { ...call, json: { name: 'after-later', iterations: 5 } };
    refused(await send(api, 'k', early), 'iteration_unavailable');
    assert.equal(isRepeat(succeeded(await send(api, 'k', call), 201)), false);
    const remove = { method: 'DELETE', path: '/v1/sessions/later/checkpoints/ckpt-000002' };
    refused(await send(api, 'r', remove), 'checkpoint_not_found');
    for (let write = 0; write < 2; write++) succeeded(await api.call('POST', '/v1/sessions/later/checkpoints'), 201);
    assert.equal(isRepeat(succeeded(await send(api, 'r', remove), 204)), false);
  });

  test('one that would have been a session of a name that is taken', async () => {
    const { name, path } = await newSession();
    const call = { method: 'PUT', path, json: { variables } };
    refused(await send(api, 'k', call), 'session_exists');
    succeeded(await api.call('DELETE', path), 204);
    assert.equal(isRepeat(succeeded(await send(api, 'k', call), 201)), false);
    assert.equal((await getDocument(api, name)).iterations, 0);
  });
});

describe('a repeat is recognised before', () => {
  test('If-Match is judged', async () => {
    const { name, path, step } = await newSession();
    const calls: KeyedCall[] = [
      { ...step, headers: { 'if-match': '"0"' } },
      { method: 'PATCH', path, json: { metadata: { a: 1 } }, headers: { 'if-match': '"1"' } },
      { method: 'PUT', path: `${path}/variables`, json: { variables }, headers: { 'if-match': '"2"' } },
      { method: 'POST', path: `${path}/checkpoints`, headers: { 'if-match': '"3"' } },
      { method: 'POST', path: `${path}/checkpoints/ckpt-000001/restore`, headers: { 'if-match': '"3"' } },
      { method: 'POST', path: `${path}/fork`, json: { name: `${name}-f` }, headers: { 'if-match': '"4"' } },
      { method: 'DELETE', path: `${path}/checkpoints/ckpt-000002`, headers: { 'if-match': '"4"' } },
    ];
    for (const [k, call] of calls.entries()) {
      if (call.method === 'DELETE') succeeded(await api.call('POST', `${path}/checkpoints`), 201);
      const first = await send(api, `k${k}`, call);
      assertFirstThenRepeat(first, await send(api, `k${k}`, call));
    }
    await push(api, name, gradients);
    for (const [k, call] of calls.entries()) {
      assert.equal(isRepeat(await send(api, `k${k}`, call)), true, `${call.method} ${call.path}`);
    }
    const remove: KeyedCall = { method: 'DELETE', path, headers: { 'if-match': '"5"' } };
    assertFirstThenRepeat(await send(api, 'delete', remove), await send(api, 'delete', remove));
  });

  test('base is judged', async () => {
    const { path, step } = await newSession();
    const call = { ...step, path: `${step.path}?base=0` };
    const first = await send(api, 'k', call);
    // Behind a restore, a base of 1 lies ahead of the session.
    const ahead = { ...step, path: `${step.path}?base=1` };
    const second = await send(api, 'l', ahead);
    succeeded(await api.call('POST', `${path}/checkpoints/ckpt-000001/restore`));
    assertFirstThenRepeat(first, await send(api, 'k', call));
    assertFirstThenRepeat(second, await send(api, 'l', ahead));
    refused(await send(api, 'm', ahead), 'invalid_argument');
  });
});

describe('a key must be 1 to 255 visible ASCII characters:', () => {
  for (const key of ['', 'a'.repeat(256), 'a b', 'größe', 'a\tb', 'a,b c']) {
    test(`${JSON.stringify(key.slice(0, 20))} is refused, and nothing changes`, async () => {
      const { name, path, step } = await newSession();
      const headers = { 'idempotency-key': Buffer.from(key).toString('latin1') };
      const calls: KeyedCall[] = [
        step,
        { method: 'PATCH', path, json: { iterations: 9 } },
        { method: 'DELETE', path },
        { method: 'PUT', path: `${path}-new`, json: { variables } },
        { method: 'POST', path: `${path}/checkpoints` },
        { method: 'POST', path: `${path}/fork`, json: { name: 'never' } },
      ];
      for (const { method, path: to, ...call } of calls) {
        refused(await api.call(method, to, { ...call, headers }), 'invalid_parameter');
      }
      assert.equal((await getDocument(api, name)).revision, 0);
      refused(await api.call('GET', `${path}-new`), 'session_not_found');
    });
  }

  test('the longest, and every character that is allowed', async () => {
    const { name, step } = await newSession();
    const visible = Array.from({ length: 0x7e - 0x20 }, (_, k) => String.fromCharCode(0x21 + k)).join('');
    for (const [k, key] of ['a', 'a'.repeat(255), visible].entries()) {
      assertFirstThenRepeat(await send(api, key, step), await send(api, key, step));
      assert.equal((await getDocument(api, name)).iterations, k + 1);
    }
  });
});
