/** Forks: the same bits to begin with, and nothing in common afterwards. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Api, type Json, startApi } from '../support/api.ts';
import { create, getDocument, patch, push, refused, stateOf, succeeded } from '../support/calls.ts';

const variables = {
  w: { values: [1, 2, 3] },
  table: { shape: [400_000], initializer: { class_name: 'RandomUniform', config: { seed: 7 } } },
  exact: { values: [0.1], dtype: 'F64' },
};
const gradients = { w: { values: [1, -2, 0.5] }, exact: { values: [3] } };

async function fork(api: Api, name: string, json: object, headers = {}): Promise<Json> {
  return succeeded(await api.call('POST', `/v1/sessions/${name}/fork`, { json, headers }), 201).json;
}

describe('POST /v1/sessions/{session}/fork', () => {
  test('creates a session with the same bits, counter, configuration and settings, which survives a restart', async (t) => {
    const api = await startApi(t);
    await create(api, 'a', variables, { metadata: { note: 'x' }, checkpointing: { keep: 3 } });
    await push(api, 'a', gradients);
    await patch(api, 'a', { optimizer: { config: { learning_rate: 0.25 } } });
    const document = await fork(api, 'a', { name: 'b' });
    const { name, revision, created_at, last_checkpoint, ...own } = document;
    assert.equal(name, 'b');
    assert.equal(revision, 0);
    const source = await getDocument(api, 'a');
    for (const [member, value] of Object.entries(own)) assert.deepEqual(value, source[member], member);
    assert.deepEqual(await stateOf(api, 'b'), await stateOf(api, 'a'));
    const again = await api.restart();
    assert.deepEqual(await stateOf(again, 'b'), await stateOf(again, 'a'));
  });

  test('lets both go their own ways, with the same bits for the same gradients', async (t) => {
    const api = await startApi(t);
    await create(api, 'a', variables);
    await push(api, 'a', gradients);
    await fork(api, 'a', { name: 'b' });
    const before = await stateOf(api, 'a');
    await push(api, 'b', gradients);
    assert.deepEqual(await stateOf(api, 'a'), before);
    const ahead = await stateOf(api, 'b');
    await push(api, 'a', gradients);
    assert.deepEqual(await stateOf(api, 'a'), ahead);
    succeeded(await api.call('DELETE', '/v1/sessions/a'), 204);
    assert.deepEqual(await stateOf(api, 'b'), ahead);
  });

  test('without a journal goes back to the iteration of a checkpoint, and to no other', async (t) => {
    const api = await startApi(t);
    await create(api, 'a', variables, { durability: 'checkpoint' });
    await push(api, 'a', gradients);
    succeeded(await api.call('POST', '/v1/sessions/a/checkpoints'), 201);
    const at1 = await stateOf(api, 'a');
    await push(api, 'a', gradients);
    await push(api, 'a', gradients);
    await fork(api, 'a', { name: 'then', iterations: 1 });
    assert.deepEqual(await stateOf(api, 'then'), at1);
    await fork(api, 'a', { name: 'now', iterations: 3 });
    assert.deepEqual(await stateOf(api, 'now'), await stateOf(api, 'a'));
    const answer = await api.call('POST', '/v1/sessions/a/fork', { json: { name: 'between', iterations: 2 } });
    const { detail } = refused(answer, 'iteration_unavailable');
    assert.equal(detail, "iterations must be the session's or a checkpoint's: 3, 1, 0. Received: 2");
    refused(await api.call('GET', '/v1/sessions/between'), 'session_not_found');
  });

  test('is refused, and changes nothing, where the name is taken, the revision another, or the body wrong', async (t) => {
    const api = await startApi(t);
    await create(api, 'a', { w: { values: [1] } });
    await create(api, 'b', { w: { values: [2] } });
    const before = [await stateOf(api, 'a'), await stateOf(api, 'b')];
    const path = '/v1/sessions/a/fork';
    refused(await api.call('POST', path, { json: { name: 'b' } }), 'session_exists');
    refused(await api.call('POST', path, { json: { name: 'a' } }), 'session_exists');
    const headers = { 'if-match': '"7"' };
    refused(await api.call('POST', path, { json: { name: 'c' }, headers }), 'precondition_failed');
    for (const json of [
      {},
      { name: '../c' },
      { name: 'c', iterations: -1 },
      { name: 'c', iterations: '1' },
      { name: 'c', x: 1 },
    ]) {
      refused(await api.call('POST', path, { json }), 'invalid_parameter');
    }
    refused(await api.call('POST', '/v1/sessions/none/fork', { json: { name: 'c' } }), 'session_not_found');
    refused(await api.call('GET', '/v1/sessions/c'), 'session_not_found');
    assert.deepEqual([await stateOf(api, 'a'), await stateOf(api, 'b')], before);
    await fork(api, 'a', { name: 'c' }, { 'if-match': '"0"' });
  });

  test('needs room for the second state', async (t) => {
    // 12 bytes a parameter: 6 MB for one of them, and no room for two.
    const api = await startApi(t, { memoryBytesMax: 9_000_000 });
    await create(api, 'a', { w: { shape: [500_000], initializer: 'ones' } });
    refused(await api.call('POST', '/v1/sessions/a/fork', { json: { name: 'b' } }), 'insufficient_memory');
    refused(await api.call('GET', '/v1/sessions/b'), 'session_not_found');
  });
});
