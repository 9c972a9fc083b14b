/** Applying gradients over HTTP: what a step changes, and what its reply says. How they may be sent: gradient-bodies.test.ts. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { encodeFile, f32, i64, type Json, numbers, startApi } from '../support/api.ts';
import {
  bits,
  create,
  fromJson,
  getDocument,
  push,
  pushFile,
  readNumbers,
  refused,
  stateOf,
  succeeded,
} from '../support/calls.ts';
import { encode } from '../support/floats.ts';

const api = await startApi({ after });

/**
 * With betas of 0 a step is w - learning_rate * g / (|g| + epsilon): here w - sign(g), but for epsilon, which is too small
 * to be seen next to |g| >= 1 in float32.
 */
const signs = {
  optimizer: { class_name: 'Adamax', config: { learning_rate: 1, beta_1: 0, beta_2: 0, epsilon: 1e-12 } },
};

describe('what a step changes', () => {
  test('a dense gradient changes all of its variable, and of other variables nothing', async () => {
    await create(api, 'dense', { w: { values: [1, 2, 3] }, other: { values: [4, 5] } }, signs);
    await push(api, 'dense', { other: { values: [1, 1] } });
    const before = {
      m: await readNumbers(api, 'dense', 'other', 'slots/m'),
      v: await readNumbers(api, 'dense', 'other', 'slots/v'),
    };
    const reply = await push(api, 'dense', { w: { values: [5, -5, 5] } });
    assert.deepEqual(reply.variables, { w: { dtype: 'F32', shape: [3], values: [0, 3, 2] } });
    assert.deepEqual(await readNumbers(api, 'dense', 'other'), [3, 4]);
    assert.deepEqual(await readNumbers(api, 'dense', 'other', 'slots/m'), before.m);
    assert.deepEqual(await readNumbers(api, 'dense', 'other', 'slots/v'), before.v);
  });

  test('a sparse gradient changes the rows that it names, and answers with them, once each and ascending', async () => {
    await create(
      api,
      'sparse',
      {
        w: {
          values: [
            [1, 1],
            [2, 2],
            [3, 3],
            [4, 4],
          ],
        },
      },
      signs,
    );
    const reply = await push(api, 'sparse', {
      w: {
        indices: [3, 0],
        values: [
          [7, -7],
          [-2, 2],
        ],
      },
    });
    const rows = { dtype: 'F32', shape: [2, 2], indices: [0, 3], values: [2, 0, 3, 5] };
    assert.deepEqual(reply.variables, { w: rows });
    assert.deepEqual(await readNumbers(api, 'sparse', 'w'), [2, 0, 2, 2, 3, 3, 3, 5]);
    assert.deepEqual(await readNumbers(api, 'sparse', 'w', 'slots/v'), [2, 2, 0, 0, 0, 0, 7, 7]);
  });

  test('repeated indices are summed in the order given, before the update', async () => {
    await create(api, 'repeated', { w: { values: [0, 0] } }, signs);
    // In float32 (1e8 + 1) - 1e8 is 0 and (1e8 - 1e8) + 1 is 1: with beta_1 = 0 the sums stand in m.
    const { variables } = await push(api, 'repeated', {
      w: { indices: [0, 1, 0, 1, 0, 1], values: [1e8, 1e8, 1, -1e8, -1e8, 1] },
    });
    assert.deepEqual(variables.w.indices, [0, 1]);
    assert.deepEqual(await readNumbers(api, 'repeated', 'w', 'slots/m'), [0, 1]);
  });

  test('empty indices change no variable, and the counter moves all the same', async () => {
    await create(
      api,
      'empty',
      {
        w: {
          values: [
            [1, 2],
            [3, 4],
          ],
        },
      },
      signs,
    );
    const reply = await push(api, 'empty', { w: { indices: [], values: [] } });
    assert.deepEqual(reply.variables, { w: { dtype: 'F32', shape: [0, 2], indices: [], values: [] } });
    assert.equal(reply.iterations, 1);
    const file = await pushFile(api, 'empty', { 'w:indices': i64([]), 'w:values': f32([], [0, 2]) });
    assert.deepEqual(file.tensors.get('w:values')?.shape, [0, 2]);
    assert.equal((await push(api, 'empty', {})).iterations, 3);
    assert.deepEqual(await readNumbers(api, 'empty', 'w'), [1, 2, 3, 4]);
    assert.deepEqual(await readNumbers(api, 'empty', 'w', 'slots/v'), [0, 0, 0, 0]);
  });

  test('one request can carry dense and sparse gradients and moves the counter once', async () => {
    await create(api, 'mixed', { a: { values: [1, 2] }, b: { values: [3, 4] } }, signs);
    const reply = await push(api, 'mixed', { a: { values: [9, 9] }, b: { indices: [1], values: [-9] } });
    assert.deepEqual([reply.iterations, reply.revision], [1, 1]);
    assert.deepEqual(reply.variables.a.values, [0, 1]);
    assert.deepEqual(reply.variables.b, { dtype: 'F32', shape: [1], indices: [1], values: [5] });
    const file = await pushFile(api, 'mixed', { a: f32([9, 9]), 'b:indices': i64([0]), 'b:values': f32([9]) });
    assert.deepEqual([...file.tensors.keys()].sort(), ['a', 'b:indices', 'b:values']);
    assert.deepEqual(numbers(file.tensors.get('b:values') as Tensor), [2]);
  });

  test('a request that is refused for one of its gradients applies none of them', async () => {
    await create(api, 'atomic', { a: { values: [1, 2] }, b: { values: [3, 4] } }, signs);
    await push(api, 'atomic', { a: { values: [1, 1] } });
    const before = await stateOf(api, 'atomic');
    const json = { gradients: { a: { values: [1, 1] }, b: { values: [1, 1, 1] } } };
    refused(await api.call('POST', '/v1/sessions/atomic/gradients', { json }), 'shape_mismatch');
    assert.deepEqual(await stateOf(api, 'atomic'), before);
    assert.equal((await getDocument(api, 'atomic')).revision, 1);
  });
});

