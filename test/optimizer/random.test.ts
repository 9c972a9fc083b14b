/**
 * Philox against Random123's known answers, the variates against arithmetic in Python's integers and floats, and their
 * distributions with fixed seeds.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { fillNormal, fillTruncatedNormal, fillUniform, normalAt, philox } from '../../src/optimizer/random.ts';

const ones = 0xffffffff;

/** From Random123's file kat_vectors, lines "philox4x32 10". */
const knownAnswers: [[number, number], [number, number, number, number], number[]][] = [
  [
    [0, 0],
    [0, 0, 0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [ones, ones],
    [ones, ones, ones, ones],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0xa4093822, 0x299f31d0],
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
];

/**
 * Blocks of words worked out with Python's unbounded integers, by a Philox that gives the known answers above; the key is
 * seed mod 2^64 and the counter (block mod 2^32, floor(block / 2^32), attempt 0, 0).
 */
const blocks = [
  { seed: 7, block: 0, words: [0xf4607a2d, 0xc009f9dc, 0x1d3aba42, 0x15edac82] },
  { seed: -7, block: 0, words: [0x1b5e58c0, 0x1be349d7, 0xffc5e4bc, 0x2a33abd3] },
  { seed: 2 ** 53 - 1, block: 2 ** 33, words: [0xe8c617b7, 0xf6446aed, 0xf3fc7c99, 0x309a6b21] },
  { seed: 0x123456789, block: 5, words: [0x025c371e, 0xb0ce0326, 0xe3b20695, 0x0bcda344] },
] as const;

/**
 * Standard normals: `bits` by the same sums and products in Python's floats, `exact` by Python's decimal module with 50
 * digits from sqrt(-2 ln(1 - u)) cos(2 pi v), or sin for odd counters, over the blocks' 53-bit uniforms u and v.
 */
const normals = [
  { seed: 7, counter: 0, bits: 1.8738797063495785, exact: 1.8738797063495782 },
  { seed: 7, counter: 1, bits: 1.6349112216522235, exact: 1.6349112216522237 },
  { seed: -7, counter: 2 ** 53 - 1, bits: 0.05089625504148434, exact: 0.05089625504148434 },
  { seed: 2 ** 53 - 1, counter: 12345678901, bits: -1.1057107973478137, exact: -1.105710797347814 },
  { seed: 0, counter: 4, bits: 0.12542508244128925, exact: 0.12542508244128925 },
  { seed: 7, counter: 123, bits: 3.1855966516383147, exact: 3.1855966516383147 },
  { seed: 7, counter: 137, bits: 2.0470139200856217, exact: 2.047013920085622 },
];

test('philox gives the known answers of Random123', () => {
  for (const [key, counter, answer] of knownAnswers) {
    const out = new Uint32Array(4);
    philox(key, counter, out);
    assert.deepEqual([...out], answer);
  }
});

test('float32 uniforms are the upper 24 bits of each word of a block', () => {
  for (const { seed, block, words } of blocks) {
    const out = new Float32Array(4);
    fillUniform(seed, 4 * block, 0, 1, out);
    assert.deepEqual(
      [...out],
      words.map((word) => Math.floor(word / 256) / 2 ** 24),
    );
  }
});

test('float64 uniforms are 27 bits of one word above 26 of the next', () => {
  for (const { seed, block, words } of blocks) {
    const out = new Float64Array(2);
    fillUniform(seed, 2 * block, 0, 1, out);
    const fraction = (high: number, low: number): number =>
      Number((BigInt(high) >> 5n) * 2n ** 26n + (BigInt(low) >> 6n)) / 2 ** 53;
    assert.deepEqual([...out], [fraction(words[0], words[1]), fraction(words[2], words[3])]);
  }
});

test('normals have the same bits as the same arithmetic in another language', () => {
  for (const { seed, counter, bits } of normals) assert.equal(normalAt(seed, counter), bits);
});

test('10,000 normals have the same bits as the same arithmetic in another language', () => {
  const bytes = Buffer.alloc(80_000);
  for (let counter = 0; counter < 10_000; counter += 1) bytes.writeDoubleLE(normalAt(5, counter), 8 * counter);
  // hashlib.sha256 of what Python's floats give, packed as struct's "<d", for seed 5 and counters 0 to 9,999.
  assert.equal(
    createHash('sha256').update(bytes).digest('hex'),
    '52611cdec04dce2222fcd031e02249bf1e6232516b84ed376a08df7fd3896cb2',
  );
});

test("normals are within 2 units in the last place of Box and Muller's transform", () => {
  for (const { seed, counter, exact } of normals) {
    assert.ok(Math.abs(normalAt(seed, counter) - exact) <= 2 * 2 ** -52 * Math.abs(exact), `${seed}, ${counter}`);
  }
});

test('normals need no function whose last bits ECMAScript leaves to the implementation', (t) => {
  for (const name of ['log', 'log2', 'log1p', 'exp', 'pow', 'cos', 'sin', 'tan', 'hypot', 'random'] as const)
    t.mock.method(Math, name, () => assert.fail(`Math.${name} was called`));
  for (const { seed, counter, bits } of normals) assert.equal(normalAt(seed, counter), bits);
});

test('a normal beyond two standard deviations is drawn again from the next attempt at its position', () => {
  const out = new Float64Array(138);
  fillTruncatedNormal(7, 0, 0, 1, out);
  // In Python as above: attempt 1 at 52 and 123; at 137, where attempt 1 gives -2.135979179714388, attempt 2; 136 needs none.
  assert.equal(out[52], 0.5874561707924465);
  assert.equal(out[123], -0.9902722875891891);
  assert.equal(out[137], 1.39001540717157);
  assert.equal(out[136], normalAt(7, 136));
});

test('an element does not depend on where a fill starts or ends', () => {
  for (const Values of [Float32Array, Float64Array]) {
    for (const fill of [fillUniform, fillNormal, fillTruncatedNormal]) {
      const whole = new Values(200);
      fill(7, 1_000, -1, 3, whole);
      for (const [start, end] of [
        [0, 1],
        [1, 2],
        [2, 3],
        [3, 9],
        [5, 6],
        [7, 200],
        [150, 152],
        [200, 200],
      ] as const) {
        const part = new Values(end - start);
        fill(7, 1_000 + start, -1, 3, part);
        assert.deepEqual(part, whole.slice(start, end), `${fill.name} from ${start} to ${end}`);
      }
    }
  }
});

test('scaled normals are mean + stddev * normalAt, rounded once', () => {
  const out = new Float32Array(5);
  fillNormal(-7, 3, 10, 0.5, out);
  assert.deepEqual(
    [...out],
    [3, 4, 5, 6, 7].map((counter) => Math.fround(10 + 0.5 * normalAt(-7, counter))),
  );
});

test('seeds that differ in sign or in their upper bits give different numbers', () => {
  const seeds = [7, -7, 7 + 2 ** 32, 7 - 2 ** 32, 7 + 2 ** 52];
  assert.equal(new Set(seeds.map((seed) => normalAt(seed, 0))).size, seeds.length);
});

test('counters that differ in their upper bits alone give different numbers', () => {
  assert.notEqual(normalAt(7, 2 ** 33), normalAt(7, 0));
});

/**
 * Of n values: their mean, mean square about `mean`, and mean product of neighbours must lie within five standard errors,
 * which are sqrt(variance / n), sqrt((fourth - variance^2) / n) and variance / sqrt(n), `fourth` being the fourth moment.
 */
function assertMoments(values: Float32Array | Float64Array, mean: number, variance: number, fourth: number): void {
  const n = values.length;
  const deviations = Array.from(values, (value) => value - mean);
  const average = (terms: number[]): number => terms.reduce((sum, term) => sum + term, 0) / n;
  const near = (actual: number, expected: number, variation: number, what: string): void =>
    assert.ok(Math.abs(actual - expected) < 5 * Math.sqrt(variation / n), `${what}: ${actual}, not ${expected}`);
  near(average(deviations), 0, variance, 'mean');
  near(average(deviations.map((deviation) => deviation ** 2)), variance, fourth - variance ** 2, 'variance');
  near(
    average(deviations.map((deviation, index) => deviation * (deviations[index - 1] ?? 0))),
    0,
    variance ** 2,
    'lag',
  );
}

function bounds(values: Float32Array | Float64Array): { least: number; greatest: number } {
  const sorted = values.toSorted();
  return { least: sorted[0] as number, greatest: sorted.at(-1) as number };
}

for (const Values of [Float32Array, Float64Array]) {
  test(`uniforms in a ${Values.name} have the moments and bounds of the uniform distribution`, () => {
    const values = new Values(100_000);
    fillUniform(1, 0, 0, 1, values);
    assertMoments(values, 1 / 2, 1 / 12, 1 / 80);
    // 100,000 values leave a gap of 0.0005 at an end with probability e^-50.
    const { least, greatest } = bounds(values);
    assert.ok(least >= 0 && least < 0.0005 && greatest > 0.9995 && greatest < 1, `${least} to ${greatest}`);
  });

  test(`normals in a ${Values.name} have the moments and quantiles of the normal distribution`, () => {
    const values = new Values(100_000);
    fillNormal(1, 0, 0, 1, values);
    assertMoments(values, 0, 1, 3);
    // P(z < q) from a table; the share of n values has the standard error sqrt(p (1 - p) / n).
    for (const [q, p] of [
      [-2, 0.02275],
      [-1, 0.158655],
      [0, 0.5],
      [1, 0.841345],
      [2, 0.97725],
    ] as const) {
      const share = values.filter((value) => value < q).length / values.length;
      assert.ok(Math.abs(share - p) < 5 * Math.sqrt((p * (1 - p)) / values.length), `below ${q}: ${share}`);
    }
  });

  test(`truncated normals in a ${Values.name} have that distribution's moments and stay within ±2`, () => {
    const values = new Values(100_000);
    fillTruncatedNormal(1, 0, 0, 1, values);
    // With f the normal density and Z = P(|z| < 2) = 0.9544997: E z^2 = 1 - 4 f(2) / Z and E z^4 = 3 E z^2 - 16 f(2) / Z.
    const density = Math.exp(-2) / Math.sqrt(2 * Math.PI);
    const variance = 1 - (4 * density) / 0.9544997;
    assertMoments(values, 0, variance, 3 * variance - (16 * density) / 0.9544997);
    const { least, greatest } = bounds(values);
    const furthest = Math.max(-least, greatest);
    // A value lies beyond 1.99 with probability 2 * 0.01 * f(2) / Z = 0.0011: 100,000 have one but for e^-113.
    assert.ok(furthest <= 2 && furthest > 1.99, String(furthest));
  });
}
