// Adamax' two update rules, one pass over memory each. `T` is f32 or f64; every operation rounds to `T` on its own and
// none is fused, which is what makes the results TensorFlow's (core/kernels/training_ops.cc, ApplyAdaMaxNonCuda; Kingma &
// Ba, "Adam", section 7.1). Pointers are byte addresses, counts and strides are elements. The caller owns every range.

/** m += (g - m) * omb1;  v = max(beta_2 * v, |g|);  w -= alpha * (m / (v + eps)) over `n` contiguous elements. */
@inline
export function dense<T extends number>(
  w: usize, m: usize, v: usize, g: usize, n: i32, alpha: T, omb1: T, beta2: T, eps: T,
): void {
  const lanes = 16 / <i32>sizeof<T>();
  const bytes = <usize>n * sizeof<T>();
  const vectorBytes = <usize>(n / lanes) << 4;
  const alphas = v128.splat<T>(alpha);
  const omb1s = v128.splat<T>(omb1);
  const beta2s = v128.splat<T>(beta2);
  const epsilons = v128.splat<T>(eps);
  let i: usize = 0;
  for (; i < vectorBytes; i += 16) {
    const gradient = v128.load(g + i);
    const old = v128.load(m + i);
    const mean = v128.add<T>(old, v128.mul<T>(v128.sub<T>(gradient, old), omb1s));
    const norm = v128.pmax<T>(v128.mul<T>(beta2s, v128.load(v + i)), v128.abs<T>(gradient));
    v128.store(m + i, mean);
    v128.store(v + i, norm);
    const quotient = v128.div<T>(mean, v128.add<T>(norm, epsilons));
    v128.store(w + i, v128.sub<T>(v128.load(w + i), v128.mul<T>(alphas, quotient)));
  }
  for (; i < bytes; i += sizeof<T>()) {
    const gradient = load<T>(g + i);
    const old = load<T>(m + i);
    const mean = <T>(old + <T>(<T>(gradient - old) * omb1));
    const norm = larger<T>(<T>(beta2 * load<T>(v + i)), abs<T>(gradient));
    store<T>(m + i, mean);
    store<T>(v + i, norm);
    store<T>(w + i, <T>(load<T>(w + i) - <T>(alpha * <T>(mean / <T>(norm + eps)))));
  }
}

/**
 * m = m * beta_1 + s * omb1;  v = max(v * beta_2, |s|);  w -= alpha * (m / (v + eps)) on `count` rows of `width` elements.
 * Row k of `sums` belongs to row `rows[k]` (i32) of the variable, whose rows lie `stride` elements apart.
 */
@inline
export function sparse<T extends number>(
  w: usize, m: usize, v: usize, rows: usize, sums: usize, count: i32, width: i32, stride: i32,
  alpha: T, beta1: T, omb1: T, beta2: T, eps: T,
): void {
  const lanes = 16 / <i32>sizeof<T>();
  const bytes = <usize>width * sizeof<T>();
  const vectorBytes = <usize>(width / lanes) << 4;
  const alphas = v128.splat<T>(alpha);
  const beta1s = v128.splat<T>(beta1);
  const omb1s = v128.splat<T>(omb1);
  const beta2s = v128.splat<T>(beta2);
  const epsilons = v128.splat<T>(eps);
  for (let k = 0; k < count; k++) {
    const at = <usize>load<u32>(rows + (<usize>k << 2)) * <usize>stride * sizeof<T>();
    const wRow = w + at;
    const mRow = m + at;
    const vRow = v + at;
    const sRow = sums + <usize>k * bytes;
    let i: usize = 0;
    for (; i < vectorBytes; i += 16) {
      const sum = v128.load(sRow + i);
      const mean = v128.add<T>(v128.mul<T>(v128.load(mRow + i), beta1s), v128.mul<T>(sum, omb1s));
      const norm = v128.pmax<T>(v128.mul<T>(v128.load(vRow + i), beta2s), v128.abs<T>(sum));
      v128.store(mRow + i, mean);
      v128.store(vRow + i, norm);
      const quotient = v128.div<T>(mean, v128.add<T>(norm, epsilons));
      v128.store(wRow + i, v128.sub<T>(v128.load(wRow + i), v128.mul<T>(alphas, quotient)));
    }
    for (; i < bytes; i += sizeof<T>()) {
      const sum = load<T>(sRow + i);
      const mean = <T>(<T>(load<T>(mRow + i) * beta1) + <T>(sum * omb1));
      const norm = larger<T>(<T>(load<T>(vRow + i) * beta2), abs<T>(sum));
      store<T>(mRow + i, mean);
      store<T>(vRow + i, norm);
      store<T>(wRow + i, <T>(load<T>(wRow + i) - <T>(alpha * <T>(mean / <T>(norm + eps)))));
    }
  }
}

/** The scalar twin of `pmax`: `a` where it is NaN, so that a NaN in `v` stays. */
@inline
function larger<T extends number>(a: T, b: T): T {
  return a < b ? b : a;
}
