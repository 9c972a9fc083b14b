/**
 * Adamax as a plain loop: what a variable of zeros must hold after some steps, each operation rounded to F32 by itself
 * (Kingma & Ba, "Adam", section 7.1, in the order of Keras' `ApplyAdaMax`). An element depends on nothing but its own
 * gradients, so any stretch of it can be computed alone, and none need be kept.
 */
import { gradientValue } from './numbers.ts';

const { abs, fround, max } = Math;
const beta1 = fround(0.9);
const [learningRate, omb1, beta2, eps] = [fround(0.001), fround(1 - beta1), fround(0.999), fround(1e-7)];

/** Fills `w` with elements `first` and following, after one step for each factor: the gradient's own, times a power of two. */
export function plainSteps(w: Float32Array, first: number, factors: readonly number[]): void {
  const alphas = factors.map((_, step) => fround(learningRate / fround(1 - fround(beta1 ** (step + 1)))));
  for (let k = 0; k < w.length; k++) {
    const gradient = gradientValue(first + k);
    let [m, v, value] = [0, 0, 0];
    for (let step = 0; step < factors.length; step++) {
      const g = gradient * (factors[step] as number);
      m = fround(m + fround(fround(g - m) * omb1));
      v = max(fround(beta2 * v), abs(g));
      value = fround(value - fround((alphas[step] as number) * fround(m / fround(v + eps))));
    }
    w[k] = value;
  }
}
