/**
 * Random numbers as pure functions of a seed and a position, the same on every machine: Philox 4x32-10 (Salmon et al.,
 * "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turned into uniform and, by Box and Muller's transform, normal
 * variates. ECMAScript leaves the last bits of Math.log, Math.cos and Math.sin to the implementation, so normals are made
 * with + - * / and Math.sqrt alone, which IEEE 754 rounds in one way only. What the numbers are for is up to others.
 */

type Words = readonly [number, number, number, number];

/** Scratch, so that a draw allocates nothing: the words of the last block drawn, and the normals made of them. */
const words = new Uint32Array(4);
const pair = new Float64Array(2);

/**
 * The four 32-bit words that Philox 4x32-10 gives for `counter` under `key`, written to `out`.
 * All words are unsigned, least significant first.
 */
export function philox(key: readonly [number, number], counter: Words, out: Uint32Array): void {
  // `| 0` keeps every word a 32-bit integer for the compiler.
  let k0 = key[0] | 0;
  let k1 = key[1] | 0;
  let c0 = counter[0] | 0;
  let c1 = counter[1] | 0;
  let c2 = counter[2] | 0;
  let c3 = counter[3] | 0;
  for (let round = 0; round < 10; round += 1) {
    const high0 = multiplyHigh(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0);
    const high1 = multiplyHigh(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** The upper 32 bits of the unsigned product a * b, in 16-bit halves whose products and sums stay below 2^32. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const lowHigh = (Math.imul(aLow, bHigh) + (Math.imul(aLow, bLow) >>> 16)) | 0;
  const highLow = (Math.imul(aHigh, bLow) + (lowHigh & 0xffff)) | 0;
  return (Math.imul(aHigh, bHigh) + (lowHigh >>> 16) + (highLow >>> 16)) | 0;
}

/**
 * Elements `first`, `first` + 1, … of the seed's uniform stream over [minval, maxval), as many as `out` holds. The variates
 * on [0, 1) are multiples of 2^-24 for a Float32Array and of 2^-53 for a Float64Array; once scaled, in float64, and rounded,
 * one of them may be `maxval` itself.
 */
export function fillUniform(
  seed: number,
  first: number,
  minval: number,
  maxval: number,
  out: Float32Array | Float64Array,
): void {
  const key = keyOf(seed);
  const perBlock = out instanceof Float32Array ? 4 : 2;
  const lane = first % perBlock;
  let block = (first - lane) / perBlock;
  for (let start = -lane; start < out.length; start += perBlock) {
    draw(key, block, 0);
    block += 1;
    const end = Math.min(start + perBlock, out.length);
    for (let index = Math.max(start, 0); index < end; index += 1) {
      const uniform = perBlock === 4 ? uniform24(index - start) : uniform53(index - start);
      out[index] = minval + (maxval - minval) * uniform;
    }
  }
}

/** Elements `first`, `first` + 1, … of the seed's normal stream, as many as `out` holds: mean + stddev * `normalAt`. */
export function fillNormal(
  seed: number,
  first: number,
  mean: number,
  stddev: number,
  out: Float32Array | Float64Array,
): void {
  fillNormalWithin(Number.POSITIVE_INFINITY, seed, first, mean, stddev, out);
}

/**
 * As `fillNormal`, but a normal beyond two standard deviations is drawn again, from the same position of the next attempt,
 * until it lies within.
 */
export function fillTruncatedNormal(
  seed: number,
  first: number,
  mean: number,
  stddev: number,
  out: Float32Array | Float64Array,
): void {
  fillNormalWithin(2, seed, first, mean, stddev, out);
}

function fillNormalWithin(
  bound: number,
  seed: number,
  first: number,
  mean: number,
  stddev: number,
  out: Float32Array | Float64Array,
): void {
  const key = keyOf(seed);
  const lane = first % 2;
  let block = (first - lane) / 2;
  for (let start = -lane; start < out.length; start += 2) {
    drawNormals(key, block, 0);
    let even = pair[0] as number;
    let odd = pair[1] as number;
    for (let attempt = 1; Math.abs(even) > bound; attempt += 1) {
      drawNormals(key, block, attempt);
      even = pair[0] as number;
    }
    for (let attempt = 1; Math.abs(odd) > bound; attempt += 1) {
      drawNormals(key, block, attempt);
      odd = pair[1] as number;
    }
    if (start >= 0) out[start] = mean + stddev * even;
    if (start + 1 < out.length) out[start + 1] = mean + stddev * odd;
    block += 1;
  }
}

/**
 * Element `counter` of the seed's standard normal stream, float64. `seed` is an integer within ±(2^53 - 1), `counter` one
 * from 0 to 2^53 - 1. No value lies beyond ±8.58, where 53-bit uniforms end.
 */
export function normalAt(seed: number, counter: number): number {
  const lane = counter % 2;
  drawNormals(keyOf(seed), (counter - lane) / 2, 0);
  return pair[lane] as number;
}

/** The seed as 64 bits in two's complement. */
function keyOf(seed: number): [number, number] {
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
}

/** Fills `words`. */
function draw(key: readonly [number, number], block: number, attempt: number): void {
  philox(key, [block >>> 0, Math.floor(block / 2 ** 32), attempt, 0], words);
}

function uniform24(lane: number): number {
  return ((words[lane] as number) >>> 8) * 2 ** -24;
}

function uniform53(lane: number): number {
  const high = (words[2 * lane] as number) >>> 5;
  const low = (words[2 * lane + 1] as number) >>> 6;
  return (high * 2 ** 26 + low) * 2 ** -53;
}

/** Fills `pair` by Box and Muller's transform of two uniforms: sqrt(-2 ln u) times the cosine and the sine of 2 pi v. */
function drawNormals(key: readonly [number, number], block: number, attempt: number): void {
  draw(key, block, attempt);
  // 1 - u is exact and, unlike u, never 0.
  const radius = Math.sqrt(-2 * logarithm(1 - uniform53(0)));
  const turn = uniform53(1);
  // To the nearest quarter turn and an angle within pi/4 of it, where the series are short.
  const quarters = Math.floor(4 * turn + 0.5);
  const angle = 2 * Math.PI * (turn - quarters / 4);
  const square = angle * angle;
  const cosine = radius * polynomial(cosineSeries, square);
  const sine = radius * angle * polynomial(sineSeries, square);
  const quadrant = quarters % 4;
  const swapped = quadrant % 2 === 1;
  pair[0] = (quadrant === 1 || quadrant === 2 ? -1 : 1) * (swapped ? sine : cosine);
  pair[1] = (quadrant === 2 || quadrant === 3 ? -1 : 1) * (swapped ? cosine : sine);
}

/** ln x for 0 < x <= 1: with x = m * 2^-e and m in [0.7, 1.4), 2 artanh((m - 1) / (m + 1)) - e ln 2. */
function logarithm(x: number): number {
  let mantissa = x;
  let exponent = 0;
  while (mantissa < 0.7) {
    mantissa *= 2;
    exponent += 1;
  }
  const ratio = (mantissa - 1) / (mantissa + 1);
  return 2 * ratio * polynomial(artanhSeries, ratio * ratio) - exponent * Math.LN2;
}

/** Taylor series in the square of the argument, highest power first, cut where a term is below 2^-53 of the sum. */
const artanhSeries = [1 / 21, 1 / 19, 1 / 17, 1 / 15, 1 / 13, 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1];
const sineSeries = [17, 15, 13, 11, 9, 7, 5, 3, 1].map(taylor);
const cosineSeries = [18, 16, 14, 12, 10, 8, 6, 4, 2, 0].map(taylor);

/** (-1)^floor(n/2) / n!, exact but for the division: 18! is below 2^53. */
function taylor(n: number): number {
  let factorial = 1;
  for (let factor = 2; factor <= n; factor += 1) factorial *= factor;
  return (n % 4 < 2 ? 1 : -1) / factorial;
}

function polynomial(coefficients: readonly number[], x: number): number {
  let sum = 0;
  for (let index = 0; index < coefficients.length; index += 1) sum = sum * x + (coefficients[index] as number);
  return sum;
}
