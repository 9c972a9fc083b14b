/**
 * Gradient clipping in Keras' order: by value, then by each variable's norm, then by the norm of the whole request
 * (tensorflow/python/ops/clip_ops.py). Here the factors are worked out; the kernel applies them.
 */
import type { Clip, Scan } from '../kernel/blocks.ts';
import type { VariableDtype } from '../tensor/dtype.ts';
import type { AdamaxConfig } from './adamax-config.ts';

/** What to do to each gradient, given its scan, which was taken after clipping by value. */
export function clips(config: AdamaxConfig, scans: readonly Scan[]): Clip[] {
  const limit = config.clipvalue;
  let total = 0;
  for (const { sumSquares } of scans) total += sumSquares;
  return scans.map(({ dtype, sumSquares }) => {
    let factor = 1;
    if (config.clipnorm !== null) factor = shrink(config.clipnorm, sumSquares, dtype);
    else if (config.global_clipnorm !== null) factor = shrink(config.global_clipnorm, total, dtype);
    return { limit, factor };
  });
}

/**
 * The factor that brings a norm down to `norm`: x * c / max(n, c), in float64, with c in the gradient's dtype; a gradient
 * within the bound keeps its bits. A bound of 0 holds even where the squares have underflowed.
 */
function shrink(norm: number, sumSquares: number, dtype: VariableDtype): number {
  const limit = dtype === 'F32' ? Math.fround(norm) : norm;
  const actual = Math.sqrt(sumSquares);
  return limit === 0 ? 0 : Math.min(1, limit / actual);
}
