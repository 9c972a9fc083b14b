/** Steps of several workers' gradients: what they come to, who is answered with what, and what becomes of those who wait. */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, describe, test } from 'node:test';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { type Api, encodeFile, f32, numbers, safetensors, startApi } from '../support/api.ts';
import { bits, getDocument, patch, readNumbers, refused, stateOf, succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';
import { createSync, pushOf, waiting, workersOf } from '../support/workers.ts';

const api = await startApi({ after });
const one = { w: { values: [0] } };
const g = (value: number) => ({ w: { values: [value] } });

/** A push whose client goes away when it is told to. */
function leavable(name: string, worker: string, base: number, gradients: object): () => void {
  const { port } = api.app.server.address() as AddressInfo;
  const path = `/v1/sessions/${name}/gradients?worker=${worker}&base=${base}`;
  const headers = { 'content-type': 'application/json' };
  const sent = httpRequest({ host: '127.0.0.1', port, path, method: 'POST', headers });
  sent.on('error', () => undefined);
  sent.end(JSON.stringify({ gradients }));
  return () => sent.destroy();
}

describe('what the gradients come to', () => {
  // In float32, 1e8 + 1 is 1e8: (1e8 + 1) - 1e8 is 0, and in any other order it is 1.
  const values: Record<string, number> = { a: 1e8, b: 1, c: -1e8 };
  for (const order of ['abc', 'acb', 'bac', 'bca', 'cab', 'cba']) {
    test(`is their sum in the order of the workers' names, when they come as ${order}`, async () => {
      await createSync(api, order, one, 3, { reduction: 'sum' });
      const pushes = [];
      for (const worker of order) {
        pushes.push(pushOf(api, order, worker, 0, g(values[worker] as number)));
        if (pushes.length < 3) await waiting(api, order, ...order.slice(0, pushes.length));
      }
      for (const answer of await Promise.all(pushes)) assert.equal(succeeded(answer).json.iterations, 1);
      assert.deepEqual(await readNumbers(api, order, 'w', 'slots/m'), [0]);
    });
  }

  test('is their mean by default, rounded as a division is', async () => {
    await createSync(api, 'mean', one, 3);
    const pushes = [1, 1, 5].map((value, k) => pushOf(api, 'mean', `w${k}`, 0, g(value)));
    for (const answer of await Promise.all(pushes)) succeeded(answer);
    assert.deepEqual(await readNumbers(api, 'mean', 'w', 'slots/m'), [Math.fround(7 / 3)]);
  });

  test('has the rows of all, divided by the number of workers, and touches no others', async () => {
    const table = { e: { values: [[9], [9], [9], [9]] } };
    await createSync(api, 'rows', table, 2);
    const answers = await Promise.all([
      pushOf(api, 'rows', 'a', 0, { e: { indices: [3, 0, 3], values: [[2], [4], [6]] } }),
      pushOf(api, 'rows', 'b', 0, { e: { indices: [3, 1], values: [[8], [-2]] } }),
    ]);
    // Row 3: (2 + 6 + 8) / 2; rows 0 and 1: 4 / 2 and -2 / 2.
    assert.deepEqual(await readNumbers(api, 'rows', 'e', 'slots/m'), [2, -1, 0, 8]);
    for (const answer of answers) {
      assert.deepEqual(succeeded(answer).json.variables, {
        e: { dtype: 'F32', shape: [3, 1], indices: [0, 1, 3], values: [8, 10, 8] },
      });
    }
  });

  test('is dense where one of them is, and a variable that not all name counts as zeros', async () => {
    await createSync(api, 'mixed', { e: { values: [[0], [0], [0]] }, u: { values: [0] } }, 2);
    const [a, b] = await Promise.all([
      pushOf(api, 'mixed', 'a', 0, { e: { indices: [1, 1], values: [[1], [2]] } }),
      pushOf(api, 'mixed', 'b', 0, { u: { values: [6] }, e: { values: [[10], [20], [30]] } }),
    ]);
    assert.deepEqual(await readNumbers(api, 'mixed', 'e', 'slots/m'), [5, 11.5, 15]);
    assert.deepEqual(await readNumbers(api, 'mixed', 'u', 'slots/m'), [3]);
    assert.deepEqual(succeeded(a).json, succeeded(b).json);
    assert.deepEqual(Object.keys(succeeded(a).json.variables).sort(), ['e', 'u']);
  });

  test('is clipped when it has been worked out, not before', async () => {
    const config = { learning_rate: 1, beta_1: 0, beta_2: 0, epsilon: 1e-12, clipvalue: 1 };
    await createSync(api, 'clipped', one, 2, { reduction: 'sum' }, { optimizer: { class_name: 'Adamax', config } });
    await Promise.all([pushOf(api, 'clipped', 'a', 0, g(3)), pushOf(api, 'clipped', 'b', 0, g(-1))]);
    // Before, it would be 1 - 1.
    assert.deepEqual(await readNumbers(api, 'clipped', 'w', 'slots/m'), [1]);
  });

  test('of one worker alone is what async makes of it, to the bit', async () => {
    const variables = { w: { values: [0.1, 0.2, 0.3] }, e: { values: [[1], [2], [3]] } };
    const gradients = { w: { values: [-0, 0.7, 1e-30] }, e: { indices: [2, 0, 2], values: [[0.1], [0.3], [0.2]] } };
    await createSync(api, 'alone', variables, 1);
    await createSync(api, 'async', variables, 1);
    await patch(api, 'async', { aggregation: { mode: 'async' } });
    for (const name of ['alone', 'async']) succeeded(await pushOf(api, name, 'a', 0, gradients));
    assert.deepEqual(await stateOf(api, 'alone'), await stateOf(api, 'async'));
  });

  test('must be finite, else all are told so and nothing is applied', async () => {
    await createSync(api, 'overflow', one, 2, { reduction: 'sum' });
    const answers = await Promise.all(['a', 'b'].map((worker) => pushOf(api, 'overflow', worker, 0, g(3e38))));
    for (const answer of answers) refused(answer, 'gradient_not_finite');
    assert.equal((await getDocument(api, 'overflow')).iterations, 0);
  });
});

describe('who is answered', () => {
  test('each in the format that it asks for, all with the values after the step', async () => {
    await createSync(api, 'formats', { w: { values: [1, 2] } }, 4);
    const path = (worker: string, more = '') => `/v1/sessions/formats/gradients?worker=${worker}&base=0${more}`;
    const bytes = encodeFile({ w: f32([1, -1]) });
    const json = { gradients: { w: { values: [1, -1] } } };
    const [file, text, half, minimal] = await Promise.all([
      api.call('POST', path('a'), { bytes }),
      api.call('POST', path('b'), { json }),
      api.call('POST', path('c', '&dtype=F64'), { bytes }),
      api.call('POST', path('d'), { json, headers: { prefer: 'return=minimal' } }),
    ]);
    assert.deepEqual(numbers(succeeded(file as never).file.tensors.get('w') as Tensor), [0, 3]);
    assert.deepEqual(succeeded(text as never).json.variables.w.values, [0, 3]);
    assert.deepEqual(numbers(succeeded(half as never).file.tensors.get('w') as Tensor), [0, 3]);
    const { variables, ...head } = succeeded(minimal as never).json;
    assert.deepEqual([variables, head.iterations], [undefined, 1]);
    for (const answer of [file, text, half, minimal]) {
      assert.equal(answer?.headers.etag, '"1"');
      assert.equal(answer?.headers.durability, 'always');
    }
  });

  test('with a large reply that several share, step after step', async () => {
    const count = 270_000;
    await createSync(api, 'large', { w: { shape: [count] } }, 3);
    for (let step = 0; step < 3; step++) {
      const bytes = encodeFile({ w: f32(new Array(count).fill(1)) });
      const answers = await Promise.all(
        ['a', 'b', 'c'].map((worker) =>
          api.call('POST', `/v1/sessions/large/gradients?worker=${worker}&base=${step}`, { bytes }),
        ),
      );
      for (const answer of answers) {
        const values = numbers(succeeded(answer).file.tensors.get('w') as Tensor);
        assert.ok(
          values.every((value) => value === -(step + 1)),
          `step ${step}: ${values.find((value) => value !== -(step + 1))}`,
        );
      }
    }
  });

  test('a late one is told where the session stands', async () => {
    await createSync(api, 'late', one, 2, { total_num_replicas: 3 });
    await Promise.all([pushOf(api, 'late', 'a', 0, g(1)), pushOf(api, 'late', 'b', 0, g(1))]);
    const problem = refused(await pushOf(api, 'late', 'c', 0, g(1)), 'gradient_stale');
    assert.equal(problem.iterations, 1);
    assert.equal(problem.detail, "base must be the session's iterations, 1. Received: 0");
    assert.deepEqual(await readNumbers(api, 'late', 'w'), [-1]);
  });

  test('a second push of the same worker for the same step is refused, and the first counts once', async () => {
    await createSync(api, 'twice', one, 2, { reduction: 'sum' });
    const first = pushOf(api, 'twice', 'a', 0, g(4));
    await waiting(api, 'twice', 'a');
    const problem = refused(await pushOf(api, 'twice', 'a', 0, g(4)), 'gradient_stale');
    assert.match(problem.detail, /of different workers\. Received: a second one of "a" for iteration 0$/);
    succeeded(await pushOf(api, 'twice', 'b', 0, g(3)));
    succeeded(await first);
    assert.deepEqual(await readNumbers(api, 'twice', 'w', 'slots/m'), [7]);
  });

  test('who does not say its name, or what its gradients are of, is told to', async () => {
    await createSync(api, 'names', one, 2);
    const path = '/v1/sessions/names/gradients';
    for (const [query, lacking] of [
      ['', 'no "worker", no "base"'],
      ['?worker=a', 'no "base"'],
      ['?base=0', 'no "worker"'],
    ]) {
      const answer = await api.call('POST', `${path}${query}`, { json: { gradients: g(1) } });
      assert.ok(refused(answer, 'invalid_parameter').detail.endsWith(`Received: ${lacking}`));
    }
    const ahead = await api.call('POST', `${path}?worker=a&base=1`, { json: { gradients: g(1) } });
    refused(ahead, 'invalid_argument');
  });

  test('a gradient that does not fit is refused at once, and keeps nobody from their step', async () => {
    await createSync(api, 'misfit', one, 2);
    const good = pushOf(api, 'misfit', 'a', 0, g(1));
    await waiting(api, 'misfit', 'a');
    refused(await pushOf(api, 'misfit', 'b', 0, { w: { values: [1e39] } }), 'gradient_not_finite');
    refused(await pushOf(api, 'misfit', 'b', 0, { w: { values: [1, 2] } }), 'shape_mismatch');
    succeeded(await pushOf(api, 'misfit', 'b', 0, g(1)));
    assert.equal(succeeded(await good).json.iterations, 1);
  });
});

describe('those who wait', () => {
  test('are all told when the time of the first is over, and nothing is applied', async () => {
    await createSync(api, 'timeout', one, 3, { timeout_ms: 300 });
    const before = await stateOf(api, 'timeout');
    const answers = await Promise.all(['a', 'b'].map((worker) => pushOf(api, 'timeout', worker, 0, g(1))));
    for (const answer of answers) {
      const problem = refused(answer, 'aggregation_timeout');
      assert.match(problem.detail, /within timeout_ms\. Received: 2 of the gradients/);
      assert.equal(answer.headers['retry-after'], '1');
    }
    assert.deepEqual(await stateOf(api, 'timeout'), before);
    await Promise.all(['a', 'b', 'c'].map((worker) => pushOf(api, 'timeout', worker, 0, g(1)))).then((all) =>
      all.map((answer) => succeeded(answer)),
    );
  });

  test('leave when their client has gone', async () => {
    await createSync(api, 'gone', one, 2, { reduction: 'sum' });
    const leave = leavable('gone', 'a', 0, g(100));
    await waiting(api, 'gone', 'a');
    leave();
    await waiting(api, 'gone');
    const [b, c] = await Promise.all([pushOf(api, 'gone', 'b', 0, g(1)), pushOf(api, 'gone', 'c', 0, g(2))]);
    assert.deepEqual([succeeded(b).json.iterations, succeeded(c).json.iterations], [1, 1]);
    assert.deepEqual(await readNumbers(api, 'gone', 'w', 'slots/m'), [3]);
  });

  test('make their step when fewer are asked for', async () => {
    await createSync(api, 'fewer', one, 3);
    const pushes = ['a', 'b'].map((worker) => pushOf(api, 'fewer', worker, 0, g(1)));
    await waiting(api, 'fewer', 'a', 'b');
    const { aggregation } = await patch(api, 'fewer', { aggregation: { replicas_to_aggregate: 2 } });
    assert.deepEqual(aggregation, {
      mode: 'sync',
      replicas_to_aggregate: 2,
      total_num_replicas: 3,
      reduction: 'mean',
      timeout_ms: 30_000,
    });
    for (const push of pushes) assert.equal(succeeded(await push).json.iterations, 1);
  });

  test('go by the new rules when the mode is another', async () => {
    await createSync(api, 'mode', one, 3);
    const pushes = ['a', 'b'].map((worker) => pushOf(api, 'mode', worker, 0, g(1)));
    await waiting(api, 'mode', 'a', 'b');
    assert.deepEqual((await patch(api, 'mode', { aggregation: { mode: 'async' } })).aggregation, { mode: 'async' });
    const iterations = [];
    for (const push of pushes) iterations.push(succeeded(await push).json.iterations);
    assert.deepEqual(iterations.sort(), [1, 2]);
  });

  test('are late when the counter is set', async () => {
    await createSync(api, 'counter', one, 2);
    const push = pushOf(api, 'counter', 'a', 0, g(1));
    await waiting(api, 'counter', 'a');
    await patch(api, 'counter', { iterations: 7 });
    assert.equal(refused(await push, 'gradient_stale').iterations, 7);
  });

  test('wait on over an assignment, unless their revision has to be the one before', async () => {
    await createSync(api, 'assigned', one, 3);
    const [a, b] = ['a', 'b'].map((worker) =>
      pushOf(api, 'assigned', worker, 0, g(1), worker === 'b' ? { 'if-match': '"0"' } : {}),
    );
    await waiting(api, 'assigned', 'a', 'b');
    succeeded(
      await api.call('PUT', '/v1/sessions/assigned/variables', { json: { variables: { w: { values: [5] } } } }),
    );
    refused((await b) as never, 'precondition_failed');
    const others = ['c', 'd'].map((worker) => pushOf(api, 'assigned', worker, 0, g(1)));
    for (const push of [a, ...others]) succeeded((await push) as never);
    assert.deepEqual(await readNumbers(api, 'assigned', 'w'), [4]);
  });

  test('are told when the session is deleted', async () => {
    await createSync(api, 'deleted', one, 2);
    const push = pushOf(api, 'deleted', 'a', 0, g(1));
    await waiting(api, 'deleted', 'a');
    succeeded(await api.call('DELETE', '/v1/sessions/deleted'), 204);
    refused(await push, 'session_not_found');
  });

  test('are told when the server shuts down', async (t) => {
    const own = await startApi(t);
    await createSync(own, 's', one, 2);
    const push = pushOf(own, 's', 'a', 0, g(1));
    await waiting(own, 's', 'a');
    const closing = own.app.close();
    const answer = await push;
    refused(answer, 'shutting_down');
    assert.equal(answer.headers['retry-after'], '5');
    await closing;
  });
});

describe('keys, the journal and crashes', () => {
  const key = (name: string) => ({ 'idempotency-key': name });

  test('a repeat waits with its first, and afterwards is answered as one', async () => {
    await createSync(api, 'keys', one, 2, { reduction: 'sum' });
    const first = pushOf(api, 'keys', 'a', 0, g(1), key('a-0'));
    await waiting(api, 'keys', 'a');
    const repeat = pushOf(api, 'keys', 'a', 0, g(1), key('a-0'));
    succeeded(await pushOf(api, 'keys', 'b', 0, g(2), key('b-0')));
    assert.equal(succeeded(await first).headers['idempotency-replayed'], undefined);
    for (const answer of [await repeat, await pushOf(api, 'keys', 'b', 0, g(2), key('b-0'))]) {
      assert.equal(succeeded(answer).headers['idempotency-replayed'], 'true');
      assert.equal(answer.json.iterations, 1);
    }
    assert.deepEqual(await readNumbers(api, 'keys', 'w', 'slots/m'), [3]);
  });

  test('a repeat whose first client has gone takes its place', async () => {
    await createSync(api, 'again', one, 2, { reduction: 'sum' });
    const leave = leavable('again', 'a', 0, g(1));
    await waiting(api, 'again', 'a');
    leave();
    const [a, b] = await Promise.all([
      waiting(api, 'again').then(() => pushOf(api, 'again', 'a', 0, g(1), key('a-0'))),
      waiting(api, 'again').then(() => pushOf(api, 'again', 'b', 0, g(2), key('b-0'))),
    ]);
    assert.deepEqual([succeeded(a).json.iterations, succeeded(b).json.iterations], [1, 1]);
    assert.deepEqual(await readNumbers(api, 'again', 'w', 'slots/m'), [3]);
  });

  for (const durability of ['always', 'everysec']) {
    test(`under ${durability} a step, its keys and its workers are there after a crash, and who waited is not`, async (t) => {
      const own = await startApi(t);
      const table = { w: { values: [0] }, e: { shape: [300_000], initializer: { class_name: 'Ones', config: {} } } };
      await createSync(own, 's', table, 2, {}, { durability });
      const gradients = { w: { values: [3] }, e: { indices: [7], values: [5] } };
      const two = (base: number, api: Api = own) =>
        Promise.all(['a', 'b'].map((worker) => pushOf(api, 's', worker, base, gradients, key(`${worker}-${base}`))));
      for (const answer of [...(await two(0)), ...(await two(1))]) succeeded(answer);
      const state = await stateOf(own, 's');
      const lonely = pushOf(own, 's', 'a', 2, gradients, key('a-2'));
      await waiting(own, 's', 'a');
      const again = await startApi(t, {}, await crashedCopy(t, own.folder));
      assert.deepEqual(await stateOf(again, 's'), state);
      const known = (await workersOf(again, 's')).map(({ name, steps, mean_staleness }) => [
        name,
        steps,
        mean_staleness,
      ]);
      assert.deepEqual(known, [
        ['a', 2, 0],
        ['b', 2, 0],
      ]);
      for (const base of [0, 1]) {
        for (const answer of await two(base, again)) {
          assert.equal(succeeded(answer).headers['idempotency-replayed'], 'true');
          assert.equal(answer.json.iterations, base + 1);
        }
      }
      for (const answer of await two(2, again)) {
        assert.equal(succeeded(answer).headers['idempotency-replayed'], undefined);
      }
      succeeded(await pushOf(own, 's', 'b', 2, gradients, key('b-2')));
      succeeded(await lonely);
      assert.deepEqual(await stateOf(again, 's'), await stateOf(own, 's'));
    });
  }

  test('a step of large gradients is there after a crash', async (t) => {
    const own = await startApi(t);
    const count = 400_000;
    await createSync(own, 's', { w: { shape: [count] } }, 2);
    const values = Array.from({ length: count }, (_, k) => (k % 7) - 3);
    const bytes = encodeFile({ w: f32(values) });
    const answers = await Promise.all(
      ['a', 'b'].map((worker) => own.call('POST', `/v1/sessions/s/gradients?worker=${worker}&base=0`, { bytes })),
    );
    for (const answer of answers) assert.equal(succeeded(answer).headers['content-type'], safetensors);
    const state = await stateOf(own, 's');
    const again = await startApi(t, {}, await crashedCopy(t, own.folder));
    assert.deepEqual(await stateOf(again, 's'), state);
    assert.deepEqual(
      bits(succeeded(answers[0] as never).file.tensors),
      bits(succeeded(answers[1] as never).file.tensors),
    );
  });
});