describe('what the reply says', () => {
  test('the head: iterations after the step, the rate that it used, and the revision also as ETag', async () => {
    const learning_rate = {
      class_name: 'PiecewiseConstantDecay',
      config: { boundaries: [0], values: [0.5, 0.25] },
    };
    await create(
      api,
      'head',
      { w: { values: [1] } },
      { optimizer: { class_name: 'Adamax', config: { learning_rate } } },
    );
    const answers = [];
    for (const value of [1, 1]) {
      const json = { gradients: { w: { values: [value] } } };
      answers.push(succeeded(await api.call('POST', '/v1/sessions/head/gradients', { json })));
    }
    assert.deepEqual(
      answers.map(({ json, headers }) => [
        json.session,
        json.iterations,
        json.revision,
        json.learning_rate,
        headers.etag,
      ]),
      [
        ['head', 1, 1, 0.5, '"1"'],
        ['head', 2, 2, 0.25, '"2"'],
      ],
    );
  });

  test('of 50 concurrent pushes each is answered with the values right after its own step', async () => {
    const variables = { w: { values: [1, 2, 3, 4] }, e: { shape: [6, 2] } };
    await create(api, 'crowd', variables);
    const gradients = Array.from({ length: 50 }, (_, k) => {
      const e = {
        indices: [k % 6, (k * 5 + 1) % 6],
        values: [
          [k, 1],
          [-k, 0.5],
        ],
      };
      return k % 3 === 0 ? { e } : { w: { values: [k - 25, 1 / (k + 1), -k, 0.1] }, e };
    });
    const replies: Json[] = await Promise.all(gradients.map((gradient) => push(api, 'crowd', gradient)));
    assert.deepEqual(
      replies.map(({ iterations }) => iterations).sort((a, b) => a - b),
      Array.from({ length: 50 }, (_, k) => k + 1),
    );

    await create(api, 'one-by-one', variables);
    const inTurn = replies.map((reply, k) => ({ reply, gradient: gradients[k] as object }));
    inTurn.sort((a, b) => a.reply.iterations - b.reply.iterations);
    for (const { reply, gradient } of inTurn) {
      assert.deepEqual(await push(api, 'one-by-one', gradient), { ...reply, session: 'one-by-one' });
    }
    assert.deepEqual(await stateOf(api, 'one-by-one'), await stateOf(api, 'crowd'));
  });

  test('Prefer: return=minimal leaves the tensors out, in both formats', async () => {
    await create(api, 'minimal', { w: { values: [1] } }, signs);
    const headers = { prefer: 'return=minimal' };
    const json = { gradients: { w: { values: [2] } } };
    const reply = succeeded(await api.call('POST', '/v1/sessions/minimal/gradients', { json, headers })).json;
    assert.deepEqual(reply, { session: 'minimal', revision: 1, iterations: 1, learning_rate: 1 });
    const bytes = encodeFile({ w: f32([2]) });
    const { file } = succeeded(await api.call('POST', '/v1/sessions/minimal/gradients', { bytes, headers }));
    assert.equal(file.tensors.size, 0);
    assert.deepEqual(Object.fromEntries(file.metadata), {
      session: 'minimal',
      revision: '2',
      iterations: '2',
      learning_rate: '1',
    });
    assert.deepEqual(await readNumbers(api, 'minimal', 'w'), [-1]);
  });

  test('?dtype= chooses the dtype of its tensors, rounded to nearest even', async () => {
    // Halfway between two neighbours: 1 + 2^-8 and 1 + 3 * 2^-8 in BF16, 1 + 2^-11 and 1 + 3 * 2^-11 in F16.
    const values = [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -11, 1 + 3 * 2 ** -11];
    await create(api, 'dtypes', { w: { values } });
    // Nothing moves: the gradient is 0.
    const wanted = {
      BF16: [1, 1 + 2 ** -6, 1, 1],
      F16: [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1, 1 + 2 ** -9],
      F32: values,
      F64: values,
    };
    for (const [dtype, rounded] of Object.entries(wanted)) {
      const { variables } = await push(api, 'dtypes', { w: { values: [0, 0, 0, 0] } }, `?dtype=${dtype}`);
      assert.deepEqual(fromJson(variables.w), { dtype, shape: [4], values: rounded });
      const bytes = encodeFile({ w: f32([0, 0, 0, 0]) });
      const { file } = succeeded(await api.call('POST', `/v1/sessions/dtypes/gradients?dtype=${dtype}`, { bytes }));
      const expected = encode(rounded, dtype as keyof typeof wanted);
      assert.deepEqual(bits(file.tensors), bits(new Map([['w', { ...expected, shape: [4] }]])));
    }
  });

  test('a value that JSON cannot carry is 406 with applied true, and safetensors carries it', async () => {
    const optimizer = { class_name: 'Adamax', config: { learning_rate: 3e38, beta_1: 0, beta_2: 0 } };
    await create(api, 'overflow', { w: { values: [-3e38, 1] } }, { optimizer });
    const json = { gradients: { w: { values: [1, 0] } } };
    const answer = await api.call('POST', '/v1/sessions/overflow/gradients', { json });
    const problem = refused(answer, 'not_acceptable', true);
    assert.match(problem.detail, /"w" must be finite to travel as JSON\. Received: -Infinity at element 0/);
    assert.equal(answer.headers.etag, '"1"');
    assert.equal((await getDocument(api, 'overflow')).iterations, 1);
    const file = await pushFile(api, 'overflow', { w: f32([0, 0]) });
    assert.deepEqual(numbers(file.tensors.get('w') as Tensor), [Number.NEGATIVE_INFINITY, 1]);
    refused(await api.call('GET', '/v1/sessions/overflow/variables'), 'not_acceptable');
    assert.deepEqual(await readNumbers(api, 'overflow', 'w'), [Number.NEGATIVE_INFINITY, 1]);
    const minimal = { json, headers: { prefer: 'return=minimal' } };
    succeeded(await api.call('POST', '/v1/sessions/overflow/gradients', minimal));
  });
});
