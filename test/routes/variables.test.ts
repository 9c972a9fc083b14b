/** Reading variables and slots: all, by name, by rows, by lookup, in other dtypes. Waiting for a change is waiting.test.ts. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { encodeFile, i64, type Json, numbers, safetensors, startApi } from '../support/api.ts';
import { bits, create, fromJson, push, read, refused, succeeded } from '../support/calls.ts';
import { encode } from '../support/floats.ts';

const api = await startApi({ after });

const tensors = {
  w: { dtype: 'F32', shape: [3], values: [0.5, -0, 2.5] },
  'layer.1/e': { dtype: 'F64', shape: [4, 2], values: [0, 1, 10, 11, 20, 21, 30, 31] },
  s: { dtype: 'F32', shape: [], values: [7] },
  none: { dtype: 'F32', shape: [0, 3], values: [] },
};
const e = '/v1/sessions/read/variables/layer.1%2Fe';

before(async () => {
  const json = JSON.stringify({ variables: tensors }).replace('[0.5,0,2.5]', '[0.5,-0,2.5]');
  succeeded(await api.call('PUT', '/v1/sessions/read', { json }), 201);
});

async function getJson(path: string): Promise<Json> {
  return succeeded(await api.call('GET', path)).json;
}

describe('variables', () => {
  test('that are named twice come once, in both formats and from slots too', async () => {
    for (const path of ['variables', 'variables?since=0', 'slots/m']) {
      const url = `/v1/sessions/read/${path}${path.includes('?') ? '&' : '?'}name=w&name=s&name=w`;
      for (const accept of [safetensors, 'application/json']) {
        const answer = succeeded(await api.call('GET', url, { headers: { accept } }));
        const names = accept === safetensors ? [...answer.file.tensors.keys()] : Object.keys(answer.json.variables);
        assert.deepEqual(names.sort(), path === 'variables?since=0' ? [] : ['s', 'w'], `${url} as ${accept}`);
      }
    }
  });

  test('are read all together, with the head', async () => {
    const reply = await getJson('/v1/sessions/read/variables');
    const { variables, ...head } = reply;
    assert.deepEqual(head, { session: 'read', revision: 0, iterations: 0, learning_rate: Math.fround(0.001) });
    assert.deepEqual(variables, tensors);
    const answer = await api.call('GET', '/v1/sessions/read/variables', { headers: { accept: safetensors } });
    const { file } = succeeded(answer);
    assert.deepEqual([...file.tensors.keys()].sort(), Object.keys(tensors).sort());
    for (const [name, { dtype, shape, values }] of Object.entries(tensors)) {
      const tensor = { ...encode(values, dtype as 'F32' | 'F64'), shape };
      assert.deepEqual(bits(new Map([[name, file.tensors.get(name) as Tensor]])), bits(new Map([[name, tensor]])));
    }
    assert.deepEqual(Object.fromEntries(file.metadata), {
      session: 'read',
      revision: '0',
      iterations: '0',
      learning_rate: String(Math.fround(0.001)),
    });
  });

  test('are read by name, one or several', async () => {
    const { variables } = await getJson('/v1/sessions/read/variables?name=s&name=layer.1/e');
    assert.deepEqual(variables, { s: tensors.s, 'layer.1/e': tensors['layer.1/e'] });
    assert.deepEqual(Object.keys((await getJson('/v1/sessions/read/variables?name=w')).variables), ['w']);
    refused(await api.call('GET', '/v1/sessions/read/variables?name=w&name=x'), 'variable_not_found');
    refused(await api.call('GET', '/v1/sessions/read/variables?nam=w'), 'invalid_parameter');
  });

  test('with / and . in their names are read one by one, percent-encoded', async () => {
    assert.deepEqual((await getJson(e)).variables, { 'layer.1/e': tensors['layer.1/e'] });
    assert.deepEqual((await getJson('/v1/sessions/read/variables/s')).variables, { s: tensors.s });
    const longest = `${'a/'.repeat(127)}.-`;
    await create(api, 'long', { [longest]: { values: [1] } });
    // Every character as three: the longest a name can come.
    const encoded = [...Buffer.from(longest)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
    assert.deepEqual((await getJson(`/v1/sessions/long/variables/${encoded}`)).variables[longest].values, [1]);
    refused(await api.call('GET', '/v1/sessions/read/variables/layer.1%2Fx'), 'variable_not_found');
    refused(await api.call('GET', '/v1/sessions/read/variables/layer.1/e'), 'route_not_found');
  });

  test('come by rows in the order asked for, repeats included', async () => {
    const { variables } = await getJson(`${e}?rows=3,0,3`);
    const rows = { dtype: 'F64', shape: [3, 2], indices: [3, 0, 3], values: [30, 31, 0, 1, 30, 31] };
    assert.deepEqual(variables, { 'layer.1/e': rows });
    const { file } = succeeded(await api.call('GET', `${e}?rows=2`, { headers: { accept: safetensors } }));
    assert.deepEqual(numbers(file.tensors.get('layer.1/e:values') as Tensor), [20, 21]);
    assert.deepEqual(
      bits(new Map([['i', file.tensors.get('layer.1/e:indices') as Tensor]])),
      bits(new Map([['i', i64([2])]])),
    );
    refused(await api.call('GET', `${e}?rows=4`), 'index_out_of_range');
    refused(await api.call('GET', '/v1/sessions/read/variables/s?rows=0'), 'shape_mismatch');
    for (const rows of ['', '-1', '1,', 'a', '1.5'])
      refused(await api.call('GET', `${e}?rows=${rows}`), 'invalid_parameter');
  });

  test('are converted to the dtype asked for, rounded to nearest even', async () => {
    const values = [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -11, 2 ** -25, 1 / 3];
    await create(api, 'round', { w: { dtype: 'F64', values } });
    const wanted = {
      // Ties go to the even neighbour; 2^-25 is half of F16's smallest number.
      F16: [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1, 0, 1365 / 4096],
      BF16: [1, 1 + 2 ** -6, 1, 2 ** -25, 171 / 512],
      F32: values.map(Math.fround),
      F64: values,
    };
    for (const [dtype, rounded] of Object.entries(wanted)) {
      const { variables } = await getJson(`/v1/sessions/round/variables?dtype=${dtype}`);
      assert.deepEqual(fromJson(variables.w), { dtype, shape: [5], values: rounded });
      const tensor = { ...encode(rounded, dtype as keyof typeof wanted), shape: [5] };
      assert.deepEqual(bits(await read(api, 'round', `variables?dtype=${dtype}`)), bits(new Map([['w', tensor]])));
      assert.deepEqual(bits(await read(api, 'round', `variables/w?dtype=${dtype}`)), bits(new Map([['w', tensor]])));
    }
    refused(await api.call('GET', '/v1/sessions/round/variables?dtype=I32'), 'invalid_parameter');
  });

  test('whose values overflow the dtype asked for are 406 in JSON and infinite in safetensors', async () => {
    await create(api, 'large', { w: { values: [65_520, 1] } });
    refused(await api.call('GET', '/v1/sessions/large/variables?dtype=F16'), 'not_acceptable');
    const infinite = { ...encode([Number.POSITIVE_INFINITY, 1], 'F16'), shape: [2] };
    assert.deepEqual(bits(await read(api, 'large', 'variables?dtype=F16')), bits(new Map([['w', infinite]])));
  });
});

describe('a lookup', () => {
  test('pulls rows of several variables, in the order asked for, repeats included', async () => {
    const json = { variables: { 'layer.1/e': { indices: [1, 0, 1] }, w: { indices: [] } } };
    const reply = succeeded(await api.call('POST', '/v1/sessions/read/lookup', { json })).json;
    const { variables, ...head } = reply;
    assert.deepEqual(head, { session: 'read', revision: 0, iterations: 0, learning_rate: Math.fround(0.001) });
    assert.deepEqual(variables, {
      'layer.1/e': { dtype: 'F64', shape: [3, 2], indices: [1, 0, 1], values: [10, 11, 0, 1, 10, 11] },
      w: { dtype: 'F32', shape: [0], indices: [], values: [] },
    });
  });

  test('in safetensors takes indices, and gives the pair', async () => {
    const indices = { dtype: 'I32', shape: [2], bytes: new Uint8Array(Int32Array.of(3, 1).buffer) } as const;
    const bytes = encodeFile({ 'layer.1/e:indices': indices });
    const { file } = succeeded(await api.call('POST', '/v1/sessions/read/lookup?dtype=F32', { bytes }));
    const pair: [string, Tensor][] = [
      ['layer.1/e:indices', i64([3, 1])],
      ['layer.1/e:values', { ...encode([30, 31, 10, 11], 'F32'), shape: [2, 2] }],
    ];
    assert.deepEqual(bits(file.tensors), bits(new Map(pair)));
    assert.equal(file.metadata.get('revision'), '0');
  });

  test('refuses what the session does not have', async () => {
    const lookup = (variables: object) => api.call('POST', '/v1/sessions/read/lookup', { json: { variables } });
    refused(await lookup({ x: { indices: [0] } }), 'unknown_variable');
    refused(await lookup({ w: { indices: [0] }, 'layer.1/e': { indices: [4] } }), 'index_out_of_range');
    refused(await lookup({ s: { indices: [0] } }), 'shape_mismatch');
    refused(await lookup({ w: {} }), 'invalid_parameter');
    refused(await lookup({ w: { indices: [0], values: [1] } }), 'invalid_parameter');
  });

  test('is no conditional request: it always answers with the rows', async () => {
    const json = { variables: { w: { indices: [0] } } };
    const headers = { 'if-none-match': '"0"', prefer: 'wait=30' };
    const answer = succeeded(await api.call('POST', '/v1/sessions/read/lookup', { json, headers }));
    assert.deepEqual(answer.json.variables.w.values, [0.5]);
  });
});

describe('slots', () => {
  test('are zeros at first, then what a step leaves, under the plain variable names', async () => {
    const optimizer = { class_name: 'Adamax', config: { beta_1: 0.5, beta_2: 0.5 } };
    await create(api, 'slots', { w: { values: [1, 2] }, idle: { values: [3] } }, { optimizer });
    assert.deepEqual((await getJson('/v1/sessions/slots/slots/v')).variables.w.values, [0, 0]);
    await push(api, 'slots', { w: { values: [4, -8] } });
    await push(api, 'slots', { w: { values: [0, 1] } });
    // m = m + (g - m) / 2, v = max(v / 2, |g|)
    const { variables: m } = await getJson('/v1/sessions/slots/slots/m');
    assert.deepEqual([m.w.values, m.idle.values], [[1, -1.5], [0]]);
    const { variables: v } = await getJson('/v1/sessions/slots/slots/v?name=w&dtype=F64');
    assert.deepEqual(v, { w: { dtype: 'F64', shape: [2], values: [2, 4] } });
  });

  test('are m and v, no others', async () => {
    refused(await api.call('GET', '/v1/sessions/read/slots/u'), 'invalid_parameter');
    refused(await api.call('PUT', '/v1/sessions/read/slots/w', { json: { variables: {} } }), 'invalid_parameter');
  });
});
