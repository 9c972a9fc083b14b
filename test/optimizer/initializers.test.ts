/** Initializers: which serialised forms are taken and what they become, what is refused, and the values that they give. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem } from '../../src/errors.ts';
import { type Initializer, initialize, parseInitializer } from '../../src/optimizer/initializers.ts';
import { fillNormal, fillTruncatedNormal, fillUniform } from '../../src/optimizer/random.ts';

const pointer = '/variables/w/initializer';
const noSeed = (): number => assert.fail('a seed was drawn');
const seed42 = (): number => 42;

function parse(value: unknown, drawSeed = noSeed): Initializer {
  return parseInitializer(value, pointer, drawSeed, 'F32');
}

function valuesOf(initializer: Initializer, shape: readonly number[], dtype: 'F32' | 'F64'): number[] {
  const values: number[] = [];
  for (const block of initialize(initializer, shape, dtype)) {
    assert.equal(block.first, values.length);
    assert.ok(block.values.length > 0 && block.values.length <= 16_384);
    assert.ok(block.values instanceof (dtype === 'F32' ? Float32Array : Float64Array));
    values.push(...block.values);
  }
  return values;
}

/** Classes with the defaults of keras/initializers/initializers_v2.py, and Keras' other name for each. */
const classes = [
  ['Zeros', 'zeros', {}],
  ['Ones', 'ones', {}],
  ['Constant', 'constant', { value: 0 }],
  ['RandomUniform', 'random_uniform', { minval: -0.05, maxval: 0.05, seed: 42 }],
  ['RandomNormal', 'random_normal', { mean: 0, stddev: 0.05, seed: 42 }],
  ['TruncatedNormal', 'truncated_normal', { mean: 0, stddev: 0.05, seed: 42 }],
  ['GlorotUniform', 'glorot_uniform', { seed: 42 }],
  ['GlorotNormal', 'glorot_normal', { seed: 42 }],
  ['HeNormal', 'he_normal', { seed: 42 }],
  ['HeUniform', 'he_uniform', { seed: 42 }],
] as const;

for (const [className, snakeCase, config] of classes) {
  test(`${className} is taken by either name and in each serialised form, and completed with Keras' defaults`, () => {
    const complete = { class_name: className, config };
    for (const form of [
      className,
      snakeCase,
      { class_name: className },
      { class_name: className, config: {} },
      { class_name: snakeCase, config },
      complete,
      { module: 'keras.initializers', class_name: className, config, registered_name: null },
      { module: null, class_name: className, config, registered_name: className, build_config: null },
    ])
      assert.deepEqual(parse(form, seed42), complete);
  });

  test(`${className} gives the same values after a round trip through JSON`, () => {
    const initializer = parse(className, seed42);
    const again = parse(JSON.parse(JSON.stringify(initializer)));
    assert.deepEqual(again, initializer);
    assert.deepEqual(valuesOf(again, [3, 5], 'F64'), valuesOf(initializer, [3, 5], 'F64'));
  });
}

test('a variable without an initializer gets Zeros', () => {
  assert.deepEqual(parse(undefined), { class_name: 'Zeros', config: {} });
});

test('what a config gives is kept, and a seed of null is drawn', () => {
  const config = { minval: -2, maxval: 3, seed: -(2 ** 53 - 1) };
  assert.deepEqual(parse({ class_name: 'RandomUniform', config }).config, config);
  const drawn = parse({ class_name: 'RandomNormal', config: { mean: 1, stddev: 0, seed: null } }, seed42);
  assert.deepEqual(drawn.config, { mean: 1, stddev: 0, seed: 42 });
});

test('negative zeros become zeros, which JSON can record', () => {
  assert.ok(Object.is(valuesOf(parse({ class_name: 'Constant', config: { value: -0 } }), [], 'F32')[0], 0));
  const { config } = parse({ class_name: 'HeNormal', config: { seed: -0 } });
  assert.deepEqual(config, { seed: 0 });
});

const names = [...classes.map(([className]) => className), ...classes.map(([, snakeCase]) => snakeCase)].join(', ');
const ofClass = (class_name: string, config: unknown) => ({ class_name, config });
const deep = JSON.parse('['.repeat(100_000) + ']'.repeat(100_000));
const inF32 = 'within the range of F32. Received:';

