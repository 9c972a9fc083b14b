/**
 * The optimizer's numbers, written down as plainly as the formulas are: one element at a time, every operation rounded to
 * the variable's dtype on its own. It is what the kernel and the session are held against, and shares no code with them.
 */
import type { VariableDtype } from '../../src/tensor/dtype.ts';

/** A variable and its slots, flat and row-major; the numbers are all of the variable's dtype. */
export interface State {
  readonly w: Float64Array;
  readonly m: Float64Array;
  readonly v: Float64Array;
}

export interface Scalars {
  readonly alpha: number;
  readonly beta1: number;
  readonly omb1: number;
  readonly beta2: number;
  readonly eps: number;
}

export interface Hyperparameters {
  readonly learning_rate: number;
  readonly beta_1: number;
  readonly beta_2: number;
  readonly epsilon: number;
  readonly decay: number;
}

type Round = (x: number) => number;

export function rounding(dtype: VariableDtype): Round {
  return dtype === 'F32' ? Math.fround : (x) => x;
}

/**
 * The scalars of the step that finds the counter at `iterations`, its rate divided by `divisor`; four hyperparameters are float32
 * whatever the dtype.
 */
export function referenceScalars(
  config: Hyperparameters,
  iterations: number,
  dtype: VariableDtype,
  divisor = 1,
): Scalars {
  const f = rounding(dtype);
  const beta1 = Math.fround(config.beta_1);
  const beta1Power = f(exactPower(beta1, f(iterations + 1)));
  return {
    alpha: f(f(decayed(config, iterations, f) / divisor) / f(1 - beta1Power)),
    beta1,
    omb1: f(1 - beta1),
    beta2: Math.fround(config.beta_2),
    eps: f(config.epsilon === 0 ? 1e-7 : config.epsilon),
  };
}

/** The rate that a step says it has used: a float32. */
export function referenceRate(config: Hyperparameters, iterations: number, divisor = 1): number {
  return Math.fround(decayed(config, iterations, Math.fround) / divisor);
}

function decayed({ learning_rate, decay }: Hyperparameters, iterations: number, f: Round): number {
  const rate = Math.fround(learning_rate);
  return decay > 0 ? f(rate / f(1 + f(Math.fround(decay) * f(iterations)))) : rate;
}

/** base^exponent for a float32 base in [0, 1), worked out exactly in integers and rounded once, to the nearest float64. */
export function exactPower(base: number, exponent: number): number {
  if (base === 0) return exponent === 0 ? 1 : 0;
  // A float32 is a whole number of 2^-149.
  const digits = BigInt(base * 2 ** 149) ** BigInt(exponent);
  const surplus = digits.toString(2).length - 64;
  if (surplus <= 0) return Number(digits) * 2 ** (-149 * exponent);
  // 64 bits, the last of them 1 if anything was cut off, round to 53 as all of them would.
  const sticky = digits & ((1n << BigInt(surplus)) - 1n) ? 1n : 0n;
  return Number((digits >> BigInt(surplus)) | sticky) * 2 ** (surplus - 149 * exponent);
}

export function referenceDense(
  state: State,
  gradient: ArrayLike<number>,
  scalars: Scalars,
  dtype: VariableDtype,
): void {
  const { w, m, v } = state;
  const { alpha, omb1, beta2, eps } = scalars;
  const f = rounding(dtype);
  for (let i = 0; i < w.length; i++) {
    const g = gradient[i] as number;
    m[i] = f(at(m, i) + f(f(g - at(m, i)) * omb1));
    v[i] = Math.max(f(beta2 * at(v, i)), Math.abs(g));
    w[i] = f(at(w, i) - f(alpha * f(at(m, i) / f(at(v, i) + eps))));
  }
}

/** `values` holds a row of `width` for each of `indices`. */
export function referenceSparse(
  state: State,
  width: number,
  indices: ArrayLike<number>,
  values: ArrayLike<number>,
  scalars: Scalars,
  dtype: VariableDtype,
): void {
  const { w, m, v } = state;
  const { alpha, beta1, omb1, beta2, eps } = scalars;
  const f = rounding(dtype);
  for (const [row, sums] of sumRows(indices, values, width, f)) {
    for (let column = 0; column < width; column++) {
      const i = row * width + column;
      const s = sums[column] as number;
      m[i] = f(f(at(m, i) * beta1) + f(s * omb1));
      v[i] = Math.max(f(at(v, i) * beta2), Math.abs(s));
      w[i] = f(at(w, i) - f(alpha * f(at(m, i) / f(at(v, i) + eps))));
    }
  }
}

/** By row number, the sum of its values from +0 on, first to last. */
function sumRows(indices: ArrayLike<number>, values: ArrayLike<number>, width: number, f: Round) {
  const sums = new Map<number, Float64Array>();
  for (let k = 0; k < indices.length; k++) {
    const row = indices[k] as number;
    const sum = sums.get(row) ?? new Float64Array(width);
    for (let column = 0; column < width; column++) sum[column] = f(at(sum, column) + at(values, k * width + column));
    sums.set(row, sum);
  }
  return sums;
}

/** x = max(min(x, c), -c); the limit has the gradient's dtype. */
export function clipByValue(gradient: ArrayLike<number>, c: number, dtype: VariableDtype): Float64Array {
  const limit = rounding(dtype)(c);
  return Float64Array.from(gradient, (x) => Math.max(Math.min(x, limit), -limit));
}

/** x = (x * c) / max(n, c), in float64, so that no square of a float32 overflows; rounded once. */
export function clipByNorm(gradient: ArrayLike<number>, c: number, dtype: VariableDtype): Float64Array {
  return clipByGlobalNorm([gradient], c, dtype)[0] as Float64Array;
}

/** The same, with n the norm of all gradients together. */
export function clipByGlobalNorm(
  gradients: readonly ArrayLike<number>[],
  c: number,
  dtype: VariableDtype,
): Float64Array[] {
  const f = rounding(dtype);
  const limit = f(c);
  let squares = 0;
  for (const gradient of gradients) for (let i = 0; i < gradient.length; i++) squares += at(gradient, i) ** 2;
  const divisor = Math.max(Math.sqrt(squares), limit);
  return gradients.map((gradient) =>
    Float64Array.from(gradient, (x) => (divisor === 0 ? 0 : f((x * limit) / divisor))),
  );
}

function at(values: ArrayLike<number>, index: number): number {
  return values[index] as number;
}
