/** Reads of what has changed since a revision. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { type Api, type Json, numbers, safetensors, startApi } from '../support/api.ts';
import { create, getDocument, push, refused, succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';
import { bare } from '../support/workers.ts';

const api = await startApi({ after });
const variables = { w: { values: [0, 0] }, e: { shape: [6, 1] }, still: { values: [1] } };

async function since(name: string, revision: number, query = '', on: Api = api): Promise<Json> {
  return succeeded(await on.call('GET', `/v1/sessions/${name}/variables?since=${revision}${query}`)).json;
}

/** At revision 4: w changed at 1 and 3, rows 4, 1 of e at 2, and rows 1, 5 at 4. */
async function session(name: string, on: Api = api, others: object = {}): Promise<void> {
  await create(on, name, variables, { ...bare, ...others });
  await push(on, name, { w: { values: [1, 1] } });
  await push(on, name, { e: { indices: [4, 1, 4], values: [[1], [1], [1]] } });
  await push(on, name, { w: { values: [1, -1] } });
  await push(on, name, { e: { indices: [1, 5], values: [[1], [1]] } });
}

describe('GET …/variables?since=', () => {
  test('has dense variables whole and sparse ones by rows, if they have changed after that revision', async () => {
    await session('parts');
    const w = { dtype: 'F32', shape: [2], values: [-2, 0] };
    const rows = (indices: number[], values: number[]) => ({
      dtype: 'F32',
      shape: [indices.length, 1],
      indices,
      values,
    });
    const expected: [number, object][] = [
      [0, { w, e: rows([1, 4, 5], [-2, -1, -1]) }],
      [1, { w, e: rows([1, 4, 5], [-2, -1, -1]) }],
      [2, { w, e: rows([1, 5], [-2, -1]) }],
      [3, { e: rows([1, 5], [-2, -1]) }],
      [4, {}],
    ];
    for (const [revision, parts] of expected) {
      const { variables: found, complete, revision: now } = await since('parts', revision);
      assert.deepEqual([found, complete, now], [parts, false, 4], `since ${revision}`);
    }
  });

  test('has everything, and says so, for a revision that the session has not been at', async () => {
    await session('future');
    const { variables: found, complete } = await since('future', 5);
    assert.deepEqual([Object.keys(found), complete], [['w', 'e', 'still'], true]);
  });

  test('can be for some variables, in safetensors, and in another dtype', async () => {
    await session('some');
    assert.deepEqual(Object.keys((await since('some', 0, '&name=w&name=still')).variables), ['w']);
    refused(await api.call('GET', '/v1/sessions/some/variables?since=0&name=x'), 'variable_not_found');
    const path = '/v1/sessions/some/variables?since=3&dtype=F64';
    const { file } = succeeded(await api.call('GET', path, { headers: { accept: safetensors } }));
    assert.equal(file.metadata.get('complete'), 'false');
    assert.deepEqual([...file.tensors.keys()], ['e:indices', 'e:values']);
    assert.deepEqual(numbers(file.tensors.get('e:values') as Tensor), [-2, -1]);
  });

  test('knows of assignments, whole and by rows, and that slots are no variables', async () => {
    await session('assigned');
    const put = async (path: string, assigned: object) =>
      succeeded(await api.call('PUT', `/v1/sessions/assigned/${path}`, { json: { variables: assigned } }));
    await put('variables', { e: { indices: [3, 0], values: [[7], [8]] } });
    assert.deepEqual((await since('assigned', 4)).variables.e.indices, [0, 3]);
    await put('slots/m', { w: { values: [1, 1] }, still: { values: [1] } });
    assert.deepEqual((await since('assigned', 5)).variables, {});
    await put('variables', { still: { values: [2] } });
    assert.deepEqual((await since('assigned', 6)).variables, { still: { dtype: 'F32', shape: [1], values: [2] } });
  });

  test('after a restore has everything', async () => {
    await session('restored');
    const { id } = succeeded(await api.call('POST', '/v1/sessions/restored/checkpoints'), 201).json;
    await push(api, 'restored', { w: { values: [1, 1] } });
    succeeded(await api.call('POST', `/v1/sessions/restored/checkpoints/${id}/restore`));
    assert.equal((await since('restored', 5)).complete, true);
    assert.deepEqual(await since('restored', 6).then(({ complete, variables: found }) => [complete, found]), [
      false,
      {},
    ]);
  });

  test('after a crash knows as much as the journal has told, and after a restart what came since', async (t) => {
    const own = await startApi(t);
    await session('s', own);
    const crashed = await startApi(t, {}, await crashedCopy(t, own.folder));
    assert.deepEqual(await since('s', 2, '', crashed), await since('s', 2, '', own));
    const restarted = await own.restart();
    assert.equal((await since('s', 3, '', restarted)).complete, true);
    assert.deepEqual((await since('s', 4, '', restarted)).variables, {});
  });

  test('after a crash that lost steps has everything for the revisions that are lost', async (t) => {
    const own = await startApi(t);
    await session('s', own, { durability: 'checkpoint' });
    assert.equal((await since('s', 4, '', own)).complete, false);
    const crashed = await startApi(t, {}, await crashedCopy(t, own.folder));
    for (const revision of [0, 1, 4]) {
      assert.equal((await since('s', revision, '', crashed)).complete, true, `since ${revision}`);
    }
    const { revision } = await getDocument(crashed, 's');
    assert.equal((await since('s', revision, '', crashed)).complete, false);
  });

  test('of more rows than are remembered has the variable whole', async () => {
    const count = 100_000;
    await create(api, 'many', { e: { shape: [count] } }, bare);
    const indices = Array.from({ length: 20_000 }, (_, k) => k);
    const values = indices.map(() => 1);
    await push(api, 'many', { e: { indices, values } });
    assert.deepEqual((await since('many', 0)).variables.e.shape, [count]);
    await push(api, 'many', { e: { indices: [5], values: [1] } });
    assert.deepEqual((await since('many', 1)).variables.e.indices, [5]);
  });

  test('may wait for a change first', async () => {
    await session('wait');
    const headers = { 'if-none-match': '"4"', prefer: 'wait=30' };
    const answer = api.call('GET', '/v1/sessions/wait/variables?since=4', { headers });
    await push(api, 'wait', { w: { values: [1, 1] } });
    assert.deepEqual(Object.keys(succeeded(await answer).json.variables), ['w']);
  });

  for (const value of ['-1', '1.5', 'x', '']) {
    test(`refuses "${value}"`, async () => {
      await create(api, `refused-${value || 'empty'}`);
      const answer = await api.call('GET', `/v1/sessions/refused-${value || 'empty'}/variables?since=${value}`);
      assert.match(refused(answer, 'invalid_parameter').detail, /since must be/);
    });
  }
});
