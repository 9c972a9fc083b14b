/** The life of a session after its creation: list, patch, delete. Creating one is session-creation.test.ts. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { encodeFile, f32, type Json, startApi } from '../support/api.ts';
import { create, getDocument, patch, push, refused, stateOf, succeeded } from '../support/calls.ts';

const api = await startApi({ after });

describe('the list', () => {
  test('goes page by page, by name, with the cursor of the page before', async () => {
    for (const name of ['z-b', 'z-A', 'z-c', 'z-10', 'z-9']) await create(api, name, { w: { values: [1] } });
    const pages = [];
    for (let after: string | null = 'z'; after !== null; ) {
      const page: Json = succeeded(await api.call('GET', `/v1/sessions?limit=2&after=${after}`)).json;
      pages.push(page.sessions.map(({ name }: Json) => name));
      after = page.next;
    }
    assert.deepEqual(pages, [['z-10', 'z-9'], ['z-A', 'z-b'], ['z-c']]);
  });

  test('has the documents, and no next where there is no more', async () => {
    await create(api, 'listed', { w: { values: [1, 2] } }, { metadata: { a: 1 } });
    const { sessions, next } = succeeded(await api.call('GET', '/v1/sessions')).json;
    assert.equal(next, null);
    const names = sessions.map(({ name }: Json) => name);
    assert.deepEqual(names, [...names].sort());
    const document = sessions.find(({ name }: Json) => name === 'listed');
    assert.deepEqual(document, await getDocument(api, 'listed'));
  });

  test('goes on behind a cursor whose session is gone, and is empty behind the last', async () => {
    await create(api, 'y-1');
    await create(api, 'y-2');
    succeeded(await api.call('DELETE', '/v1/sessions/y-1'), 204);
    const page = succeeded(await api.call('GET', '/v1/sessions?limit=1&after=y-1')).json;
    assert.deepEqual(
      page.sessions.map(({ name }: Json) => name),
      ['y-2'],
    );
    assert.deepEqual(succeeded(await api.call('GET', '/v1/sessions?after=zzz')).json, { sessions: [], next: null });
  });

  test('takes a limit of 1 to 1000', async () => {
    for (const limit of ['0', '1001', '-1', '1.5', 'many']) {
      refused(await api.call('GET', `/v1/sessions?limit=${limit}`), 'invalid_parameter');
    }
    succeeded(await api.call('GET', '/v1/sessions?limit=1000'));
  });
});

describe('a patch', () => {
  const exponential = (config: object) => ({ class_name: 'ExponentialDecay', config });
  const setConfig = (name: string, config: object) => patch(api, name, { optimizer: { config } });

  test('changes the members that it names; null is their default', async () => {
    await create(api, 'p-config', {}, { optimizer: { class_name: 'Adamax', config: { beta_1: 0.5, clipnorm: 2 } } });
    const changed = await setConfig('p-config', { learning_rate: 0.25, epsilon: 1e-5 });
    assert.equal(changed.learning_rate, 0.25);
    const { beta_1, clipnorm, learning_rate, epsilon } = changed.optimizer.config;
    assert.deepEqual([beta_1, clipnorm, learning_rate, epsilon], [0.5, 2, 0.25, 1e-5]);
    const reset = await setConfig('p-config', { learning_rate: null, beta_1: null, clipnorm: null });
    assert.deepEqual(reset.optimizer.config, {
      ...changed.optimizer.config,
      learning_rate: 0.001,
      beta_1: 0.9,
      clipnorm: null,
    });
  });

  test('replaces a number by a schedule, merges into the schedule, and replaces it by another class', async () => {
    await create(api, 'p-schedule');
    const first = exponential({ initial_learning_rate: 0.5, decay_steps: 2, decay_rate: 0.5 });
    const scheduled = await setConfig('p-schedule', { learning_rate: first });
    const whole = { initial_learning_rate: 0.5, decay_steps: 2, decay_rate: 0.5, staircase: false, name: null };
    assert.deepEqual(scheduled.optimizer.config.learning_rate, exponential(whole));
    const merged = await setConfig('p-schedule', { learning_rate: { config: { decay_rate: 0.25, staircase: true } } });
    assert.deepEqual(
      merged.optimizer.config.learning_rate,
      exponential({ ...whole, decay_rate: 0.25, staircase: true }),
    );
    // 0.5 * 0.25^floor(5 / 2)
    assert.equal((await patch(api, 'p-schedule', { iterations: 5 })).learning_rate, 0.5 * 0.25 ** 2);
    const pieces = { boundaries: [4], values: [1, 2], name: null };
    const replaced = await setConfig('p-schedule', {
      learning_rate: { class_name: 'PiecewiseConstantDecay', config: pieces },
    });
    assert.deepEqual(replaced.optimizer.config.learning_rate, { class_name: 'PiecewiseConstantDecay', config: pieces });
    assert.equal(replaced.learning_rate, 2);
    assert.equal((await setConfig('p-schedule', { learning_rate: 0.125 })).optimizer.config.learning_rate, 0.125);
  });

  test('sets the counter, and the next step goes on from there', async () => {
    const learning_rate = exponential({ initial_learning_rate: 1, decay_steps: 1, decay_rate: 0.5 });
    await create(api, 'p-iterations', { w: { values: [0] } }, { optimizer: { config: { learning_rate } } });
    assert.equal((await patch(api, 'p-iterations', { iterations: 3 })).iterations, 3);
    const reply = await push(api, 'p-iterations', { w: { values: [1] } });
    assert.deepEqual([reply.iterations, reply.learning_rate], [4, 0.125]);
  });

  test('merges metadata at every depth; null removes a member, or all', async () => {
    await create(api, 'p-notes', {}, { metadata: { a: 1, b: { c: 2, d: 3 }, list: [1, 2] } });
    const merged = await patch(api, 'p-notes', { metadata: { a: null, b: { c: null, e: 4 }, list: [3] } });
    assert.deepEqual(merged.metadata, { b: { d: 3, e: 4 }, list: [3] });
    assert.deepEqual((await patch(api, 'p-notes', { metadata: null })).metadata, {});
  });

  test('changes single measures of checkpointing, whose null means not by that measure; null is all defaults', async () => {
    await create(api, 'p-checkpointing', {}, { checkpointing: { every_steps: 7, every_seconds: 60, keep: 2 } });
    const changed = await patch(api, 'p-checkpointing', { checkpointing: { every_steps: null, keep: 9 } });
    assert.deepEqual(changed.checkpointing, {
      every_steps: null,
      every_seconds: 60,
      keep: 9,
      keep_journal_steps: null,
    });
    const reset = await patch(api, 'p-checkpointing', { checkpointing: null, durability: null, aggregation: null });
    assert.deepEqual(reset.checkpointing, { every_steps: 1000, every_seconds: 300, keep: 5, keep_journal_steps: null });
    assert.deepEqual([reset.durability, reset.aggregation], ['always', { mode: 'async' }]);
  });

  test('is all or nothing', async () => {
    await create(api, 'p-atomic', {}, { metadata: { a: 1 } });
    const before = await getDocument(api, 'p-atomic');
    const refusals: [object, 'invalid_argument' | 'invalid_parameter'][] = [
      [{ metadata: { a: 2 }, optimizer: { config: { learning_rate: -1 } } }, 'invalid_argument'],
      [{ metadata: { a: 2 }, optimizer: { config: { clipnorm: 1, global_clipnorm: 1 } } }, 'invalid_argument'],
      [{ metadata: { a: 2 }, optimizer: { config: { learning_rat: 1 } } }, 'invalid_argument'],
      [{ metadata: { a: 2 }, iterations: -1 }, 'invalid_parameter'],
      [{ metadata: { a: 2 }, iteration: 1 }, 'invalid_parameter'],
      [{ metadata: { a: 2 }, checkpointing: { keep: 0 } }, 'invalid_parameter'],
    ];
    for (const [json, code] of refusals) refused(await api.call('PATCH', '/v1/sessions/p-atomic', { json }), code);
    refused(await api.call('PATCH', '/v1/sessions/nobody', { json: {} }), 'session_not_found');
    assert.deepEqual(await getDocument(api, 'p-atomic'), before);
  });

  test('comes as application/merge-patch+json too, and heeds If-Match', async () => {
    await create(api, 'p-match');
    const json = { iterations: 8 };
    const headers = { 'content-type': 'application/merge-patch+json', 'if-match': '"0"' };
    assert.equal(succeeded(await api.call('PATCH', '/v1/sessions/p-match', { json, headers })).json.revision, 1);
    refused(
      await api.call('PATCH', '/v1/sessions/p-match', { json: { iterations: 9 }, headers }),
      'precondition_failed',
    );
    assert.equal((await getDocument(api, 'p-match')).iterations, 8);
  });
});

describe('a deletion', () => {
  test('leaves nothing: the name is free, and its checkpoints are gone', async () => {
    await create(api, 'd-plain', { w: { values: [1] } });
    const answer = succeeded(await api.call('DELETE', '/v1/sessions/d-plain'), 204);
    assert.equal(answer.bytes.length, 0);
    for (const [method, path] of [
      ['GET', ''],
      ['DELETE', ''],
      ['GET', '/variables'],
      ['GET', '/checkpoints'],
    ] as const) {
      refused(await api.call(method, `/v1/sessions/d-plain${path}`), 'session_not_found');
    }
    await create(api, 'd-plain', { other: { values: [2] } });
    const { checkpoints } = succeeded(await api.call('GET', '/v1/sessions/d-plain/checkpoints')).json;
    assert.deepEqual(
      checkpoints.map(({ id }: Json) => id),
      ['ckpt-000001'],
    );
  });

  test('heeds If-Match', async () => {
    await create(api, 'd-match');
    refused(
      await api.call('DELETE', '/v1/sessions/d-match', { headers: { 'if-match': '"1"' } }),
      'precondition_failed',
    );
    succeeded(await api.call('GET', '/v1/sessions/d-match'));
    succeeded(await api.call('DELETE', '/v1/sessions/d-match', { headers: { 'if-match': '"0"' } }), 204);
  });

  test('can keep the checkpoints, for a later session of that name to restore', async () => {
    await create(api, 'd-kept', { w: { values: [1, 2] } }, { metadata: { first: true } });
    await push(api, 'd-kept', { w: { values: [0.1, 0.2] } });
    succeeded(await api.call('POST', '/v1/sessions/d-kept/checkpoints'), 201);
    const state = await stateOf(api, 'd-kept');
    succeeded(await api.call('DELETE', '/v1/sessions/d-kept?keep_checkpoints=true'), 204);
    refused(await api.call('GET', '/v1/sessions/d-kept'), 'session_not_found');

    await create(api, 'd-kept', { other: { values: [3] } }, { checkpointing: { keep: 1 } });
    succeeded(await api.call('POST', '/v1/sessions/d-kept/checkpoints'), 201);
    const { checkpoints } = succeeded(await api.call('GET', '/v1/sessions/d-kept/checkpoints')).json;
    // `keep: 1` has removed the new session's first one, ckpt-000003, and none of the kept ones.
    assert.deepEqual(
      checkpoints.map(({ id }: Json) => id),
      ['ckpt-000004', 'ckpt-000002', 'ckpt-000001'],
    );
    const { revision } = await getDocument(api, 'd-kept');
    const restored = succeeded(await api.call('POST', '/v1/sessions/d-kept/checkpoints/ckpt-000002/restore')).json;
    assert.equal(restored.revision, revision + 1);
    assert.deepEqual([restored.iterations, restored.metadata], [1, { first: true }]);
    assert.deepEqual(restored.variables, { w: { shape: [2], dtype: 'F32' } });
    assert.deepEqual(await stateOf(api, 'd-kept'), state);
  });

  test('answers pushes that wait behind it with 404', async () => {
    await create(api, 'd-queue', { w: { values: [0] } });
    const json = { gradients: { w: { values: [1] } } };
    // Begun here, so that it is the first in the session's queue; the pushes meet it at work.
    const deletion = api.store.delete('d-queue', false, {});
    const waiting = api.store.session('d-queue').applyGradients(new Map(), {}, { receive: () => [] });
    const pushes = Array.from({ length: 10 }, () => api.call('POST', '/v1/sessions/d-queue/gradients', { json }));
    await assert.rejects(waiting, { code: 'session_not_found' });
    for (const answer of await Promise.all(pushes)) refused(answer, 'session_not_found');
    await deletion;
  });

  test('of a session under load lets what came before it through and nothing after it', async () => {
    await create(api, 'd-load', { w: { values: [0] } });
    const json = { gradients: { w: { values: [1] } } };
    const many = () => Array.from({ length: 10 }, () => api.call('POST', '/v1/sessions/d-load/gradients', { json }));
    const before = many();
    const deletion = api.call('DELETE', '/v1/sessions/d-load');
    const answers = await Promise.all([...before, ...many()]);
    succeeded(await deletion, 204);
    const applied = answers.filter(({ status }) => status === 200).map((answer) => answer.json.iterations);
    assert.deepEqual(
      applied.sort((a, b) => a - b),
      applied.map((_, k) => k + 1),
    );
    for (const answer of answers) if (answer.status !== 200) refused(answer, 'session_not_found');
  });
});

test('every reply about one session carries its revision as ETag', async () => {
  await create(api, 'tags', { w: { values: [1, 2] } });
  const json = { variables: { w: { values: [3, 4] } } };
  const lookup = { variables: { w: { indices: [1] } } };
  const calls: [method: string, path: string, call: object, revision: number][] = [
    ['GET', '', {}, 0],
    ['GET', '/variables', {}, 0],
    ['GET', '/variables/w?rows=1', {}, 0],
    ['GET', '/slots/m', {}, 0],
    ['POST', '/lookup', { json: lookup }, 0],
    [
      'POST',
      '/lookup',
      { bytes: encodeFile({ 'w:indices': { dtype: 'U32', shape: [0], bytes: new Uint8Array() } }) },
      0,
    ],
    ['GET', '/checkpoints', {}, 0],
    ['PUT', '/variables', { json }, 1],
    ['PUT', '/slots/v', { json }, 2],
    ['POST', '/gradients', { json: { gradients: { w: { values: [1, 1] } } } }, 3],
    ['POST', '/gradients', { bytes: encodeFile({ w: f32([1, 1]) }) }, 4],
    ['PATCH', '', { json: { metadata: { a: 1 } } }, 5],
    ['POST', '/checkpoints', {}, 5],
    ['POST', '/checkpoints/latest/restore', {}, 6],
  ];
  for (const [method, path, call, revision] of calls) {
    const answer = await api.call(method, `/v1/sessions/tags${path}`, call);
    assert.ok(answer.status < 300, answer.bytes.toString());
    assert.equal(answer.headers.etag, `"${revision}"`, `${method} ${path}`);
  }
});
