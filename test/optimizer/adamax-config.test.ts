import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type AdamaxConfig,
  effectiveEpsilon,
  parseOptimizer,
  serializeOptimizer,
} from '../../src/optimizer/adamax-config.ts';
import { assertRefused, defaults, exponential, noisy, refusedMembers } from './refusals.ts';

const noSeed = () => assert.fail('no seed is needed');
const configOf = (config: object) => parseOptimizer({ class_name: 'Adamax', config }, noSeed);

/** As Keras' own `json.dumps(serialize(optimizer))` has them. */
const pasted: [string, string, Partial<AdamaxConfig>][] = [
  [
    'tf.keras 2.8: Adamax(learning_rate=0.002, clipvalue=1.0)',
    '{"class_name": "Adamax", "config": {"name": "Adamax", "clipvalue": 1.0, "learning_rate": 0.002, "decay": 0.0, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-07}}',
    { learning_rate: 0.002, clipvalue: 1 },
  ],
  [
    'tf.keras 2.15: legacy.Adamax(ExponentialDecay(0.1, 10, 0.96, staircase=True, name="slow"))',
    '{"module": "keras.optimizers.legacy", "class_name": "Adamax", "config": {"name": "Adamax", "learning_rate": {"module": "keras.optimizers.schedules", "class_name": "ExponentialDecay", "config": {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.96, "staircase": true, "name": "slow"}, "registered_name": null}, "decay": 0.0, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-07}, "registered_name": null}',
    { learning_rate: exponential },
  ],
  [
    "tf.keras 2.12's new Adamax, as saved in a model",
    '{"class_name": "Custom>Adamax", "config": {"name": "Adamax", "weight_decay": null, "clipnorm": null, "global_clipnorm": null, "clipvalue": null, "use_ema": false, "ema_momentum": 0.99, "ema_overwrite_frequency": null, "jit_compile": true, "is_legacy_optimizer": false, "learning_rate": 0.0010000000474974513, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-07}}',
    { learning_rate: 0.0010000000474974513 },
  ],
  [
    "tf.keras 2.15's new Adamax(global_clipnorm=2.0)",
    '{"module": "keras.optimizers", "class_name": "Adamax", "config": {"name": "Adamax", "weight_decay": null, "clipnorm": null, "global_clipnorm": 2.0, "clipvalue": null, "use_ema": false, "ema_momentum": 0.99, "ema_overwrite_frequency": null, "jit_compile": false, "is_legacy_optimizer": false, "learning_rate": 0.0010000000474974513, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-07}, "registered_name": "Custom>Adamax"}',
    { learning_rate: 0.0010000000474974513, global_clipnorm: 2 },
  ],
  [
    'Keras 3.15: Adamax(0.002)',
    '{"module": "keras.optimizers", "class_name": "Adamax", "config": {"name": "adamax", "learning_rate": 0.0020000000949949026, "weight_decay": null, "clipnorm": null, "global_clipnorm": null, "clipvalue": null, "use_ema": false, "ema_momentum": 0.99, "ema_overwrite_frequency": null, "loss_scale_factor": null, "gradient_accumulation_steps": null, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-07}, "registered_name": null}',
    { name: 'adamax', learning_rate: 0.0020000000949949026 },
  ],
];

