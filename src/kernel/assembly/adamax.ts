// Adamax' two update rules, one pass over memory each. `T` is f32 or f64; every operation rounds to `T` on its own and
// none is fused, which is what makes the results TensorFlow's (core/kernels/training_ops.cc, ApplyAdaMaxNonCuda; Kingma &
// Ba, "Adam", section 7.1). Pointers are byte addresses, counts and strides are elements. The caller owns every range.
//
// Each rule is there for one vector and for one element. Vectors are taken four at a time, a cache line, from addresses
// that are worked out once: what is left besides the rule itself is then less than two instructions a vector.
//
// Each returns the sum of squares of what it has taken from w, as float64: the sum of (m / (v + eps))^2, times alpha^2 in the
// end. To go on in float64 line by line would cost a third of the step, so squares are taken and added up in `T`, two instructions
// a vector, and widened once in `summedBytes`: of F32 that loses less than 70 * 2^-24 of the sum, about 4e-6. Squares
// that are too small for `T` count for nothing; where one is too large, the sum is taken again.

/** Bytes of rows that are on their way at a time: more than memory takes to answer, far less than the nearest cache holds. */
const seenBytes: usize = 4096;

/** What is added up in `T`'s own lanes at a time: 64 lines, so 64 additions to a lane. */
const summedBytes: usize = 4096;

/** m += (g - m) * omb1;  v = max(beta_2 * v, |g|);  w -= alpha * (m / (v + eps)) over `n` contiguous elements. */
@inline
export function dense<T extends number>(
  w: usize, m: usize, v: usize, g: usize, n: i32, alpha: T, omb1: T, beta2: T, eps: T,
): f64 {
  const end = g + <usize>n * sizeof<T>();
  const vectorsEnd = end - ((end - g) & 15);
  const linesEnd = end - ((end - g) & 63);
  const mAt = m;
  const vAt = v;
  const alphas = v128.splat<T>(alpha);
  const omb1s = v128.splat<T>(omb1);
  const beta2s = v128.splat<T>(beta2);
  const epsilons = v128.splat<T>(eps);
  let squares = f64x2.splat(0);
  while (g < linesEnd) {
    let some = v128.splat<T>(<T>0);
    for (const next = min(g + summedBytes, linesEnd); g < next; w += 64, m += 64, v += 64, g += 64) {
      const first = denseVector<T, First>(w, m, v, g, alphas, omb1s, beta2s, epsilons);
      const second = denseVector<T, Second>(w, m, v, g, alphas, omb1s, beta2s, epsilons);
      const third = denseVector<T, Third>(w, m, v, g, alphas, omb1s, beta2s, epsilons);
      const fourth = denseVector<T, Fourth>(w, m, v, g, alphas, omb1s, beta2s, epsilons);
      some = v128.add<T>(some, lineSquares<T>(first, second, third, fourth));
    }
    squares = f64x2.add(squares, widened<T>(some));
  }
  for (; g < vectorsEnd; w += 16, m += 16, v += 16, g += 16) {
    const quotient = denseVector<T, First>(w, m, v, g, alphas, omb1s, beta2s, epsilons);
    squares = f64x2.add(squares, widened<T>(v128.mul<T>(quotient, quotient)));
  }
  for (; g < end; w += sizeof<T>(), m += sizeof<T>(), v += sizeof<T>(), g += sizeof<T>()) {
    const gradient = load<T>(g);
    const old = load<T>(m);
    const mean = <T>(old + <T>(<T>(gradient - old) * omb1));
    const norm = larger<T>(<T>(beta2 * load<T>(v)), abs<T>(gradient));
    squares = f64x2.add(squares, finishElement<T>(w, m, v, mean, norm, alpha, eps));
  }
  const sum = inAll<T>(squares, alpha);
  return isFinite(sum) ? sum : exactSquares<T>(mAt, vAt, n, alpha, eps);
}

@inline
function denseVector<T extends number, At>(
  w: usize, m: usize, v: usize, g: usize, alpha: v128, omb1: v128, beta2: v128, eps: v128,
): v128 {
  const gradient = v128.load(g, offsetof<At>());
  const old = v128.load(m, offsetof<At>());
  const mean = v128.add<T>(old, v128.mul<T>(v128.sub<T>(gradient, old), omb1));
  const norm = v128.pmax<T>(v128.mul<T>(beta2, v128.load(v, offsetof<At>())), magnitude<T>(gradient));
  return finishVector<T, At>(w, m, v, mean, norm, alpha, eps);
}

