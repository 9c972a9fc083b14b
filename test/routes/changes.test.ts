/** Assigning variables and slots, and waiting for a change of any kind. */
import assert from 'node:assert/strict';
import { type ClientRequest, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { SessionEvents } from '../../src/store/session-events.ts';
import { encodeFile, f32, f64, i64, type Json, safetensors, startApi } from '../support/api.ts';
import {
  bits,
  create,
  getDocument,
  patch,
  push,
  read,
  readNumbers,
  refused,
  stateOf,
  succeeded,
} from '../support/calls.ts';

const api = await startApi({ after });

/** How many listen for what happens to any session, as each log of events was told. */
let listeners = 0;
const { listen } = SessionEvents.prototype;
SessionEvents.prototype.listen = function (listener) {
  const stop = listen.call(this, listener);
  let listens = true;
  listeners++;
  return () => {
    if (listens) listeners--;
    listens = false;
    stop();
  };
};

/** Waits until so many requests wait for a change. */
async function listening(count: number): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (listeners !== count) {
    assert.ok(performance.now() < deadline, `${listeners} listeners, not ${count}`);
    await setTimeout(5);
  }
}

describe('an assignment', () => {
  const put = (name: string, variables: object, headers = {}) =>
    api.call('PUT', `/v1/sessions/${name}/variables`, { json: { variables }, headers });

  test('sets whole variables and rows of others; the counter, the slots and the rest stay', async () => {
    await create(api, 'assign', {
      w: { values: [1, 2] },
      e: {
        values: [
          [1, 1],
          [2, 2],
          [3, 3],
        ],
      },
      s: { values: 4 },
    });
    await push(api, 'assign', { w: { values: [1, 1] } });
    const slots = [bits(await read(api, 'assign', 'slots/m')), bits(await read(api, 'assign', 'slots/v'))];
    const reply = succeeded(
      await put('assign', {
        w: { values: [-1, -2] },
        e: {
          indices: [2, 0],
          values: [
            [9, 8],
            [7, 6],
          ],
        },
      }),
    );
    assert.deepEqual(reply.json, { session: 'assign', revision: 2, iterations: 1, learning_rate: Math.fround(0.001) });
    assert.deepEqual(await readNumbers(api, 'assign', 'w'), [-1, -2]);
    assert.deepEqual(await readNumbers(api, 'assign', 'e'), [7, 6, 2, 2, 9, 8]);
    assert.deepEqual(await readNumbers(api, 'assign', 's'), [4]);
    assert.deepEqual([bits(await read(api, 'assign', 'slots/m')), bits(await read(api, 'assign', 'slots/v'))], slots);
  });

  test('in safetensors is the same, and carries infinities', async () => {
    await create(api, 'assign-file', {
      w: { values: [1, 2] },
      e: {
        dtype: 'F64',
        values: [
          [1, 1],
          [2, 2],
        ],
      },
    });
    const infinity = Number.POSITIVE_INFINITY;
    const tensors = { w: f32([infinity, -0]), 'e:indices': i64([1]), 'e:values': f64([1 / 3, 5], [1, 2]) };
    succeeded(await api.call('PUT', '/v1/sessions/assign-file/variables', { bytes: encodeFile(tensors) }));
    assert.deepEqual(await readNumbers(api, 'assign-file', 'w'), [infinity, -0]);
    assert.deepEqual(await readNumbers(api, 'assign-file', 'e'), [1, 1, 1 / 3, 5]);
  });

  test('takes a reply as it came, in both formats, of other sessions too', async () => {
    await create(api, 'source', { w: { values: [0.1, -0.2] }, e: { shape: [3, 2], initializer: 'Ones' } });
    await push(api, 'source', { w: { values: [1, 2] }, e: { indices: [2, 0], values: [1, 2, 3, 4] } });
    await create(api, 'by-json', { w: { shape: [2] }, e: { shape: [3, 2] } });
    await create(api, 'by-file', { w: { shape: [2] }, e: { shape: [3, 2] } });
    for (const what of ['variables', 'slots/m', 'slots/v']) {
      const json = succeeded(await api.call('GET', `/v1/sessions/source/${what}`)).json;
      succeeded(await api.call('PUT', `/v1/sessions/by-json/${what}`, { json }));
      const headers = { accept: safetensors };
      const { bytes } = succeeded(await api.call('GET', `/v1/sessions/source/${what}`, { headers }));
      succeeded(await api.call('PUT', `/v1/sessions/by-file/${what}`, { bytes }));
    }
    const { tensors } = (await stateOf(api, 'source')) as Json;
    assert.deepEqual(((await stateOf(api, 'by-json')) as Json).tensors, tensors);
    assert.deepEqual(((await stateOf(api, 'by-file')) as Json).tensors, tensors);
    // A push's reply, with its rows.
    const reply = await push(api, 'source', { e: { indices: [1], values: [5, 5] } });
    succeeded(await api.call('PUT', '/v1/sessions/by-json/variables', { json: reply }));
    assert.deepEqual(await readNumbers(api, 'by-json', 'e'), await readNumbers(api, 'source', 'e'));
  });

  test('of slots changes what the next step starts from', async () => {
    const optimizer = { class_name: 'Adamax', config: { learning_rate: 1, beta_1: 0.5, beta_2: 0.5, epsilon: 1e-12 } };
    await create(api, 'assign-slots', { w: { values: [0, 0] } }, { optimizer });
    for (const [slot, variables] of [
      ['m', { w: { values: [2, 0] } }],
      ['v', { w: { indices: [1], values: [8] } }],
    ] as const) {
      succeeded(await api.call('PUT', `/v1/sessions/assign-slots/slots/${slot}`, { json: { variables } }));
    }
    // m = [2, 0] + ([4, 4] - m) / 2 = [3, 2], v = max([0, 8] / 2, 4) = [4, 4], alpha = 1 / (1 - 0.5) = 2
    const { variables } = await push(api, 'assign-slots', { w: { values: [4, 4] } });
    assert.deepEqual(variables.w.values, [-1.5, -1]);
  });

  test('is all or nothing, and what does not fit is refused', async () => {
    await create(api, 'assign-atomic', {
      w: { values: [1, 2] },
      e: { values: [[1], [2]] },
      d: { dtype: 'F64', values: [1] },
    });
    const before = await getDocument(api, 'assign-atomic');
    const state = await stateOf(api, 'assign-atomic');
    const w = { values: [5, 5] };
    const refusals: [object, Parameters<typeof refused>[1]][] = [
      [{ w, e: { values: [1, 2, 3] } }, 'shape_mismatch'],
      [{ w, e: { indices: [0, 2], values: [[1], [2]] } }, 'index_out_of_range'],
      [{ w, e: { indices: [1, 1], values: [[1], [2]] } }, 'invalid_argument'],
      [{ w, x: { values: [1] } }, 'unknown_variable'],
      [{ w, e: { values: [1e39, 0] } }, 'invalid_argument'],
      // Not finite in the dtype that is named beside them.
      [{ w, d: { dtype: 'F32', values: [1e39] } }, 'invalid_argument'],
      [{ w, d: { dtype: 'F16', values: [65_520] } }, 'invalid_argument'],
    ];
    for (const [variables, code] of refusals) refused(await put('assign-atomic', variables), code);
    assert.deepEqual(await getDocument(api, 'assign-atomic'), before);
    assert.deepEqual(await stateOf(api, 'assign-atomic'), state);
    const values = { w: { dtype: 'BF16', values: [3.4e38, 0] } };
    refused(await api.call('PUT', '/v1/sessions/infinite', { json: { variables: values } }), 'invalid_argument');
  });

  test('heeds If-Match', async () => {
    await create(api, 'assign-match', { w: { values: [1] } });
    succeeded(await put('assign-match', { w: { values: [2] } }, { 'if-match': '"0"' }));
    refused(await put('assign-match', { w: { values: [3] } }, { 'if-match': '"0"' }), 'precondition_failed');
    const slots = { json: { variables: { w: { values: [3] } } }, headers: { 'if-match': '"0"' } };
    refused(await api.call('PUT', '/v1/sessions/assign-match/slots/m', slots), 'precondition_failed');
    assert.deepEqual(await readNumbers(api, 'assign-match', 'w'), [2]);
  });
});

