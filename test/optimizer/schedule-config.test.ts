import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { scheduleBoundariesMax } from '../../src/limits.ts';
import { parseSchedule } from '../../src/optimizer/schedule-config.ts';
import { assertRefused } from './refusals.ts';

const noSeed = () => assert.fail('no seed is needed');

describe('a parsed schedule', () => {
  const complete = [
    {
      given: {
        class_name: 'ExponentialDecay',
        config: { initial_learning_rate: 0.1, decay_steps: 10, decay_rate: 0.96 },
      },
      defaults: { staircase: false, name: null },
    },
    {
      given: { class_name: 'PiecewiseConstantDecay', config: { boundaries: [1, 3], values: [0.1, 0.01, 0.001] } },
      defaults: { name: null },
    },
    {
      given: { class_name: 'PolynomialDecay', config: { initial_learning_rate: 0.1, decay_steps: 10 } },
      defaults: { end_learning_rate: 0.0001, power: 1, cycle: false, name: null },
    },
    {
      given: {
        class_name: 'InverseTimeDecay',
        config: { initial_learning_rate: 0.1, decay_steps: 10, decay_rate: 0.5 },
      },
      defaults: { staircase: false, name: null },
    },
    {
      given: { class_name: 'CosineDecay', config: { initial_learning_rate: 0.1, decay_steps: 10 } },
      defaults: { alpha: 0, name: null, warmup_target: null, warmup_steps: 0 },
    },
    {
      given: { class_name: 'CosineDecayRestarts', config: { initial_learning_rate: 0.1, first_decay_steps: 10 } },
      defaults: { t_mul: 2, m_mul: 1, alpha: 0, name: null },
    },
    {
      given: { class_name: 'LinearCosineDecay', config: { initial_learning_rate: 0.1, decay_steps: 10 } },
      defaults: { num_periods: 0.5, alpha: 0, beta: 0.001, name: null },
    },
    {
      given: { class_name: 'NoisyLinearCosineDecay', config: { initial_learning_rate: 0.1, decay_steps: 10 } },
      defaults: {
        initial_variance: 1,
        variance_decay: 0.55,
        num_periods: 0.5,
        alpha: 0,
        beta: 0.001,
        seed: 11,
        name: null,
      },
    },
  ];

  for (const { given, defaults } of complete) {
    test(`${given.class_name} is what was given and Keras' defaults, and goes through JSON unchanged`, () => {
      const schedule = parseSchedule(given, '/schedule', () => 11);
      assert.deepEqual(schedule, { class_name: given.class_name, config: { ...given.config, ...defaults } });
      assert.deepEqual(parseSchedule(JSON.parse(JSON.stringify(schedule)), '/schedule', noSeed), schedule);
    });
  }

  test("is the same in Keras 3's form", () => {
    // keras.optimizers.schedules.serialize of Keras 3.15.
    const keras3 = {
      module: 'keras.optimizers.schedules',
      class_name: 'CosineDecay',
      config: {
        initial_learning_rate: 0.1,
        decay_steps: 10,
        alpha: 0.0,
        name: 'CosineDecay',
        warmup_target: 0.2,
        warmup_steps: 3,
      },
      registered_name: null,
    };
    const { class_name, config } = keras3;
    assert.deepEqual(parseSchedule(keras3, '/schedule', noSeed), { class_name, config });
    const built = { ...keras3, build_config: null, compile_config: null };
    assert.deepEqual(parseSchedule(built, '/schedule', noSeed), { class_name, config });
  });

  test('has a seed drawn for null, and its own otherwise', () => {
    const seedOf = (seed: unknown) => {
      const config = { initial_learning_rate: 1, decay_steps: 2, seed };
      const schedule = parseSchedule({ class_name: 'NoisyLinearCosineDecay', config }, '/schedule', () => 11);
      return schedule.class_name === 'NoisyLinearCosineDecay' ? schedule.config.seed : undefined;
    };
    assert.deepEqual([seedOf(null), seedOf(-3), seedOf(-0)], [11, -3, 0]);
  });

  test('has no negative zero, which JSON would not keep', () => {
    const { config } = parseSchedule(
      { class_name: 'PiecewiseConstantDecay', config: { boundaries: [-0], values: [-0, 1] } },
      '/schedule',
      noSeed,
    );
    assert.deepEqual(config, { boundaries: [0], values: [0, 1], name: null });
  });
});

