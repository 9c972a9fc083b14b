/**
 * What a learning-rate schedule gives at a step, in float32 as TensorFlow computes it (Keras 2.8
 * `learning_rate_schedule.py`, with the warm-up of 2.13): every operation rounds on its own, in Keras' order. Only 1 - alpha
 * of CosineDecay is float64, since Keras subtracts Python numbers there. Reading the configuration is left to
 * `schedule-config.ts`.
 */
import { normalAt } from './random.ts';
import type { Schedule, ScheduleConfig } from './schedule-config.ts';

const f = Math.fround;
const add = (a: number, b: number) => f(a + b);
const subtract = (a: number, b: number) => f(a - b);
const multiply = (a: number, b: number) => f(a * b);
const divide = (a: number, b: number) => f(a / b);
// ECMAScript leaves the last bit of these three to the engine, in float64, which rounding to float32 drops.
const power = (base: number, exponent: number) => f(base ** exponent);
const cosine = (x: number) => f(Math.cos(x));
const logarithm = (x: number) => f(Math.log(x));
const pi = f(Math.PI);

/** The learning rate, a float32, of the step that finds the counter at `iterations`. */
export function evaluateSchedule(schedule: Schedule, iterations: number): number {
  const step = f(iterations);
  switch (schedule.class_name) {
    case 'ExponentialDecay':
      return exponentialDecay(schedule.config, step);
    case 'PiecewiseConstantDecay':
      return piecewiseConstantDecay(schedule.config, step);
    case 'PolynomialDecay':
      return polynomialDecay(schedule.config, step);
    case 'InverseTimeDecay':
      return inverseTimeDecay(schedule.config, step);
    case 'CosineDecay':
      return cosineDecay(schedule.config, step);
    case 'CosineDecayRestarts':
      return cosineDecayRestarts(schedule.config, step);
    case 'LinearCosineDecay':
      return linearCosineDecay(schedule.config, step, 0);
    case 'NoisyLinearCosineDecay':
      return linearCosineDecay(schedule.config, step, noise(schedule.config, step, iterations));
  }
}

function exponentialDecay(config: ScheduleConfig<'ExponentialDecay'>, step: number): number {
  return multiply(f(config.initial_learning_rate), power(f(config.decay_rate), periods(config, step)));
}

function inverseTimeDecay(config: ScheduleConfig<'InverseTimeDecay'>, step: number): number {
  return divide(f(config.initial_learning_rate), add(1, multiply(f(config.decay_rate), periods(config, step))));
}

/** How often `decay_steps` has passed, whole times only on a staircase. */
function periods(config: { readonly decay_steps: number; readonly staircase: boolean }, step: number): number {
  const passed = divide(step, f(config.decay_steps));
  return config.staircase ? Math.floor(passed) : passed;
}

function piecewiseConstantDecay(
  { boundaries, values }: ScheduleConfig<'PiecewiseConstantDecay'>,
  step: number,
): number {
  // -1, where no boundary is left, is the last value.
  const interval = boundaries.findIndex((boundary) => step <= f(boundary));
  return f(values.at(interval) as number);
}

function polynomialDecay(config: ScheduleConfig<'PolynomialDecay'>, step: number): number {
  const end = f(config.end_learning_rate);
  let decaySteps = f(config.decay_steps);
  let at = step;
  if (config.cycle) decaySteps = multiply(decaySteps, step === 0 ? 1 : Math.ceil(divide(step, decaySteps)));
  else at = Math.min(step, decaySteps);
  const left = power(subtract(1, divide(at, decaySteps)), f(config.power));
  return add(multiply(subtract(f(config.initial_learning_rate), end), left), end);
}

function cosineDecay(config: ScheduleConfig<'CosineDecay'>, step: number): number {
  const initial = f(config.initial_learning_rate);
  const decaySteps = f(config.decay_steps);
  const decayFrom = (rate: number, at: number) => {
    const decayed = multiply(f(1 - config.alpha), halfWave(divide(at, decaySteps)));
    return multiply(rate, add(decayed, f(config.alpha)));
  };
  if (config.warmup_target === null) return decayFrom(initial, Math.min(step, decaySteps));
  const target = f(config.warmup_target);
  const warmupSteps = f(config.warmup_steps);
  const at = Math.min(step, add(decaySteps, warmupSteps));
  if (at < warmupSteps) return add(multiply(subtract(target, initial), divide(at, warmupSteps)), initial);
  return decayFrom(target, subtract(at, warmupSteps));
}

/** Loshchilov & Hutter, "SGDR": restart number `restart` lasts t_mul^restart times `first_decay_steps`. */
function cosineDecayRestarts(config: ScheduleConfig<'CosineDecayRestarts'>, step: number): number {
  const alpha = f(config.alpha);
  const growth = f(config.t_mul);
  const passed = divide(step, f(config.first_decay_steps));
  let restart: number;
  let completed: number;
  if (growth === 1) {
    restart = Math.floor(passed);
    completed = subtract(passed, restart);
  } else {
    const shrinkage = subtract(1, growth);
    restart = Math.floor(divide(logarithm(subtract(1, multiply(passed, shrinkage))), logarithm(growth)));
    const length = power(growth, restart);
    completed = divide(subtract(passed, divide(subtract(1, length), shrinkage)), length);
  }
  const height = multiply(0.5, power(f(config.m_mul), restart));
  const decayed = multiply(height, add(1, cosine(multiply(pi, completed))));
  return multiply(f(config.initial_learning_rate), add(multiply(subtract(1, alpha), decayed), alpha));
}

/** Bello et al., "Neural Optimizer Search with Reinforcement Learning": `disturbance` is added to the linear part. */
function linearCosineDecay(config: ScheduleConfig<'LinearCosineDecay'>, step: number, disturbance: number): number {
  const decaySteps = f(config.decay_steps);
  const at = Math.min(step, decaySteps);
  const linear = add(divide(subtract(decaySteps, at), decaySteps), disturbance);
  const wave = halfWave(multiply(multiply(2, f(config.num_periods)), divide(at, decaySteps)));
  return multiply(f(config.initial_learning_rate), add(multiply(add(f(config.alpha), linear), wave), f(config.beta)));
}

/** N(0, initial_variance / (1 + step)^variance_decay), the same whenever a step is replayed. */
function noise(config: ScheduleConfig<'NoisyLinearCosineDecay'>, step: number, iterations: number): number {
  const at = Math.min(step, f(config.decay_steps));
  const variance = divide(f(config.initial_variance), power(add(1, at), f(config.variance_decay)));
  const normal = normalAt(config.seed, Math.max(0, Math.floor(iterations)));
  return multiply(f(normal), f(Math.sqrt(variance)));
}

/** From 1 down to 0 while `completed` goes from 0 to 1. */
function halfWave(completed: number): number {
  return multiply(0.5, add(1, cosine(multiply(pi, completed))));
}
