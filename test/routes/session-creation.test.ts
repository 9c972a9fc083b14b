/** Creating sessions: from JSON with every option, from a model file, and from a downloaded checkpoint. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { encodeFile, f32, f64, numbers, startApi } from '../support/api.ts';
import { bits, create, getDocument, push, read, readNumbers, refused, stateOf, succeeded } from '../support/calls.ts';
import { encode } from '../support/floats.ts';

const api = await startApi({ after });

/** Keras' defaults, in the order of its own get_config. */
const defaults = {
  learning_rate: 0.001,
  beta_1: 0.9,
  beta_2: 0.999,
  epsilon: 1e-7,
  decay: 0,
  clipnorm: null,
  clipvalue: null,
  global_clipnorm: null,
  name: 'Adamax',
};

describe('the document of a new session', () => {
  test('is complete where everything was left out', async () => {
    const answer = await api.call('PUT', '/v1/sessions/bare', { json: {} });
    const { created_at, last_checkpoint, ...document } = succeeded(answer, 201).json;
    assert.equal(answer.headers.location, '/v1/sessions/bare');
    assert.deepEqual(document, {
      name: 'bare',
      revision: 0,
      optimizer: { class_name: 'Adamax', config: defaults },
      iterations: 0,
      // 0.001 as float32, which is what a step uses.
      learning_rate: Math.fround(0.001),
      variables: {},
      parameters: 0,
      bytes: 0,
      durability: 'always',
      checkpointing: { every_steps: 1000, every_seconds: 300, keep: 5, keep_journal_steps: null },
      aggregation: { mode: 'async' },
      metadata: {},
    });
    assert.ok(Math.abs(Date.parse(created_at) - Date.now()) < 60_000);
    assert.deepEqual([last_checkpoint.id, last_checkpoint.iterations], ['ckpt-000001', 0]);
    assert.deepEqual(await getDocument(api, 'bare'), { ...document, created_at, last_checkpoint });
  });

  test('has every option as it was given, numbers with the digits that they came with', async () => {
    const config = {
      ...defaults,
      learning_rate: 0.02,
      beta_1: 0.85,
      beta_2: 0.95,
      epsilon: 1e-8,
      decay: 0.01,
      clipvalue: 0.3,
    };
    const others = {
      durability: 'everysec',
      checkpointing: { every_steps: 7, every_seconds: null, keep: 2, keep_journal_steps: 90 },
      aggregation: { mode: 'async' },
      metadata: { owner: 'team-a', notes: [1, { deep: null }] },
    };
    const variables = {
      'dense/kernel': {
        shape: [784, 10],
        dtype: 'F32',
        initializer: { class_name: 'GlorotUniform', config: { seed: 7 } },
      },
      'dense/bias': { values: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0] },
      'wide.scale': { dtype: 'F64', values: 0.5 },
      none: { shape: [0, 3] },
    };
    const document = await create(api, 'full', variables, { ...others, optimizer: { class_name: 'Adamax', config } });
    assert.deepEqual(document.optimizer, { class_name: 'Adamax', config });
    for (const [member, value] of Object.entries(others)) assert.deepEqual(document[member], value);
    assert.deepEqual(document.variables, {
      'dense/kernel': { shape: [784, 10], dtype: 'F32' },
      'dense/bias': { shape: [10], dtype: 'F32' },
      'wide.scale': { shape: [], dtype: 'F64' },
      none: { shape: [0, 3], dtype: 'F32' },
    });
    assert.equal(document.parameters, 7851);
    // w, m and v: 7,850 elements of 4 bytes and one of 8.
    assert.equal(document.bytes, 3 * (7850 * 4 + 8));
  });

  test("writes Keras 3's form, and the alias lr, in Keras 2's", async () => {
    const schedule = {
      module: 'keras.optimizers.schedules',
      class_name: 'ExponentialDecay',
      config: {
        initial_learning_rate: 0.1,
        decay_steps: 10,
        decay_rate: 0.96,
        staircase: false,
        name: 'ExponentialDecay',
      },
      registered_name: null,
    };
    const optimizer = {
      module: 'keras.optimizers',
      class_name: 'Adamax',
      config: { name: 'adamax', learning_rate: schedule, weight_decay: null, use_ema: false, ema_momentum: 0.99 },
      registered_name: null,
    };
    const { config } = (await create(api, 'keras3', {}, { optimizer })).optimizer;
    const learning_rate = { class_name: 'ExponentialDecay', config: schedule.config };
    assert.deepEqual(config, { ...defaults, name: 'adamax', learning_rate });
    const alias = await create(api, 'alias', {}, { optimizer: { class_name: 'Adamax', config: { lr: 0.25 } } });
    assert.deepEqual(alias.optimizer.config, { ...defaults, learning_rate: 0.25 });
  });

  test('records the seed that was drawn for a noisy schedule', async () => {
    const learning_rate = {
      class_name: 'NoisyLinearCosineDecay',
      config: { initial_learning_rate: 0.1, decay_steps: 10 },
    };
    const optimizer = { class_name: 'Adamax', config: { learning_rate } };
    const seeds = [];
    for (const name of ['noisy-1', 'noisy-2']) {
      const document = await create(api, name, {}, { optimizer });
      seeds.push(document.optimizer.config.learning_rate.config.seed);
    }
    assert.ok(seeds.every(Number.isSafeInteger));
    assert.notEqual(seeds[0], seeds[1]);
  });
});