describe('a schedule is refused', () => {
  const exponential = (members: object, outer: object = {}) => ({
    class_name: 'ExponentialDecay',
    config: { initial_learning_rate: 0.1, decay_steps: 10, decay_rate: 0.96, ...members },
    ...outer,
  });
  const restarts = (members: object) => ({
    class_name: 'CosineDecayRestarts',
    config: { initial_learning_rate: 0.1, first_decay_steps: 10, ...members },
  });
  const noisy = (members: object) => ({
    class_name: 'NoisyLinearCosineDecay',
    config: { initial_learning_rate: 0.1, decay_steps: 10, ...members },
  });
  const piecewise = (boundaries: unknown, values: unknown) => ({
    class_name: 'PiecewiseConstantDecay',
    config: { boundaries, values },
  });
  const tooMany = Array.from({ length: scheduleBoundariesMax + 2 }, (_, index) => index);

  const refused: [string, unknown, string, RegExp][] = [
    ['without an object', 'ExponentialDecay', '', /must be an object. Received: "ExponentialDecay"$/],
    ['as an array', [], '', /must be an object. Received: \[\]$/],
    ['without a class', exponential({}, { class_name: undefined }), '/class_name', /a string. Received: nothing$/],
    [
      'of an unknown class',
      { class_name: 'MyDecay' },
      '/class_name',
      /one of ExponentialDecay, .*Received: "MyDecay"$/,
    ],
    ['of a class named as in Object', { class_name: 'toString' }, '/class_name', /Received: "toString"$/],
    ["of somebody's own class", exponential({}, { registered_name: 'my>Decay' }), '/registered_name', /"my>Decay"$/],
    [
      'registered as another class',
      exponential({}, { registered_name: 'CosineDecay' }),
      '/registered_name',
      /must be null or "ExponentialDecay". Received: "CosineDecay"$/,
    ],
    ['of a module that is no string', exponential({}, { module: 1 }), '/module', /Received: 1$/],
    ['with a build config', exponential({}, { build_config: {} }), '/build_config', /be null. Received: an object$/],
    ['with a member too many', exponential({}, { 'a/b~c': 1 }), '/a~1b~0c', /of class_name, .*Received: "a\/b~c"$/],
    ['without a config', { class_name: 'CosineDecay' }, '/config/initial_learning_rate', /Received: nothing$/],
    ['with a config that is no object', exponential({}, { config: [] }), '/config', /Received: \[\]$/],
    [
      "with another class's member",
      exponential({ warmup_steps: 1 }),
      '/config/warmup_steps',
      /a member of ExponentialDecay must be one of initial_learning_rate, .*Received: "warmup_steps"$/,
    ],
    [
      'with a prototype',
      { class_name: 'ExponentialDecay', config: JSON.parse('{"__proto__": {"decay_steps": 1}}') },
      '/config/__proto__',
      /Received: "__proto__"$/,
    ],
    [
      'without a member',
      exponential({ decay_rate: undefined }),
      '/config/decay_rate',
      /decay_rate of ExponentialDecay must be a number .*Received: nothing$/,
    ],
    ['with a number in quotes', exponential({ decay_rate: '0.9' }), '/config/decay_rate', /Received: "0.9"$/],
    ['with a boolean for a number', exponential({ decay_rate: true }), '/config/decay_rate', /Received: true$/],
    ['with null for a number', exponential({ decay_rate: null }), '/config/decay_rate', /Received: null$/],
    ['with a number for a boolean', exponential({ staircase: 1 }), '/config/staircase', /true or false. Received: 1$/],
    ['with a number for a name', exponential({ name: 1 }), '/config/name', /must be a string. Received: 1$/],
    ['with decay_steps of 0', exponential({ decay_steps: 0 }), '/config/decay_steps', /greater than 0.*Received: 0$/],
    ['with decay_steps below 0', exponential({ decay_steps: -1 }), '/config/decay_steps', /Received: -1$/],
    ['with decay_steps that round to 0', exponential({ decay_steps: 1e-50 }), '/config/decay_steps', /: 1e-50$/],
    ['with first_decay_steps of 0', restarts({ first_decay_steps: 0 }), '/config/first_decay_steps', /Received: 0$/],
    ['with t_mul below 1', restarts({ t_mul: 0.99999999 }), '/config/t_mul', /at least 1 .*Received: 0.99999999$/],
    [
      'with an infinite rate',
      exponential({ decay_rate: Number.POSITIVE_INFINITY }),
      '/config/decay_rate',
      /: Infinity$/,
    ],
    [
      'with a rate beyond float32',
      exponential({ decay_rate: 1e39 }),
      '/config/decay_rate',
      /float32. Received: 1e\+39$/,
    ],
    ['with a variance below 0', noisy({ initial_variance: -1 }), '/config/initial_variance', /Received: -1$/],
    ['with a seed that is no integer', noisy({ seed: 0.5 }), '/config/seed', /integer .*Received: 0.5$/],
    ['with a seed beyond 2^53 - 1', noisy({ seed: 2 ** 53 }), '/config/seed', /Received: 9007199254740992$/],
    ['with a boundary twice', piecewise([1, 1], [1, 2, 3]), '/config/boundaries', /rise strictly. Received: \[1, 1\]$/],
    ['with falling boundaries', piecewise([3, 1], [1, 2, 3]), '/config/boundaries', /Received: \[3, 1\]$/],
    ['with a value too few', piecewise([1, 2], [1, 2]), '/config/boundaries', /one fewer than its 2 .*Received: 2$/],
    ['with a value too many', piecewise([1], [1, 2, 3]), '/config/boundaries', /one fewer than its 3 .*Received: 1$/],
    ['without values', piecewise([], []), '/config/boundaries', /one fewer than its 0 values. Received: 0$/],
    ['with a value that is no number', piecewise([1], [1, null]), '/config/values/1', /Received: null$/],
    ['with an infinite value', piecewise([1], [1, 1e39]), '/config/values/1', /Received: 1e\+39$/],
    ['with boundaries that are no array', piecewise(1, [1, 2]), '/config/boundaries', /an array .*Received: 1$/],
    ['with too many boundaries', piecewise(tooMany, []), '/config/boundaries', /: \[0, 1, .*… \(10002 values\)\]$/],
  ];

  for (const [what, value, pointer, message] of refused) {
    test(what, () => {
      assertRefused(() => parseSchedule(value, '/schedule', () => 11), `/schedule${pointer}`, message);
    });
  }
});