describe('a conditional read', () => {
  const get = (name: string, revision: number, prefer?: string, what = 'variables') => {
    const headers = { 'if-none-match': `"${revision}"`, ...(prefer === undefined ? {} : { prefer }) };
    return api.call('GET', `/v1/sessions/${name}/${what}`, { headers });
  };

  test('is 304 with no body while the session is at that revision', async () => {
    await create(api, 'same', { w: { values: [1] } });
    for (const what of ['variables', 'variables/w', 'slots/v']) {
      const answer = succeeded(await get('same', 0, undefined, what), 304);
      assert.equal(answer.headers.etag, '"0"');
      succeeded(await get('same', 1, undefined, what));
    }
    const several = { 'if-none-match': '"7", W/"0"' };
    succeeded(await api.call('GET', '/v1/sessions/same/variables', { headers: several }), 304);
    const unquoted = { 'if-none-match': '0' };
    refused(await api.call('GET', '/v1/sessions/same/variables', { headers: unquoted }), 'invalid_parameter');
  });

  test('that waits comes with the first change, of whatever kind', async () => {
    const changes: Record<string, (name: string) => Promise<unknown>> = {
      step: (name) => push(api, name, { w: { values: [1] } }),
      assignment: (name) =>
        api.call('PUT', `/v1/sessions/${name}/slots/m`, { json: { variables: { w: { values: [1] } } } }),
      counter: (name) => patch(api, name, { iterations: 9 }),
      restore: (name) => api.call('POST', `/v1/sessions/${name}/checkpoints/latest/restore`),
    };
    for (const [kind, change] of Object.entries(changes)) {
      const name = `wait-${kind}`;
      await create(api, name, { w: { values: [1] } });
      const waiting = [
        get(name, 0, 'wait=20'),
        get(name, 0, 'wait=20', 'variables/w'),
        get(name, 0, 'wait=20', 'slots/m'),
      ];
      await listening(3);
      await change(name);
      for (const answer of await Promise.all(waiting)) {
        assert.deepEqual([answer.status, answer.json.revision, answer.headers.etag], [200, 1, '"1"'], kind);
        assert.equal(answer.headers['preference-applied'], 'wait=20');
      }
    }
  });

  test('that waits in vain ends with 304; one that need not wait does not', async () => {
    await create(api, 'vain', { w: { values: [1] } });
    const started = performance.now();
    succeeded(await get('vain', 5, 'wait=20'));
    succeeded(await api.call('GET', '/v1/sessions/vain/variables', { headers: { prefer: 'wait=20' } }));
    assert.ok(performance.now() - started < 10_000);
    const before = performance.now();
    succeeded(await get('vain', 0, 'respond-async, wait=1'), 304);
    assert.ok(performance.now() - before >= 990);
    refused(await get('vain', 0, 'wait=soon'), 'invalid_parameter');
  });

  test('that waits for a session that is deleted meanwhile is 404', async () => {
    await create(api, 'wait-deleted', { w: { values: [1] } });
    const waiting = get('wait-deleted', 0, 'wait=20');
    await listening(1);
    succeeded(await api.call('DELETE', '/v1/sessions/wait-deleted'), 204);
    refused(await waiting, 'session_not_found');
  });

  test('whose client has gone leaves no listener behind', async () => {
    await create(api, 'left', { w: { values: [1] } });
    const { port } = api.app.server.address() as AddressInfo;
    const headers = { 'if-none-match': '"0"', prefer: 'wait=50' };
    const clients = Array.from({ length: 5 }, (): ClientRequest => {
      return request({ port, host: '127.0.0.1', path: '/v1/sessions/left/variables', headers })
        .on('error', () => undefined)
        .end();
    });
    await listening(5);
    for (const client of clients) client.destroy();
    await listening(0);
  });
});
