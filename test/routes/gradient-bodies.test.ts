/** How gradients may be sent: parameters, preconditions, the forms of a JSON tensor, and that both formats mean the same. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { encodeFile, f32, f64, i64, numbers, safetensors, startApi } from '../support/api.ts';
import {
  bits,
  create,
  getDocument,
  push,
  pushFile,
  read,
  readNumbers,
  refused,
  stateOf,
  succeeded,
} from '../support/calls.ts';
import { encode } from '../support/floats.ts';

const api = await startApi({ after });

/** With betas of 0 a step is w - sign(g), but for an epsilon too small to be seen. */
const signs = {
  optimizer: { class_name: 'Adamax', config: { learning_rate: 1, beta_1: 0, beta_2: 0, epsilon: 1e-12 } },
};

describe('what the request may say', () => {
  test('worker and base are taken; a base that is still to come is refused', async () => {
    await create(api, 'workers', { w: { values: [1] } });
    await push(api, 'workers', { w: { values: [1] } }, '?worker=w-1&base=0');
    await push(api, 'workers', { w: { values: [1] } }, '?worker=w-2&base=0');
    const json = { gradients: { w: { values: [1] } } };
    const problem = refused(
      await api.call('POST', '/v1/sessions/workers/gradients?base=3', { json }),
      'invalid_argument',
    );
    assert.equal(problem.detail, "base must be at most the session's iterations, 2. Received: 3");
    refused(await api.call('POST', '/v1/sessions/workers/gradients?base=-1', { json }), 'invalid_parameter');
    refused(await api.call('POST', '/v1/sessions/workers/gradients?bass=1', { json }), 'invalid_parameter');
    assert.equal((await getDocument(api, 'workers')).iterations, 2);
  });

  test('If-Match applies only at a revision that it names', async () => {
    await create(api, 'matched', { w: { values: [1] } }, signs);
    const json = { gradients: { w: { values: [1] } } };
    const pushAt = (tag: string) =>
      api.call('POST', '/v1/sessions/matched/gradients', { json, headers: { 'if-match': tag } });
    succeeded(await pushAt('"0"'));
    const problem = refused(await pushAt('"0"'), 'precondition_failed');
    assert.match(problem.detail, /"1"/);
    refused(await pushAt('W/"1"'), 'precondition_failed');
    refused(await pushAt('1'), 'invalid_parameter');
    succeeded(await pushAt('"7", "1"'));
    succeeded(await pushAt('*'));
    assert.deepEqual(await readNumbers(api, 'matched', 'w'), [-2]);
  });

  test('of pushes that race for one revision exactly one is applied', async () => {
    await create(api, 'race', { w: { values: [0] } }, signs);
    const call = { json: { gradients: { w: { values: [1] } } }, headers: { 'if-match': '"0"' } };
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => api.call('POST', '/v1/sessions/race/gradients', call)),
    );
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, ...new Array(7).fill(412)]);
    assert.deepEqual(await readNumbers(api, 'race', 'w'), [-1]);
  });

  test('JSON values may be flat or nested, with or without their shape; a scalar is a number', async () => {
    const variables = {
      w: {
        values: [
          [1, 2],
          [3, 4],
        ],
      },
      s: { values: 5 },
      t: { shape: [2, 2, 1], values: [1, 2, 3, 4] },
    };
    const forms = [
      { w: { values: [1, 2, 3, 4] }, s: { values: 7 }, t: { values: [1, 2, 3, 4] } },
      {
        w: {
          values: [
            [1, 2],
            [3, 4],
          ],
        },
        s: { values: [7] },
        t: {
          values: [
            [[1], [2]],
            [[3], [4]],
          ],
        },
      },
      {
        w: { shape: [2, 2], values: [1, 2, 3, 4] },
        s: { shape: [], values: 7 },
        t: { shape: [2, 2, 1], values: [1, 2, 3, 4] },
      },
      {
        w: {
          dtype: 'F32',
          shape: [2, 2],
          values: [
            [1, 2],
            [3, 4],
          ],
        },
        s: { dtype: 'F64', values: 7 },
        t: {
          dtype: 'BF16',
          values: [
            [[1], [2]],
            [[3], [4]],
          ],
        },
      },
    ];
    const states = [];
    for (const [k, gradients] of forms.entries()) {
      await create(api, `form-${k}`, variables);
      const reply = await push(api, `form-${k}`, gradients);
      assert.deepEqual(reply.variables.s.shape, []);
      assert.equal(reply.variables.s.values.length, 1);
      assert.equal(reply.variables.t.values.length, 4);
      states.push(await stateOf(api, `form-${k}`));
    }
    for (const state of states) assert.deepEqual(state, states[0]);
  });

  test('a dtype beside JSON values rounds them to it, as the same tensor in safetensors does', async () => {
    const values = [1 / 3, -(2 ** -20), 1 + 2 ** -8, 65_000];
    for (const dtype of ['F64', 'F32', 'F16', 'BF16'] as const) {
      await create(api, `json-${dtype}`, { w: { dtype: 'F64', shape: [4] } });
      await create(api, `file-${dtype}`, { w: { dtype: 'F64', shape: [4] } });
      await push(api, `json-${dtype}`, { w: { dtype, values } });
      await pushFile(api, `file-${dtype}`, { w: { ...encode(values, dtype), shape: [4] } });
      assert.deepEqual(await stateOf(api, `json-${dtype}`), await stateOf(api, `file-${dtype}`));
    }
    const states = [await stateOf(api, 'json-F64'), await stateOf(api, 'json-F32'), await stateOf(api, 'json-F16')];
    assert.equal(new Set(states.map((state) => JSON.stringify(state))).size, 3);
  });

  test('indices in safetensors may be I64, I32 or U32', async () => {
    const indices = {
      I64: i64([2, 0]),
      I32: { dtype: 'I32', shape: [2], bytes: new Uint8Array(Int32Array.of(2, 0).buffer) },
      U32: { dtype: 'U32', shape: [2], bytes: new Uint8Array(Uint32Array.of(2, 0).buffer) },
    } as const;
    for (const [dtype, tensor] of Object.entries(indices)) {
      await create(api, `indices-${dtype}`, { w: { values: [1, 2, 3] } }, signs);
      await pushFile(api, `indices-${dtype}`, { 'w:indices': tensor, 'w:values': f32([1, -1]) });
      assert.deepEqual(await readNumbers(api, `indices-${dtype}`, 'w'), [2, 2, 2]);
    }
  });
});