describe('variables by an initializer', () => {
  const shape = [40, 60];
  const count = 2400;

  test('are constant where it is', async () => {
    await create(api, 'constant', {
      default: { shape: [2] },
      zeros: { shape: [2], initializer: 'Zeros' },
      ones: { shape: [2], initializer: { class_name: 'Ones', config: {} } },
      constant: { shape: [2], initializer: { class_name: 'Constant', config: { value: -2.5 } } },
    });
    const tensors = await read(api, 'constant');
    const values = Object.fromEntries([...tensors].map(([name, tensor]) => [name, numbers(tensor)]));
    assert.deepEqual(values, { default: [0, 0], zeros: [0, 0], ones: [1, 1], constant: [-2.5, -2.5] });
  });

  // The variance of each, from its definition: a truncated normal is cut at two of its own standard deviations, and
  // VarianceScaling makes up for that.
  const random = {
    RandomUniform: { config: { minval: -1, maxval: 3 }, mean: 1, variance: 16 / 12, within: [-1, 3] },
    RandomNormal: { config: { mean: 2, stddev: 0.5 }, mean: 2, variance: 0.25, within: [-3, 7] },
    TruncatedNormal: { config: { stddev: 1 }, mean: 0, variance: 0.7737, within: [-2, 2] },
    GlorotUniform: { config: {}, mean: 0, variance: 2 / 100, within: [-Math.sqrt(0.06), Math.sqrt(0.06)] },
    GlorotNormal: { config: {}, mean: 0, variance: 2 / 100, within: [-0.33, 0.33] },
    HeUniform: { config: {}, mean: 0, variance: 2 / 40, within: [-Math.sqrt(0.15), Math.sqrt(0.15)] },
    HeNormal: { config: {}, mean: 0, variance: 2 / 40, within: [-0.52, 0.52] },
  };

  test('are spread as it says, and the same wherever the seed is the same', async () => {
    const variables = Object.entries(random).flatMap(([class_name, { config }]) =>
      [5, 5, 6].map((seed, k) => [
        `${class_name}/${k}`,
        { shape, initializer: { class_name, config: { ...config, seed } } },
      ]),
    );
    await create(api, 'random', Object.fromEntries(variables));
    const tensors = await read(api, 'random');
    for (const [name, { mean, variance, within }] of Object.entries(random)) {
      const [first, same, other] = [0, 1, 2].map((k) => numbers(tensors.get(`${name}/${k}`) as Tensor));
      assert.deepEqual(first, same);
      assert.notDeepEqual(first, other);
      const values = first as number[];
      const average = values.reduce((sum, x) => sum + x, 0) / count;
      const spread = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / count;
      // Within five standard errors: sqrt(variance / n) of a mean, and at most sqrt(2 / n) of a variance, relatively.
      assert.ok(Math.abs(average - mean) < 5 * Math.sqrt(variance / count), `${name}: mean ${average}`);
      assert.ok(Math.abs(spread / variance - 1) < 5 * Math.sqrt(2 / count), `${name}: variance ${spread}`);
      const [low, high] = within as [number, number];
      assert.ok(
        values.every((x) => x >= low && x <= high),
        `${name} must stay within ${within}`,
      );
    }
  });

  test('get a seed of their own where none is given', async () => {
    const initializer = { class_name: 'HeNormal', config: {} };
    await create(api, 'drawn', { a: { shape, initializer }, b: { shape, initializer: 'he_normal' } });
    assert.notDeepEqual(await readNumbers(api, 'drawn', 'a'), await readNumbers(api, 'drawn', 'b'));
  });
});

