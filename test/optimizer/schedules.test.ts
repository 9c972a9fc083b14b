import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { normalAt } from '../../src/optimizer/random.ts';
import { parseSchedule } from '../../src/optimizer/schedule-config.ts';
import { evaluateSchedule } from '../../src/optimizer/schedules.ts';

interface ScheduleCase {
  name: string;
  schedule: unknown;
  steps: number[];
  expected: number[];
  /** What Keras' own test expects, in float64. */
  reference?: { values: number[]; rtol: number };
}

const vectors = JSON.parse(readFileSync(new URL('../fixtures/adamax-vectors.json', import.meta.url), 'utf8'));
const scheduleCases: ScheduleCase[] = vectors.schedule_cases;

const f = Math.fround;
const noSeed = () => assert.fail('no seed is needed');
const at = (class_name: string, config: object, step: number) =>
  evaluateSchedule(parseSchedule({ class_name, config }, '/schedule', noSeed), step);

function near(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) <= 1e-6 * Math.abs(expected), `${actual} is not within 1e-6 of ${expected}`);
}

describe('a schedule gives the bits that TensorFlow gives', () => {
  for (const { name, schedule, steps, expected, reference } of scheduleCases) {
    test(name, () => {
      const parsed = parseSchedule(schedule, '/schedule', noSeed);
      const rates = steps.map((step) => evaluateSchedule(parsed, step));
      assert.deepEqual(rates, expected);
      reference?.values.forEach((value, index) => {
        near(rates[index] as number, value);
      });
    });
  }
});

test('a schedule rounds every power, difference and pi, without which these values of TensorFlow 2.21 come out different', () => {
  const exponential = { initial_learning_rate: 0.4, decay_steps: 33, decay_rate: 0.98 };
  assert.equal(at('ExponentialDecay', exponential, 22), 0.3946487605571747);
  const polynomial = { initial_learning_rate: 0.163, decay_steps: 1000, end_learning_rate: 0.5, power: 2.635563894384 };
  assert.equal(at('PolynomialDecay', { ...polynomial, cycle: true }, 418), 0.41907745599746704);
  const linear = { initial_learning_rate: 0.163, decay_steps: 1000, num_periods: 2.5 };
  assert.equal(at('LinearCosineDecay', linear, 613), 0.0008183241006918252);
  const cosine = { initial_learning_rate: 0, decay_steps: 77, warmup_target: 1.196496 };
  assert.equal(at('CosineDecay', cosine, 29), 0.8243657946586609);
});