/**
 * m = m * beta_1 + s * omb1;  v = max(v * beta_2, |s|);  w -= alpha * (m / (v + eps)) on `count` rows of `width` elements.
 * Row k of `sums` belongs to row `rows[k]` (i32) of the variable, whose rows lie `stride` elements apart; where that is -1,
 * to none. A sum starts at +0, so a -0 that stands alone is added to it here.
 *
 * Short rows anywhere in memory are not foreseen by the processor, which would wait for one after the other. So as many as
 * make up some kilobytes are looked at first, all at once, and worked on when they have come.
 */
@inline
export function sparse<T extends number>(
  w: usize, m: usize, v: usize, rows: usize, sums: usize, count: i32, width: i32, stride: i32,
  alpha: T, beta1: T, omb1: T, beta2: T, eps: T,
): f64 {
  const bytes = <usize>width * sizeof<T>();
  const strideBytes = <usize>stride * sizeof<T>();
  const together = max<usize>(1, seenBytes / bytes) << 2;
  const alphas = v128.splat<T>(alpha);
  const beta1s = v128.splat<T>(beta1);
  const omb1s = v128.splat<T>(omb1);
  const beta2s = v128.splat<T>(beta2);
  const epsilons = v128.splat<T>(eps);
  const end = rows + (<usize>count << 2);
  const rowsAt = rows;
  let squares = f64x2.splat(0);
  while (rows < end) {
    const next = min(rows + together, end);
    if (bytes <= seenBytes) {
      for (let row = rows; row < next; row += 4) {
        const at = <usize>load<u32>(row) * strideBytes;
        look(w + at, m + at, v + at, bytes);
      }
    }
    for (; rows < next; rows += 4, sums += bytes) {
      const at = <usize>load<u32>(rows) * strideBytes;
      squares = sparseRow<T>(
        w + at, m + at, v + at, sums, bytes, alpha, beta1, omb1, beta2, eps, alphas, beta1s, omb1s, beta2s, epsilons,
        squares,
      );
    }
  }
  let sum = inAll<T>(squares, alpha);
  if (isFinite(sum)) return sum;
  sum = 0;
  for (rows = rowsAt; rows < end; rows += 4) {
    const at = <usize>load<u32>(rows) * strideBytes;
    sum += exactSquares<T>(m + at, v + at, width, alpha, eps);
  }
  return sum;
}

/** Loads a byte of every line of a row. No compiler leaves that out, since a load may trap. */
@inline
function look(w: usize, m: usize, v: usize, bytes: usize): void {
  for (let i: usize = 0; i < bytes; i += 64) {
    load<u8>(w + i);
    load<u8>(m + i);
    load<u8>(v + i);
  }
}

/** Returns `squares`, in two lanes, with those of the row. */
@inline
function sparseRow<T extends number>(
  w: usize, m: usize, v: usize, s: usize, bytes: usize, alpha: T, beta1: T, omb1: T, beta2: T, eps: T,
  alphas: v128, beta1s: v128, omb1s: v128, beta2s: v128, epsilons: v128, squares: v128,
): v128 {
  const end = s + bytes;
  const vectorsEnd = end - (bytes & 15);
  const linesEnd = end - (bytes & 63);
  while (s < linesEnd) {
    let some = v128.splat<T>(<T>0);
    for (const next = min(s + summedBytes, linesEnd); s < next; w += 64, m += 64, v += 64, s += 64) {
      const first = sparseVector<T, First>(w, m, v, s, alphas, beta1s, omb1s, beta2s, epsilons);
      const second = sparseVector<T, Second>(w, m, v, s, alphas, beta1s, omb1s, beta2s, epsilons);
      const third = sparseVector<T, Third>(w, m, v, s, alphas, beta1s, omb1s, beta2s, epsilons);
      const fourth = sparseVector<T, Fourth>(w, m, v, s, alphas, beta1s, omb1s, beta2s, epsilons);
      some = v128.add<T>(some, lineSquares<T>(first, second, third, fourth));
    }
    squares = f64x2.add(squares, widened<T>(some));
  }
  for (; s < vectorsEnd; w += 16, m += 16, v += 16, s += 16) {
    const quotient = sparseVector<T, First>(w, m, v, s, alphas, beta1s, omb1s, beta2s, epsilons);
    squares = f64x2.add(squares, widened<T>(v128.mul<T>(quotient, quotient)));
  }
  for (; s < end; w += sizeof<T>(), m += sizeof<T>(), v += sizeof<T>(), s += sizeof<T>()) {
    const sum = <T>(load<T>(s) + <T>0);
    const mean = <T>(<T>(load<T>(m) * beta1) + <T>(sum * omb1));
    const norm = larger<T>(<T>(load<T>(v) * beta2), abs<T>(sum));
    squares = f64x2.add(squares, finishElement<T>(w, m, v, mean, norm, alpha, eps));
  }
  return squares;
}

