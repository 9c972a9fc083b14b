/**
 * Powers for the bias correction 1 - beta_1^t in float64. ECMAScript leaves the last bit of Math.pow to the engine (V8's is
 * off in one of eleven such powers, and 1 - beta_1^t magnifies it), while a session must give the same bits everywhere, and
 * TensorFlow's. So powers are made of + - * alone, in pairs of float64 whose sum carries about 106 bits (T. J. Dekker,
 * "A floating-point technique for extending the available precision", 1971).
 */

/** High part and low part; the high part is their sum, rounded. */
type Pair = readonly [number, number];

/**
 * base^exponent to the nearest float64, unless it is within exponent * 2^-48 ulp of a tie, or below 2^-900, where the low
 * parts underflow. `base` is in [0, 1), `exponent` an integer of at least 0.
 */
export function integerPower(base: number, exponent: number): number {
  let result: Pair = [1, 0];
  let square: Pair = [base, 0];
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = multiply(result, square);
    square = multiply(square, square);
  }
  return result[0];
}

function multiply([aHigh, aLow]: Pair, [bHigh, bLow]: Pair): Pair {
  const product = aHigh * bHigh;
  const rest = roundingError(aHigh, bHigh, product) + (aHigh * bLow + aLow * bHigh);
  const high = product + rest;
  return [high, rest - (high - product)];
}

/** a * b - product, exact: the halves of 26 bits multiply without rounding. */
function roundingError(a: number, b: number, product: number): number {
  const [a1, a2] = halves(a);
  const [b1, b2] = halves(b);
  return a2 * b2 - (product - a1 * b1 - a2 * b1 - a1 * b2);
}

function halves(x: number): Pair {
  const scaled = x * (2 ** 27 + 1);
  const high = scaled - (scaled - x);
  return [high, x - high];
}
