import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type AdamaxConfig, mergeOptimizerConfig, parseOptimizer } from '../../src/optimizer/adamax-config.ts';
import { assertRefused, defaults, exponential, noisy, refusedMembers } from './refusals.ts';

const noSeed = () => assert.fail('no seed is needed');
const configOf = (config: object) => parseOptimizer({ class_name: 'Adamax', config }, noSeed);

describe('a merge patch of the config', () => {
  const scheduled = configOf({ learning_rate: exponential, beta_1: 0.8, epsilon: null, clipnorm: 1, name: 'mine' });

  test('changes what it names and nothing else', () => {
    assert.deepEqual(mergeOptimizerConfig(scheduled, {}), scheduled);
    assert.deepEqual(mergeOptimizerConfig(scheduled, { beta_2: 0.99 }), { ...scheduled, beta_2: 0.99 });
    assert.deepEqual(scheduled.beta_2, 0.999);
  });

  test('puts the default in place of null', () => {
    const nulls = { learning_rate: null, beta_1: null, epsilon: null, clipnorm: null, name: null, use_ema: null };
    assert.deepEqual(mergeOptimizerConfig(scheduled, nulls), defaults);
    assert.deepEqual(mergeOptimizerConfig(scheduled, null), defaults);
  });

  test('replaces a schedule by a number, and a number by a schedule', () => {
    assert.equal(mergeOptimizerConfig(scheduled, { learning_rate: 0.5 }).learning_rate, 0.5);
    assert.equal(mergeOptimizerConfig(scheduled, { lr: 0.5 }).learning_rate, 0.5);
    assert.deepEqual(mergeOptimizerConfig(defaults, { learning_rate: exponential }).learning_rate, exponential);
  });

  test('changes the members of the schedule in force, whose class it may name', () => {
    const slower = { ...exponential, config: { ...exponential.config, decay_steps: 20, staircase: false } };
    const config = { decay_steps: 20, staircase: null };
    assert.deepEqual(mergeOptimizerConfig(scheduled, { learning_rate: { config } }).learning_rate, slower);
    const named = { class_name: 'ExponentialDecay', config };
    assert.deepEqual(mergeOptimizerConfig(scheduled, { learning_rate: named }).learning_rate, slower);
  });

  test('replaces a schedule by one of another class', () => {
    const config = { initial_learning_rate: 0.2, decay_steps: 5 };
    assert.deepEqual(
      mergeOptimizerConfig(scheduled, { learning_rate: { class_name: 'CosineDecay', config } }).learning_rate,
      {
        class_name: 'CosineDecay',
        config: { ...config, alpha: 0, name: null, warmup_target: null, warmup_steps: 0 },
      },
    );
  });

  test('draws no seed: the one in force stays, a new schedule gets 0', () => {
    const seedOf = ({ learning_rate }: AdamaxConfig) =>
      typeof learning_rate !== 'number' && learning_rate.class_name === 'NoisyLinearCosineDecay'
        ? learning_rate.config.seed
        : undefined;
    const seeded = parseOptimizer({ config: { learning_rate: noisy } }, () => 11);
    assert.equal(seedOf(mergeOptimizerConfig(seeded, { learning_rate: { config: { alpha: 0.1 } } })), 11);
    assert.equal(seedOf(mergeOptimizerConfig(defaults, { learning_rate: noisy })), 0);
  });

  for (const [what, patch, member, message] of refusedMembers) {
    if (Object.values(patch).includes(null)) continue;
    test(`is refused with ${what}`, () => {
      assertRefused(() => mergeOptimizerConfig(defaults, patch), `/optimizer/config/${member}`, message);
    });
  }

  test('is refused for what it makes of the rest', () => {
    const refuses = (patch: unknown, member: string, message: RegExp) =>
      assertRefused(() => mergeOptimizerConfig(scheduled, patch), `/optimizer/config${member}`, message);
    refuses({ global_clipnorm: 1 }, '/global_clipnorm', /null where clipnorm is given. Received: 1$/);
    refuses({ learning_rate: { config: { decay_steps: 0 } } }, '/learning_rate/config/decay_steps', /Received: 0$/);
    refuses(
      { learning_rate: { config: { decay_rate: null } } },
      '/learning_rate/config/decay_rate',
      /Received: nothing$/,
    );
    refuses(
      { learning_rate: { class_name: 'CosineDecay' } },
      '/learning_rate/config/initial_learning_rate',
      /nothing$/,
    );
    refuses({ learning_rate: { class_name: null } }, '/learning_rate/class_name', /Received: nothing$/);
    refuses({ amsgrad: null }, '/amsgrad', /Received: "amsgrad"$/);
    refuses([], '', /must be an object. Received: \[\]$/);
  });
});