@inline
function sparseVector<T extends number, At>(
  w: usize, m: usize, v: usize, s: usize, alpha: v128, beta1: v128, omb1: v128, beta2: v128, eps: v128,
): v128 {
  const sum = v128.add<T>(v128.load(s, offsetof<At>()), v128.splat<T>(<T>0));
  const mean = v128.add<T>(v128.mul<T>(v128.load(m, offsetof<At>()), beta1), v128.mul<T>(sum, omb1));
  const norm = v128.pmax<T>(v128.mul<T>(v128.load(v, offsetof<At>()), beta2), magnitude<T>(sum));
  return finishVector<T, At>(w, m, v, mean, norm, alpha, eps);
}

@inline
function finishVector<T extends number, At>(
  w: usize, m: usize, v: usize, mean: v128, norm: v128, alpha: v128, eps: v128,
): v128 {
  v128.store(m, mean, offsetof<At>());
  v128.store(v, norm, offsetof<At>());
  const quotient = v128.div<T>(mean, v128.add<T>(norm, eps));
  v128.store(w, v128.sub<T>(v128.load(w, offsetof<At>()), v128.mul<T>(alpha, quotient)), offsetof<At>());
  return quotient;
}

/** The end of both rules for one element. Gives the square of the quotient in the first of two lanes. */
@inline
function finishElement<T extends number>(w: usize, m: usize, v: usize, mean: T, norm: T, alpha: T, eps: T): v128 {
  store<T>(m, mean);
  store<T>(v, norm);
  const quotient = <T>(mean / <T>(norm + eps));
  store<T>(w, <T>(load<T>(w) - <T>(alpha * quotient)));
  return f64x2.replace_lane(f64x2.splat(0), 0, <f64>quotient * <f64>quotient);
}

@inline
function lineSquares<T extends number>(first: v128, second: v128, third: v128, fourth: v128): v128 {
  const low = v128.add<T>(v128.mul<T>(first, first), v128.mul<T>(second, second));
  const high = v128.add<T>(v128.mul<T>(third, third), v128.mul<T>(fourth, fourth));
  return v128.add<T>(low, high);
}

/** The lanes added up to two of float64. */
@inline
function widened<T extends number>(x: v128): v128 {
  if (sizeof<T>() == 8) return x;
  return f64x2.add(f64x2.promote_low_f32x4(x), f64x2.promote_low_f32x4(v128.shuffle<u64>(x, x, 1, 0)));
}

/** The squares of the quotients become those of the changes; alpha^2 by itself might be too small a number. */
@inline
function inAll<T extends number>(squares: v128, alpha: T): f64 {
  return (f64x2.extract_lane(squares, 0) + f64x2.extract_lane(squares, 1)) * <f64>alpha * <f64>alpha;
}

/** Where a square was too large for `T`: the same sum once more, change by change, from m and v as they are now. */
function exactSquares<T extends number>(m: usize, v: usize, n: i32, alpha: T, eps: T): f64 {
  let sum: f64 = 0;
  for (const end = m + <usize>n * sizeof<T>(); m < end; m += sizeof<T>(), v += sizeof<T>()) {
    const change = <f64><T>(alpha * <T>(load<T>(m) / <T>(load<T>(v) + eps)));
    sum += change * change;
  }
  return sum;
}

/** |x|. `v128.abs` would make its mask anew each time, from three instructions. */
@inline
function magnitude<T extends number>(x: v128): v128 {
  return v128.and(x, sizeof<T>() == 4 ? i32x4.splat(0x7fffffff) : i64x2.splat(0x7fffffffffffffff));
}

/** The scalar twin of `pmax`: `a` where it is NaN, so that a NaN in `v` stays. */
@inline
function larger<T extends number>(a: T, b: T): T {
  return a < b ? b : a;
}

// The places of the four vectors of a line, as types, since a compiler wants to know an offset when it meets it.
@unmanaged class First {}
@unmanaged class Second { before: v128; }
@unmanaged class Third { before: v128; then: v128; }
@unmanaged class Fourth { before: v128; then: v128; andThen: v128; }