describe('from a safetensors model file', () => {
  test('every tensor becomes a variable: F16 and BF16 widen to F32, F64 stays', async () => {
    const values = [1 / 3, -0, 65_504, 2 ** -24];
    const f16 = { ...encode(values, 'F16'), shape: [2, 2] };
    const bf16 = { ...encode(values, 'BF16'), shape: [4] };
    const bytes = encodeFile({ 'layer.0/w': f16, bf16, single: f32(values), double: f64(values) });
    const document = succeeded(await api.call('PUT', '/v1/sessions/model', { bytes }), 201).json;
    assert.deepEqual(document.variables, {
      'layer.0/w': { shape: [2, 2], dtype: 'F32' },
      bf16: { shape: [4], dtype: 'F32' },
      single: { shape: [4], dtype: 'F32' },
      double: { shape: [4], dtype: 'F64' },
    });
    const wide = new Map<string, Tensor>([
      // 1/3 is 1365/4096 in F16's 11 bits and 171/512 in BF16's 8; 65504 and 2^-24 are F16's extremes.
      ['layer.0/w', f32([1365 / 4096, -0, 65_504, 2 ** -24], [2, 2])],
      ['bf16', f32([171 / 512, -0, 65_536, 2 ** -24])],
      ['single', f32(values)],
      ['double', f64(values)],
    ]);
    const tensors = await read(api, 'model');
    for (const [name, tensor] of wide) {
      assert.deepEqual(bits(new Map([[name, tensors.get(name) as Tensor]])), bits(new Map([[name, tensor]])));
    }
  });

  test("options stand in __metadata__ as JSON texts; other tools' notes there become the session's metadata", async () => {
    const config = { learning_rate: 0.125, clipnorm: 2 };
    const bytes = encodeFile(
      { w: f32([1, 2]) },
      {
        format: 'pt',
        license: 'mit',
        optimizer: JSON.stringify({ class_name: 'Adamax', config }),
        iterations: '12',
        checkpointing: '{"every_steps":null,"keep":3}',
        aggregation: '{"mode":"async"}',
        durability: 'checkpoint',
        metadata: '{"owner":"team-a"}',
      },
    );
    const document = succeeded(await api.call('PUT', '/v1/sessions/noted', { bytes }), 201).json;
    assert.deepEqual(document.optimizer.config, { ...defaults, ...config });
    assert.equal(document.iterations, 12);
    assert.deepEqual(document.checkpointing, {
      every_steps: null,
      every_seconds: 300,
      keep: 3,
      keep_journal_steps: null,
    });
    assert.deepEqual(document.metadata, { format: 'pt', license: 'mit', owner: 'team-a' });
    const bad = encodeFile({ w: f32([1]) }, { iterations: 'many' });
    refused(await api.call('PUT', '/v1/sessions/bad', { bytes: bad }), 'invalid_parameter');
    refused(await api.call('GET', '/v1/sessions/bad'), 'session_not_found');
  });
});