test('both formats give the same bits, replies included, with -0, denormals and extremes among the values', async () => {
  for (const dtype of ['F32', 'F64'] as const) {
    const [least, most] = dtype === 'F32' ? [2 ** -149, 2 ** 127] : [2 ** -1074, 2 ** 1023];
    const values = [0, -0, least, -least, 3 * least, most, -most, 1 / 3];
    const gradients = [-0, 0, -least, 5 * least, -most, most, 0.1, -0];
    const tensor = (each: number[]): Tensor => (dtype === 'F32' ? f32(each) : f64(each));
    const asJson = (each: number[]): string => `[${each.map((x) => (Object.is(x, -0) ? '-0' : String(x)))}]`;
    const w = `{"dtype":"${dtype}","values":${asJson(values)}}`;
    const [ofJson, ofFile] = [`json-${dtype}-bits`, `file-${dtype}-bits`];
    succeeded(await api.call('PUT', `/v1/sessions/${ofJson}`, { json: `{"variables":{"w":${w}}}` }), 201);
    succeeded(await api.call('PUT', `/v1/sessions/${ofFile}`, { bytes: encodeFile({ w: tensor(values) }) }), 201);
    assert.deepEqual(await stateOf(api, ofJson), await stateOf(api, ofFile));
    assert.deepEqual(bits(await read(api, ofFile)), bits(new Map([['w', tensor(values)]])));

    for (let step = 0; step < 3; step++) {
      const json = `{"gradients":{"w":{"values":${asJson(gradients)}}}}`;
      const reply = succeeded(await api.call('POST', `/v1/sessions/${ofJson}/gradients`, { json })).json;
      const file = await pushFile(api, ofFile, { w: tensor(gradients) });
      assert.deepEqual(bits(new Map([['w', tensor(reply.variables.w.values)]])), bits(file.tensors));
      assert.equal(String(reply.learning_rate), file.metadata.get('learning_rate'));
    }
    const json = `{"gradients":{"w":{"indices":[2,1,2],"values":${asJson([least, -0, -least])}}}}`;
    const reply = succeeded(await api.call('POST', `/v1/sessions/${ofJson}/gradients`, { json })).json;
    const file = await pushFile(api, ofFile, { 'w:indices': i64([2, 1, 2]), 'w:values': tensor([least, -0, -least]) });
    const { indices, values: updated } = reply.variables.w;
    const pair: [string, Tensor][] = [
      ['w:indices', i64(indices)],
      ['w:values', tensor(updated)],
    ];
    assert.deepEqual(bits(new Map(pair)), bits(file.tensors));
    assert.deepEqual(await stateOf(api, ofJson), await stateOf(api, ofFile));
  }
});

test('a reply in the other format is had by Accept', async () => {
  await create(api, 'accept', { w: { values: [1] } }, signs);
  const json = { gradients: { w: { values: [1] } } };
  const asked = { json, headers: { accept: safetensors } };
  const { file } = succeeded(await api.call('POST', '/v1/sessions/accept/gradients', asked));
  assert.deepEqual(numbers(file.tensors.get('w') as Tensor), [0]);
  const call = { bytes: encodeFile({ w: f32([1]) }), headers: { accept: 'application/json' } };
  const reply = succeeded(await api.call('POST', '/v1/sessions/accept/gradients', call)).json;
  assert.deepEqual(reply.variables.w.values, [-1]);
});
