import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { type AdamaxConfig, mergeOptimizerConfig, parseOptimizer } from '../../src/optimizer/adamax-config.ts';
import { learningRateAt, stepScalars } from '../../src/optimizer/scalars.ts';

interface Case {
  name: string;
  config: object;
  iterations: number;
  steps: { set_learning_rate?: number; set_iterations?: number }[];
  expected: { iterations: number; lr_used: number; lr_next: number }[];
}

const vectors = JSON.parse(readFileSync(new URL('../fixtures/adamax-vectors.json', import.meta.url), 'utf8'));
const cases: Case[] = vectors.cases;

const f = Math.fround;

function configOf(config: object): AdamaxConfig {
  return parseOptimizer({ class_name: 'Adamax', config }, () => assert.fail('no seed is needed'));
}

describe('the learning rate of every step is the one that TensorFlow uses', () => {
  for (const { name, config: given, iterations: start, steps, expected } of cases) {
    test(name, () => {
      let config = configOf(given);
      let iterations = start;
      for (const [index, { set_learning_rate, set_iterations }] of steps.entries()) {
        if (set_learning_rate !== undefined)
          config = mergeOptimizerConfig(config, { learning_rate: set_learning_rate });
        iterations = set_iterations ?? iterations;
        assert.equal(learningRateAt(config, iterations), expected[index]?.lr_used);
        iterations += 1;
        assert.equal(iterations, expected[index]?.iterations);
        assert.equal(learningRateAt(config, iterations), expected[index]?.lr_next);
      }
    });
  }
});

describe('scalars by hand', () => {
  const halves = configOf({ learning_rate: 0.5, beta_1: 0.5, beta_2: 0.75, epsilon: 0.25 });

  test('t is one more than the counter, and every scalar follows its formula', () => {
    // alpha = 0.5 / (1 - 0.5^1) = 1, then 0.5 / (1 - 0.5^3) = 4/7.
    const scalars = { alpha: 1, beta1: 0.5, omb1: 0.5, beta2: 0.75, eps: 0.25 };
    assert.deepEqual(stepScalars(halves, 0, 'F32'), scalars);
    assert.deepEqual(stepScalars(halves, 0, 'F64'), scalars);
    assert.equal(stepScalars(halves, 2, 'F32').alpha, f(4 / 7));
    assert.equal(stepScalars(halves, 2, 'F64').alpha, 4 / 7);
  });

  test('beta_1 = 0 needs no bias correction', () => {
    assert.equal(stepScalars(configOf({ learning_rate: 0.5, beta_1: 0 }), 0, 'F32').alpha, 0.5);
  });

  test('F32 scalars are float32 after every operation', () => {
    const { alpha, beta1, omb1, beta2, eps } = stepScalars(configOf({}), 1, 'F32');
    // beta_1^2 by one multiplication, which float64 does exactly.
    assert.equal(alpha, f(f(0.001) / f(1 - f(f(0.9) * f(0.9)))));
    assert.equal(beta1, f(0.9));
    // 1 - f(0.9) = 0.10000002384, not f(0.1).
    assert.equal(omb1, f(0.10000002384185791));
    assert.equal(beta2, f(0.999));
    assert.equal(eps, f(1e-7));
  });

  test('F64 scalars start from float32 hyperparameters and are float64 from there, epsilon from the start', () => {
    const { alpha, beta1, omb1, beta2, eps } = stepScalars(configOf({}), 1, 'F64');
    assert.equal(alpha, f(0.001) / (1 - f(0.9) * f(0.9)));
    assert.equal(beta1, f(0.9));
    assert.equal(omb1, 1 - f(0.9));
    // float32 has 1 - f(0.9), but not 1 - f(0.1).
    assert.equal(stepScalars(configOf({ beta_1: 0.1 }), 1, 'F64').omb1, 1 - f(0.1));
    assert.equal(beta2, f(0.999));
    assert.equal(eps, 1e-7);
  });

  test('decay divides in the dtype of the variable, from a float32 decay', () => {
    const config = configOf({ learning_rate: 0.1, decay: 0.1, beta_1: 0 });
    const f32 = f(f(0.1) / f(1 + f(f(0.1) * 7)));
    const f64 = f(0.1) / (1 + f(0.1) * 7);
    assert.notEqual(f64, f32);
    assert.equal(learningRateAt(config, 7), f32);
    assert.equal(stepScalars(config, 7, 'F32').alpha, f32);
    assert.equal(stepScalars(config, 7, 'F64').alpha, f64);
  });

  test('decay comes on top of a schedule, which gives a float32 for F64 variables too', () => {
    const learning_rate = {
      class_name: 'ExponentialDecay',
      config: { initial_learning_rate: 0.1, decay_steps: 2, decay_rate: 0.5 },
    };
    // Step 2: 0.1 * 0.5^(2/2), an exact half, then / (1 + 0.25 * 2).
    const scheduled = f(0.1) / 2;
    assert.equal(learningRateAt(configOf({ learning_rate }), 2), scheduled);
    const config = configOf({ learning_rate, decay: 0.25, beta_1: 0 });
    assert.equal(learningRateAt(config, 2), f(scheduled / 1.5));
    assert.equal(stepScalars(config, 2, 'F64').alpha, scheduled / 1.5);
  });

  test('epsilon null and 0 are 1e-7', () => {
    for (const epsilon of [null, 0]) {
      assert.equal(stepScalars(configOf({ epsilon }), 0, 'F32').eps, f(1e-7));
      assert.equal(stepScalars(configOf({ epsilon }), 0, 'F64').eps, 1e-7);
    }
  });

  test('t is a float32 for F32 variables, so 2^24 + 1 counts as 2^24', () => {
    const config = configOf({ learning_rate: 1, beta_1: 1 - 2 ** -24, decay: 0.7 });
    assert.notEqual(f(f(0.7) * (2 ** 24 + 1)), f(f(0.7) * 2 ** 24));
    assert.equal(learningRateAt(config, 2 ** 24 + 1), f(1 / f(1 + f(f(0.7) * 2 ** 24))));
    assert.notEqual(stepScalars(config, 2 ** 24 + 1, 'F64').alpha, stepScalars(config, 2 ** 24, 'F64').alpha);
  });
});