test('a session made of a downloaded checkpoint goes on exactly there: the same pushes give the same bits', async () => {
  const learning_rate = {
    class_name: 'CosineDecayRestarts',
    config: { initial_learning_rate: 0.1, first_decay_steps: 3, t_mul: 2, m_mul: 0.5, alpha: 0.05, name: null },
  };
  const others = {
    optimizer: { class_name: 'Adamax', config: { learning_rate, decay: 0.01, global_clipnorm: 0.7 } },
    checkpointing: { every_steps: null, every_seconds: null, keep: 3 },
    metadata: { owner: 'team-a' },
  };
  const variables = { w: { values: [0.1, 0.2, 0.3] }, e: { dtype: 'F64', shape: [4, 2] }, s: { values: 1 } };
  await create(api, 'original', variables, others);
  const step = (name: string, k: number) =>
    push(api, name, {
      w: { values: [1 / (k + 1), -k, 0.3] },
      e: { indices: [k % 4, 0], values: [1 / 3, k, -0.7, 2] },
      ...(k % 2 === 0 ? { s: { values: -k } } : {}),
    });
  for (let k = 0; k < 4; k++) await step('original', k);
  succeeded(await api.call('POST', '/v1/sessions/original/checkpoints'), 201);
  const { bytes } = succeeded(await api.call('GET', '/v1/sessions/original/checkpoints/latest'));

  const document = succeeded(await api.call('PUT', '/v1/sessions/copy', { bytes }), 201).json;
  const { optimizer, iterations, checkpointing, metadata } = await getDocument(api, 'original');
  assert.deepEqual([document.optimizer, document.iterations], [optimizer, iterations]);
  assert.deepEqual([document.checkpointing, document.metadata], [checkpointing, metadata]);
  assert.equal(document.revision, 0);
  assert.deepEqual(await stateOf(api, 'copy'), await stateOf(api, 'original'));
  for (let k = 4; k < 10; k++) {
    const [original, copy] = [await step('original', k), await step('copy', k)];
    assert.deepEqual({ ...copy, session: '', revision: 0 }, { ...original, session: '', revision: 0 });
  }
  assert.deepEqual(await stateOf(api, 'copy'), await stateOf(api, 'original'));
});

test('a name is given once: a second creation is 409, and of two at once one', async () => {
  await create(api, 'taken', { w: { values: [1] } });
  refused(await api.call('PUT', '/v1/sessions/taken', { json: {} }), 'session_exists');
  assert.deepEqual(await readNumbers(api, 'taken', 'w'), [1]);
  const answers = await Promise.all([1, 2, 3].map(() => api.call('PUT', '/v1/sessions/wanted', { json: {} })));
  assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 409, 409]);
  const matched = { json: {}, headers: { 'if-match': '"0"' } };
  refused(await api.call('PUT', '/v1/sessions/fresh', matched), 'precondition_failed');
});

test('names that objects have by themselves are names like any other', async () => {
  const json = '{"variables":{"__proto__":{"values":[1]},"constructor":{"values":[2]},"0":{"values":[3]}}}';
  const answer = succeeded(await api.call('PUT', '/v1/sessions/names', { json }), 201);
  assert.deepEqual(Object.keys(answer.json.variables).sort(), ['0', '__proto__', 'constructor']);
  await push(api, 'names', JSON.parse('{"__proto__":{"values":[0]}}'));
  const tensors = await read(api, 'names');
  assert.deepEqual(numbers(tensors.get('__proto__') as Tensor), [1]);
  assert.deepEqual(numbers(tensors.get('constructor') as Tensor), [2]);
  assert.deepEqual(numbers(tensors.get('0') as Tensor), [3]);
});