/** The value, where the pointer goes from the initializer's, and the detail. */
const refusals: [unknown, string, string][] = [
  ['Orthogonal', '', `initializer must be one of ${names}. Received: "Orthogonal"`],
  ['constructor', '', `initializer must be one of ${names}. Received: "constructor"`],
  [null, '', 'initializer must be an object. Received: null'],
  [3, '', 'initializer must be an object. Received: 3'],
  [deep, '', 'initializer must be an object. Received: [an array]'],
  [{}, '/class_name', 'class_name of initializer must be a string. Received: nothing'],
  [
    ofClass('VarianceScaling', {}),
    '/class_name',
    `class_name of initializer must be one of ${names}. Received: "VarianceScaling"`,
  ],
  [
    { class_name: 'Zeros', 'a/b~c': 1 },
    '/a~1b~0c',
    'a member of initializer must be one of class_name, config, module, registered_name, build_config, compile_config. Received: "a/b~c"',
  ],
  [
    { class_name: 'Zeros', registered_name: 'mine>Zeros' },
    '/registered_name',
    `registered_name of initializer must be one of ${names}. Received: "mine>Zeros"`,
  ],
  [ofClass('Zeros', null), '/config', 'config of initializer must be an object. Received: null'],
  [
    ofClass('HeNormal', { stddev: 1 }),
    '/config/stddev',
    'a member of HeNormal must be one of seed. Received: "stddev"',
  ],
  ...[1.5, 2 ** 53, -(2 ** 53), true, Number.NaN].map((seed): [unknown, string, string] => [
    ofClass('GlorotNormal', { seed }),
    '/config/seed',
    `seed of GlorotNormal must be null or an integer within ±(2^53 - 1). Received: ${seed}`,
  ]),
  [ofClass('Constant', { value: '1' }), '/config/value', `value of Constant must be a number ${inF32} "1"`],
  [ofClass('Constant', { value: null }), '/config/value', `value of Constant must be a number ${inF32} null`],
  [ofClass('Constant', { value: -1e39 }), '/config/value', `value of Constant must be a number ${inF32} -1e+39`],
  [
    ofClass('Constant', JSON.parse('{"value": 1e999}')),
    '/config/value',
    `value of Constant must be a number ${inF32} Infinity`,
  ],
  [ofClass('RandomNormal', { mean: Number.NaN }), '/config/mean', `mean of RandomNormal must be a number ${inF32} NaN`],
  [
    ofClass('RandomNormal', { stddev: -1 }),
    '/config/stddev',
    `stddev of RandomNormal must be a number of at least 0 ${inF32} -1`,
  ],
  [
    ofClass('TruncatedNormal', { stddev: -1e-9 }),
    '/config/stddev',
    `stddev of TruncatedNormal must be a number of at least 0 ${inF32} -1e-9`,
  ],
  [
    ofClass('RandomUniform', { minval: 1 }),
    '/config/minval',
    'minval of RandomUniform must be at most maxval, 0.05. Received: 1',
  ],
  // Float32 ends at 3.4e38: 2e38 - -2e38, 1e38 + 2 * 2e38 and 8.6 * 1e38 lie beyond it.
  [
    ofClass('RandomUniform', { minval: -2e38, maxval: 2e38 }),
    '/config/maxval',
    `maxval of RandomUniform must exceed minval by a number ${inF32} 2e+38`,
  ],
  [
    ofClass('TruncatedNormal', { mean: -1e38, stddev: 2e38 }),
    '/config/stddev',
    `stddev of TruncatedNormal must keep mean ± 2 stddev ${inF32} 2e+38`,
  ],
  [
    ofClass('RandomNormal', { stddev: 1e38 }),
    '/config/stddev',
    `stddev of RandomNormal must keep mean ± 8.6 stddev ${inF32} 1e+38`,
  ],
];

function assertRefused(value: unknown, place: string, isRight: (detail: string) => void): void {
  assert.throws(
    () => parse(value, seed42),
    (error) => {
      assert.ok(error instanceof Problem, String(error));
      assert.equal(error.code, 'invalid_argument');
      isRight(error.message);
      assert.deepEqual(error.errors, [{ pointer: pointer + place, detail: error.message }]);
      return true;
    },
  );
}

test('what Keras does not take is refused, naming the place, the rule and what came', () => {
  for (const [value, place, detail] of refusals)
    assertRefused(value, place, (message) => assert.equal(message, detail));
});

test('Zeros and Ones take no members', () => {
  for (const className of ['Zeros', 'Ones'])
    assertRefused(ofClass(className, { seed: 1 }), '/config/seed', (message) =>
      assert.match(message, new RegExp(`^a member of ${className} must .* Received: "seed"$`)),
    );
});

test('values beyond float32 are taken for a float64 variable, and those beyond float64 refused', () => {
  const constant = parseInitializer(ofClass('Constant', { value: -1e39 }), pointer, noSeed, 'F64');
  assert.deepEqual(valuesOf(constant, [2], 'F64'), [-1e39, -1e39]);
  const wide = ofClass('RandomUniform', { minval: -1e308, maxval: 1e308 });
  assert.throws(() => parseInitializer(wide, pointer, seed42, 'F64'), {
    message: 'maxval of RandomUniform must exceed minval by a number within the range of F64. Received: 1e+308',
  });
});

test('Zeros, Ones and Constant fill the shape', () => {
  assert.deepEqual(valuesOf(parse('Zeros'), [2, 2], 'F32'), [0, 0, 0, 0]);
  assert.deepEqual(valuesOf(parse('Ones'), [3], 'F64'), [1, 1, 1]);
  assert.deepEqual(valuesOf(parse(ofClass('Constant', { value: 0.1 })), [], 'F32'), [Math.fround(0.1)]);
  assert.deepEqual(valuesOf(parse(ofClass('Constant', { value: 0.1 })), [], 'F64'), [0.1]);
});