describe('by hand', () => {
  test('ExponentialDecay is lr * rate^(step / n), with whole periods on a staircase', () => {
    const config = { initial_learning_rate: 1, decay_steps: 10, decay_rate: 0.5 };
    // 0.5^(20/10) = 1/4; 0.5^(5/10) = sqrt(1/2); 0.5^floor(25/10) = 1/4.
    assert.equal(at('ExponentialDecay', config, 20), 0.25);
    assert.equal(at('ExponentialDecay', config, 5), f(Math.SQRT1_2));
    assert.equal(at('ExponentialDecay', { ...config, staircase: true }, 25), 0.25);
  });

  test('InverseTimeDecay is lr / (1 + rate * step / n), with whole periods on a staircase', () => {
    const config = { initial_learning_rate: 1, decay_steps: 2, decay_rate: 1 };
    // 1 / (1 + 6/2) = 1/4; 1 / (1 + floor(7/2)) = 1/4, where 7/2 itself gives 1 / 4.5.
    assert.equal(at('InverseTimeDecay', config, 6), 0.25);
    assert.equal(at('InverseTimeDecay', { ...config, staircase: true }, 7), 0.25);
    assert.equal(at('InverseTimeDecay', config, 7), f(1 / 4.5));
  });

  test('PiecewiseConstantDecay takes the left value on a boundary, compares in float32 and needs no boundary', () => {
    assert.equal(at('PiecewiseConstantDecay', { boundaries: [2, 4.5], values: [1, 2, 3] }, 2), 1);
    assert.equal(at('PiecewiseConstantDecay', { boundaries: [2, 4.5], values: [1, 2, 3] }, 4), 2);
    assert.equal(at('PiecewiseConstantDecay', { boundaries: [2, 4.5], values: [1, 2, 3] }, 5), 3);
    // float32 has neither 2^24 + 1, a tie that rounds down to 2^24, nor 2^24 + 3, which rounds up to 2^24 + 4.
    assert.equal(at('PiecewiseConstantDecay', { boundaries: [2 ** 24], values: [1, 2] }, 2 ** 24 + 1), 1);
    assert.equal(at('PiecewiseConstantDecay', { boundaries: [2 ** 24 + 3], values: [1, 2] }, 2 ** 24 + 4), 1);
    assert.equal(at('PiecewiseConstantDecay', { boundaries: [], values: [0.1] }, 7), f(0.1));
  });

  test('PolynomialDecay goes to its end and stays, or starts again over a multiple of its steps', () => {
    const config = { initial_learning_rate: 1, decay_steps: 4, end_learning_rate: 0.5, power: 2 };
    // (1 - 0.5) * (1 - 2/4)^2 + 0.5 = 0.625.
    assert.equal(at('PolynomialDecay', config, 2), 0.625);
    assert.equal(at('PolynomialDecay', config, 9), 0.5);
    const cycle = { ...config, cycle: true };
    assert.equal(at('PolynomialDecay', cycle, 0), 1);
    assert.equal(at('PolynomialDecay', cycle, 4), 0.5);
    // Step 5 lies in the second cycle, of 8 steps: 0.5 * (1 - 5/8)^2 + 0.5 = 0.5703125.
    assert.equal(at('PolynomialDecay', cycle, 5), 0.5703125);
    // Defaults: linear, down to 0.0001.
    assert.equal(at('PolynomialDecay', { initial_learning_rate: 1, decay_steps: 4 }, 4), f(0.0001));
    near(at('PolynomialDecay', { initial_learning_rate: 1, decay_steps: 4 }, 1), 0.9999 * 0.75 + 0.0001);
  });

  test('CosineDecay takes 1 - alpha in float64, CosineDecayRestarts after rounding alpha', () => {
    // cos(pi/3) = 0.5, so the wave is 0.5 * 1.5 = 0.75. f(1 - 0.8) = 0.2000000030, but 1 - f(0.8) = 0.1999999881.
    const early = f(f(f(1 - 0.8) * 0.75) + f(0.8));
    const late = f(f(f(1 - f(0.8)) * 0.75) + f(0.8));
    assert.notEqual(early, late);
    assert.equal(at('CosineDecay', { initial_learning_rate: 1, decay_steps: 3, alpha: 0.8 }, 1), early);
    assert.equal(at('CosineDecayRestarts', { initial_learning_rate: 1, first_decay_steps: 3, alpha: 0.8 }, 1), late);
  });

  test('CosineDecay warms up to its target first, and only if there is one', () => {
    const config = { initial_learning_rate: 1, decay_steps: 4, warmup_steps: 4 };
    const warm = { ...config, warmup_target: 3 };
    // (3 - 1) * 1/4 + 1 = 1.5; then half a wave from 3: 3 * 0.5 * (1 + cos(pi/2)); then cos(pi) = -1.
    assert.equal(at('CosineDecay', warm, 1), 1.5);
    assert.equal(at('CosineDecay', warm, 4), 3);
    near(at('CosineDecay', warm, 6), 1.5);
    assert.equal(at('CosineDecay', warm, 8), 0);
    assert.equal(at('CosineDecay', warm, 100), 0);
    assert.equal(at('CosineDecay', config, 4), 0);
  });

  test('CosineDecayRestarts lengthens its periods by t_mul and lowers them by m_mul', () => {
    const config = { initial_learning_rate: 1, first_decay_steps: 2, t_mul: 2, m_mul: 0.5 };
    // Periods of 2, 4 and 8 steps start at 0, 2 and 6, at heights 1, 1/2 and 1/4.
    assert.equal(at('CosineDecayRestarts', config, 0), 1);
    assert.equal(at('CosineDecayRestarts', config, 2), 0.5);
    assert.equal(at('CosineDecayRestarts', config, 6), 0.25);
    near(at('CosineDecayRestarts', config, 10), 0.125);
    // t_mul = 1: periods of 2 steps.
    assert.equal(at('CosineDecayRestarts', { ...config, t_mul: 1 }, 4), 0.25);
  });

  test('LinearCosineDecay multiplies its line by its wave', () => {
    const config = { initial_learning_rate: 2, decay_steps: 4, alpha: 0.5, beta: 0.25 };
    // Half a period: 2 * ((0.5 + 1) * 1 + 0.25) = 3.5 at first, 2 * ((0.5 + 0) * 0 + 0.25) = 0.5 at last.
    assert.equal(at('LinearCosineDecay', config, 0), 3.5);
    assert.equal(at('LinearCosineDecay', config, 9), 0.5);
    // A whole period: half-way, the wave is 0; at the end 1 again: 2 * (0.5 * 1 + 0.25) = 1.5.
    assert.equal(at('LinearCosineDecay', { ...config, num_periods: 1 }, 2), 0.5);
    assert.equal(at('LinearCosineDecay', { ...config, num_periods: 1 }, 4), 1.5);
  });
});

describe('the noise of NoisyLinearCosineDecay', () => {
  const config = { initial_learning_rate: 1, decay_steps: 4, num_periods: 1, beta: 0, seed: 7 };
  const noisy = (members: object, step: number) => at('NoisyLinearCosineDecay', { ...config, ...members }, step);

  test('has the deviation sqrt(initial_variance / (1 + step)^variance_decay)', () => {
    // Step 0: the line is 1, the wave 1, the deviation sqrt(4) = 2.
    assert.equal(noisy({ initial_variance: 4 }, 0), f(1 + f(2 * f(normalAt(7, 0)))));
    // Step 3: the line is 1/4, the wave 0.5 * (1 + cos(2 pi 3/4)) = 0.5, the deviation sqrt(4 / 4^1) = 1.
    near(noisy({ initial_variance: 4, variance_decay: 1 }, 3), (0.25 + normalAt(7, 3)) * 0.5);
  });

  test('goes on past decay_steps, with the deviation of decay_steps', () => {
    // Step 9 counts as step 4: the line is 0, the wave 1, the deviation sqrt(5 / 5^1) = 1. Its noise is its own.
    near(noisy({ initial_variance: 5, variance_decay: 1 }, 9), normalAt(7, 9));
  });

  test('is the same whenever a step is replayed, and another for another seed or step', () => {
    const rates = [0, 1, 9].map((step) => noisy({}, step));
    assert.deepEqual(
      [9, 1, 0].map((step) => noisy({}, step)),
      rates.toReversed(),
    );
    assert.notEqual(noisy({ seed: 8 }, 1), rates[1]);
    assert.notEqual(noisy({}, 8), rates[2]);
  });

  test('is left out where its variance is 0', () => {
    const { seed: _, ...plain } = config;
    assert.equal(noisy({ initial_variance: 0 }, 1), at('LinearCosineDecay', plain, 1));
  });
});
