/**
 * The numbers that one step works with: the learning rate, by schedule and by Keras' legacy `decay`, and the scalars of
 * Adamax's update (keras 2.8 `optimizer_v2.py` `_decayed_lr` and `adamax.py` `_prepare_local`). The update itself is the
 * kernel's.
 */
import type { StepScalars } from '../kernel/step.ts';
import type { VariableDtype } from '../tensor/dtype.ts';
import { type AdamaxConfig, effectiveEpsilon } from './adamax-config.ts';
import { integerPower } from './integer-power.ts';
import { evaluateSchedule } from './schedules.ts';

type Round = (value: number) => number;

const rounds: Readonly<Record<VariableDtype, Round>> = { F32: Math.fround, F64: (value) => value };

/** The learning rate, a float32, of the step that finds the counter at `iterations`, divided by `divisor`. */
export function learningRateAt(config: AdamaxConfig, iterations: number, divisor = 1): number {
  return Math.fround(decayedRate(config, iterations, Math.fround) / divisor);
}

/**
 * The scalars, in `dtype`, of the step that finds the counter at `iterations`; t is one more. Keras keeps learning_rate,
 * decay and both betas as float32, so for F64 variables they are rounded to float32 first, and a schedule gives a float32.
 *
 *     alpha = learning_rate / divisor / (1 - beta_1^t)      omb1 = 1 - beta_1
 */
export function stepScalars(config: AdamaxConfig, iterations: number, dtype: VariableDtype, divisor = 1): StepScalars {
  const round = rounds[dtype];
  const beta1 = Math.fround(config.beta_1);
  const beta1Power = round(integerPower(beta1, round(iterations + 1)));
  return {
    alpha: round(round(decayedRate(config, iterations, round) / divisor) / round(1 - beta1Power)),
    beta1,
    omb1: round(1 - beta1),
    beta2: Math.fround(config.beta_2),
    eps: round(effectiveEpsilon(config)),
  };
}

/** learning_rate / (1 + decay * iterations), each operation rounded by `round`. */
function decayedRate({ learning_rate, decay }: AdamaxConfig, iterations: number, round: Round): number {
  const rate =
    typeof learning_rate === 'number' ? Math.fround(learning_rate) : evaluateSchedule(learning_rate, iterations);
  return round(rate / round(1 + round(Math.fround(decay) * round(iterations))));
}
