// One look over a gradient before a step (is it finite, how long is it), its clipping, and the mean of several.

/** Whether none of `n` values is NaN or infinite: x - x is 0 for finite x and NaN for all others. */
@inline
export function allFinite<T extends number>(x: usize, n: i32): bool {
  const end = x + <usize>n * sizeof<T>();
  let differences = v128.splat<T>(<T>0);
  for (const last = end - (end - x & 63); x < last; x += 64) {
    const first = v128.or(difference<T>(v128.load(x)), difference<T>(v128.load(x, 16)));
    const second = v128.or(difference<T>(v128.load(x, 32)), difference<T>(v128.load(x, 48)));
    differences = v128.or(differences, v128.or(first, second));
  }
  let rest: T = <T>0;
  for (; x < end; x += sizeof<T>()) {
    const value = load<T>(x);
    rest += <T>(value - value);
  }
  return !v128.any_true(differences) && rest == <T>0;
}

@inline
function difference<T extends number>(values: v128): v128 {
  return v128.sub<T>(values, values);
}

/**
 * Sum of squares in float64 over `n` values. The order is fixed: element i goes to lane i mod 4, lanes are added pairwise.
 * Callers cut a tensor at fixed places only, so that the sum does not depend on threads or memory layout.
 */
@inline
export function sumSquares<T extends number>(x: usize, n: i32): f64 {
  let low = f64x2.splat(0);
  let high = f64x2.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    let a: v128;
    let b: v128;
    if (sizeof<T>() == 4) {
      const quad = v128.load(x + (<usize>i << 2));
      a = f64x2.promote_low_f32x4(quad);
      b = f64x2.promote_low_f32x4(v128.shuffle<u64>(quad, quad, 1, 0));
    } else {
      a = v128.load(x + (<usize>i << 3));
      b = v128.load(x + (<usize>i << 3), 16);
    }
    low = f64x2.add(low, f64x2.mul(a, a));
    high = f64x2.add(high, f64x2.mul(b, b));
  }
  let sum =
    f64x2.extract_lane(low, 0) + f64x2.extract_lane(high, 0) + (f64x2.extract_lane(low, 1) + f64x2.extract_lane(high, 1));
  for (; i < n; i++) {
    const value = <f64>load<T>(x + <usize>i * sizeof<T>());
    sum += value * value;
  }
  return sum;
}

/** x = max(min(x, limit), -limit), in place. */
@inline
export function clipValue<T extends number>(x: usize, n: i32, limit: T): void {
  const end = x + <usize>n * sizeof<T>();
  const limits = v128.splat<T>(limit);
  const negative = v128.splat<T>(<T>-limit);
  for (const last = end - (end - x & 63); x < last; x += 64) {
    v128.store(x, clipped<T>(v128.load(x), limits, negative));
    v128.store(x, clipped<T>(v128.load(x, 16), limits, negative), 16);
    v128.store(x, clipped<T>(v128.load(x, 32), limits, negative), 32);
    v128.store(x, clipped<T>(v128.load(x, 48), limits, negative), 48);
  }
  for (; x < end; x += sizeof<T>()) {
    store<T>(x, max<T>(min<T>(load<T>(x), limit), <T>-limit));
  }
}

@inline
function clipped<T extends number>(values: v128, limit: v128, negative: v128): v128 {
  return v128.pmax<T>(v128.pmin<T>(values, limit), negative);
}

/** x = x * factor, taken in float64 and rounded once, in place. */
@inline
export function scale<T extends number>(x: usize, n: i32, factor: f64): void {
  const end = x + <usize>n * sizeof<T>();
  const factors = f64x2.splat(factor);
  for (const last = end - (end - x & 15); x < last; x += 16) {
    const values = v128.load(x);
    if (sizeof<T>() == 4) {
      const low = f64x2.mul(f64x2.promote_low_f32x4(values), factors);
      const high = f64x2.mul(f64x2.promote_low_f32x4(v128.shuffle<u64>(values, values, 1, 0)), factors);
      v128.store(x, v128.shuffle<u64>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2));
    } else {
      v128.store(x, f64x2.mul(values, factors));
    }
  }
  for (; x < end; x += sizeof<T>()) store<T>(x, <T>(<f64>load<T>(x) * factor));
}

/** x = x / divisor, in place. Not times 1 / divisor, which would be rounded twice. */
@inline
export function divide<T extends number>(x: usize, n: i32, divisor: T): void {
  const end = x + <usize>n * sizeof<T>();
  const divisors = v128.splat<T>(divisor);
  for (const last = end - (end - x & 63); x < last; x += 64) {
    v128.store(x, v128.div<T>(v128.load(x), divisors));
    v128.store(x, v128.div<T>(v128.load(x, 16), divisors), 16);
    v128.store(x, v128.div<T>(v128.load(x, 32), divisors), 32);
    v128.store(x, v128.div<T>(v128.load(x, 48), divisors), 48);
  }
  for (; x < end; x += sizeof<T>()) store<T>(x, <T>(load<T>(x) / divisor));
}
