/**
 * Powers for the bias correction 1 - beta_1^t in float64. ECMAScript leaves the last bit of Math.pow to the engine (V8's is
 * off in one of eleven such powers, and 1 - beta_1^t magnifies it), while a session must give the same bits everywhere, and
 * TensorFlow's. So powers are made of + - * alone, in pairs of float64 whose sum carries about 106 bits (T. J. Dekker,
 * "A floating-point technique for extending the available precision", 1971).
 */

/**
 * base^exponent to the nearest float64, unless it is within exponent * 2^-48 ulp of a tie, or below 2^-900, where the low
 * parts underflow. `base` is in [0, 1), `exponent` an integer of at least 0.
 */
export function integerPower(base: number, exponent: number): number {
  const result = new Pair(1, 0);
  const square = new Pair(base, 0);
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result.multiplyBy(square);
    square.multiplyBy(square);
  }
  return result.high;
}

/** A number as the sum of two; the high part is that sum, rounded. */
class Pair {
  high: number;
  low: number;

  constructor(high: number, low: number) {
    this.high = high;
    this.low = low;
  }

  multiplyBy({ high, low }: Pair): void {
    const product = this.high * high;
    const rest = roundingError(this.high, high, product) + (this.high * low + this.low * high);
    this.high = product + rest;
    this.low = rest - (this.high - product);
  }
}

/** a * b - product, exact: the halves of 26 bits multiply without rounding. */
function roundingError(a: number, b: number, product: number): number {
  const a1 = highHalf(a);
  const b1 = highHalf(b);
  const a2 = a - a1;
  const b2 = b - b1;
  return a2 * b2 - (product - a1 * b1 - a2 * b1 - a1 * b2);
}

function highHalf(x: number): number {
  const scaled = x * (2 ** 27 + 1);
  return scaled - (scaled - x);
}