describe('an optimizer is read', () => {
  for (const [what, json, members] of pasted) {
    test(`as ${what} serialises it`, () => {
      assert.deepEqual(parseOptimizer(JSON.parse(json), noSeed), { ...defaults, ...members });
    });
  }

  test('with defaults for whatever is left out', () => {
    for (const value of [undefined, {}, { config: {} }, { class_name: 'Adamax' }, { build_config: null }]) {
      assert.deepEqual(parseOptimizer(value, noSeed), defaults);
    }
  });

  test('with `lr` for learning_rate', () => {
    assert.equal(configOf({ lr: 0.5 }).learning_rate, 0.5);
    assert.deepEqual(configOf({ lr: exponential }).learning_rate, exponential);
  });

  test('with its numbers as they were given, up to the bounds', () => {
    const members = {
      learning_rate: 0,
      beta_1: 0,
      // The largest float32 below 1.
      beta_2: 0.9999999403953552,
      epsilon: 3e38,
      decay: 0.1,
      clipnorm: 0,
      clipvalue: 1e-50,
    };
    assert.deepEqual(configOf(members), { ...defaults, ...members });
  });

  test('with epsilon 0 and null kept, which stand for 1e-7', () => {
    for (const epsilon of [0, null]) {
      const config = configOf({ epsilon });
      assert.equal(config.epsilon, epsilon);
      assert.equal(effectiveEpsilon(config), 1e-7);
    }
    assert.equal(effectiveEpsilon(configOf({ epsilon: 0.5 })), 0.5);
  });

  test('with clipvalue beside either norm', () => {
    assert.equal(configOf({ clipvalue: 1, clipnorm: 2 }).clipnorm, 2);
    assert.equal(configOf({ clipvalue: 1, global_clipnorm: 2 }).global_clipnorm, 2);
  });

  test("with Keras 3's members where they change nothing", () => {
    const inert = {
      weight_decay: 0,
      use_ema: false,
      ema_momentum: 0.5,
      ema_overwrite_frequency: null,
      gradient_accumulation_steps: null,
      loss_scale_factor: null,
      is_legacy_optimizer: true,
      jit_compile: true,
    };
    assert.deepEqual(configOf(inert), defaults);
  });

  test('with a seed drawn where a schedule has none', () => {
    const config = parseOptimizer({ config: { learning_rate: noisy } }, () => 11);
    assert.deepEqual(serializeOptimizer(config).config.learning_rate, {
      class_name: 'NoisyLinearCosineDecay',
      config: {
        ...noisy.config,
        initial_variance: 1,
        variance_decay: 0.55,
        num_periods: 0.5,
        alpha: 0,
        beta: 0.001,
        seed: 11,
        name: null,
      },
    });
  });
});

describe('an optimizer is written', () => {
  test("complete, in Keras 2's form", () => {
    assert.deepEqual(serializeOptimizer(parseOptimizer(undefined, noSeed)), { class_name: 'Adamax', config: defaults });
  });

  test('so that it is read again the same, through JSON too', () => {
    const configs = [
      ...pasted.map(([, json]) => parseOptimizer(JSON.parse(json), noSeed)),
      configOf({ epsilon: null, decay: 0.1, clipnorm: 0 }),
      configOf({ epsilon: 0, learning_rate: -0 }),
      parseOptimizer({ config: { learning_rate: noisy } }, () => 11),
    ];
    for (const config of configs) {
      const written = serializeOptimizer(config);
      assert.deepEqual(parseOptimizer(written, noSeed), config);
      assert.deepEqual(parseOptimizer(JSON.parse(JSON.stringify(written)), noSeed), config);
    }
  });
});

describe('an optimizer is refused', () => {
  for (const [what, config, member, message] of refusedMembers) {
    test(`with ${what}`, () => {
      assertRefused(
        () => parseOptimizer({ class_name: 'Adamax', config }, () => 11),
        `/optimizer/config/${member}`,
        message,
      );
    });
  }

  const refused: [string, unknown, string, RegExp][] = [
    ['as a name', 'adamax', '', /optimizer must be an object. Received: "adamax"$/],
    ['as null', null, '', /Received: null$/],
    ['of another class', { class_name: 'Adam', config: {} }, '/class_name', /one of Adamax, .*Received: "Adam"$/],
    ['of a class that is no string', { class_name: null }, '/class_name', /Received: null$/],
    [
      "of somebody's own class",
      { class_name: 'Adamax', registered_name: 'mine>Adamax' },
      '/registered_name',
      /Received: "mine>Adamax"$/,
    ],
    ['with a config that is no object', { config: 'fast' }, '/config', /must be an object. Received: "fast"$/],
    [
      'with an unknown member',
      { learning_rate: 0.1 },
      '/learning_rate',
      /one of class_name, .*Received: "learning_rate"$/,
    ],
  ];
  for (const [what, value, pointer, message] of refused) {
    test(what, () => {
      assertRefused(() => parseOptimizer(value, noSeed), `/optimizer${pointer}`, message);
    });
  }
});