test('a shape with an axis of size 0 gives no blocks', () => {
  for (const [className] of classes) {
    for (const shape of [[0], [0, 4], [4, 0], [3, 0, 2]])
      assert.deepEqual([...initialize(parse(className, seed42), shape, 'F32')], [], `${className} ${shape}`);
  }
});

/** 40,000 elements: two whole blocks and 7,232 elements of a third. */
const shape = [200, 200];
const count = 40_000;

for (const [dtype, Values] of [
  ['F32', Float32Array],
  ['F64', Float64Array],
] as const) {
  test(`the blocks of a random ${dtype} variable are its seed's stream, cut anywhere`, () => {
    const expected = new Values(count);
    fillUniform(7, 0, -1, 2, expected);
    const uniform = ofClass('RandomUniform', { minval: -1, maxval: 2, seed: 7 });
    assert.deepEqual(valuesOf(parse(uniform), shape, dtype), [...expected]);
    fillNormal(7, 0, 5, 2, expected);
    assert.deepEqual(valuesOf(parse(ofClass('RandomNormal', { mean: 5, stddev: 2, seed: 7 })), shape, dtype), [
      ...expected,
    ]);
    fillTruncatedNormal(7, 0, 5, 2, expected);
    assert.deepEqual(valuesOf(parse(ofClass('TruncatedNormal', { mean: 5, stddev: 2, seed: 7 })), shape, dtype), [
      ...expected,
    ]);
  });
}

test('a seed gives the same values each time, and another seed others', () => {
  const first = valuesOf(parse(ofClass('GlorotUniform', { seed: 7 })), [4, 4], 'F32');
  assert.deepEqual(valuesOf(parse(ofClass('GlorotUniform', { seed: 7 })), [4, 4], 'F32'), first);
  assert.notDeepEqual(valuesOf(parse(ofClass('GlorotUniform', { seed: 8 })), [4, 4], 'F32'), first);
});

/**
 * fan_in and fan_out: 1 for a scalar, both the length of a vector, the two axes of a matrix; else the last two axes times
 * the receptive field: [5, 3, 2] has 5, [2, 3, 4, 6] has 6.
 */
const fans: [shape: number[], fanIn: number, fanOut: number][] = [
  [[], 1, 1],
  [[7], 7, 7],
  [[4, 12], 4, 12],
  [[5, 3, 2], 15, 10],
  [[2, 3, 4, 6], 24, 36],
];

for (const [fanShape, fanIn, fanOut] of fans) {
  test(`shape ${JSON.stringify(fanShape)} has a fan_in of ${fanIn} and a fan_out of ${fanOut}`, () => {
    const average = (fanIn + fanOut) / 2;
    const cut = 0.87962566103423978;
    for (const [className, fill, first, second] of [
      ['GlorotUniform', fillUniform, -Math.sqrt(3 / average), Math.sqrt(3 / average)],
      ['HeUniform', fillUniform, -Math.sqrt(6 / fanIn), Math.sqrt(6 / fanIn)],
      ['GlorotNormal', fillTruncatedNormal, 0, Math.sqrt(1 / average) / cut],
      ['HeNormal', fillTruncatedNormal, 0, Math.sqrt(2 / fanIn) / cut],
    ] as const) {
      const values = Float64Array.from(valuesOf(parse(ofClass(className, { seed: 7 })), fanShape, 'F64'));
      const expected = new Float64Array(values.length);
      fill(7, 0, first, second, expected);
      // The order of a quotient and a product may differ from the code's by a rounding or two.
      values.forEach((value, index) => {
        const other = expected[index] as number;
        assert.ok(Math.abs(value - other) <= 1e-14, `${className}: ${value}, not ${other}`);
      });
    }
  });
}

/**
 * Of n values the mean square has the standard error sqrt((fourth - variance^2) / n); the fourth moment is below 3
 * variance^2 for these distributions, so five standard errors are at most 5 sqrt(2 / n) variance.
 */
test('Glorot and He initializers give the variances that their papers ask for', () => {
  const [fanIn, fanOut] = [100, 400];
  for (const [className, variance] of [
    ['GlorotUniform', 2 / (fanIn + fanOut)],
    ['GlorotNormal', 2 / (fanIn + fanOut)],
    ['HeUniform', 2 / fanIn],
    ['HeNormal', 2 / fanIn],
  ] as const) {
    const values = valuesOf(parse(ofClass(className, { seed: 7 })), [fanIn, fanOut], 'F32');
    const square = values.reduce((sum, value) => sum + value ** 2, 0) / count;
    assert.ok(Math.abs(square / variance - 1) < 5 * Math.sqrt(2 / count), `${className}: ${square}, not ${variance}`);
  }
});
