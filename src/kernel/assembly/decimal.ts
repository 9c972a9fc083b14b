// F32 as JSON text: the fewest decimal digits that lie nearer to the value than to its neighbours and, of those, the nearest
// to it. Written as JavaScript writes a number (ECMA-262, Number::toString), but for -0, which keeps its sign.
//
// A positive value c * 2^q stands for all numbers between the midpoints to its neighbours (4c - 2) * 2^(q-2), or (4c - 1) *
// 2^(q-2) where the lower neighbour has a smaller exponent, and (4c + 2) * 2^(q-2); for even c also for the midpoints. With
// 10^k <= the width of that interval < 10^(k+1) it holds at most one multiple of 10^(k+1), which is then the shortest, and
// at least one of 10^k (Giulietti, "The Schubfach way to render doubles", 2020). In quarters of 10^k, (4c + d) * 2^(q-2) is
// (4c + d) * 2^q * 10^-k: less than 2^30, and 64 bits of 10^-k tell where among the integers it lies.

/** The least k that there is: of the smallest subnormals. */
const kMin: i32 = -45;

/**
 * The bits of the only F32 whose shortest digits, 7.038531e-26, are read as another one by way of float64: there they round to
 * the midpoint to its upper neighbour, which is the even one. It gets a digit more.
 */
const twiceRounded: u32 = 0x15ae43fd;

/**
 * Writes `n` finite values, each followed by a comma, and returns the address behind the last comma. A value takes at most
 * 23 bytes with its comma; up to 32 bytes more are overwritten. `powers`: 10^-k for k from -45 to 31, of each the first 64
 * significant bits, rounded up.
 */
export function decimalsF32(from: usize, n: i32, powers: usize, to: usize): usize {
  const end = from + (<usize>n << 2);
  for (; from < end; from += 4) {
    const bits = load<u32>(from);
    store<u8>(to, 0x2d); // -
    to += bits >> 31;
    const magnitude = bits & 0x7fffffff;
    if (magnitude == 0) store<u8>(to++, 0x30); // 0
    else to = writeShortest(magnitude, powers, to);
    store<u8>(to++, 0x2c); // ,
  }
  return to;
}

@inline
function writeShortest(magnitude: u32, powers: usize, to: usize): usize {
  const field = <i32>(magnitude >> 23);
  const fraction = magnitude & 0x7fffff;
  const c = field == 0 ? fraction : fraction | 0x800000;
  const q = max<i32>(field, 1) - 150;
  const odd = c & 1;
  const uneven = <u32>(fraction == 0 && field > 1);
  // floor(log10(width)), of a width of 2^q or 3/4 of that; then floor(log2(10^-k)). The factors are exact enough for all q.
  const k = (q * 315653 - <i32>(uneven * 131008)) >> 20;
  const shift = 1 + q + ((-k * 1741647) >> 19);
  const power = load<u64>(powers + (<usize>(k - kMin) << 3));
  const value = quarters(c << 2, shift, power);
  const low = quarters((c << 2) - 2 + uneven, shift, power) + odd;
  const high = quarters((c << 2) + 2, shift, power) - odd;
  const ones = value >> 2;
  const tens = ones / 10;
  const lowerTen = low <= tens * 40;
  const isTen = (lowerTen | (tens * 40 + 40 <= high)) & (magnitude != twiceRounded);
  // Of the two multiples of 10^k about the value one or both are in the interval; midway between them the even one counts.
  const rest = value & 3;
  const nearer = rest + (ones & 1) > 2;
  const up = (low > ones << 2) | (nearer & ((ones << 2) + 4 <= high));
  return writeDecimal(select<u32>(tens + <u32>!lowerTen, ones + <u32>up, isTen), k + <i32>isTen, to);
}

/** `m` * 2^q * 10^-k, rounded to odd: an inexact result gets an odd last bit, so that it compares with any even number. */
@inline
function quarters(m: u32, shift: i32, power: u64): u32 {
  const factor = <u64>m << shift;
  const product = factor * (power >> 32) + ((factor * (power & 0xffffffff)) >> 32);
  return <u32>(product >> 32) | <u32>(<u32>product != 0);
}

/** Writes `digits` * 10^exponent, where `digits` has one to nine digits, some of them perhaps zeros at the end. */
@inline
function writeDecimal(digits: u32, exponent: i32, to: usize): usize {
  const padded = i64x2.replace_lane(i64x2.splat(<i64>(digits / 100000000) << 56), 1, eightDigits(digits % 100000000));
  const used = i8x16.bitmask(i8x16.ne(padded, i8x16.splat(0)));
  const first = ctz(used);
  const length = 32 - first - clz(used);
  /** Where the point is, behind so many digits. */
  const point = 16 - first + exponent;
  const text = shiftedText(padded, first);
  if (point > 0 && point <= 21) {
    v128.store(to, text);
    if (length <= point) {
      v128.store(to, i8x16.splat(0x30), 16);
      return to + point;
    }
    const behind = to + point;
    store<u8>(behind, 0x2e); // .
    v128.store(behind, shiftedText(padded, first + point), 1);
    return to + length + 1;
  }
  if (point <= 0 && point > -6) {
    store<u64>(to, 0x3030303030302e30); // 0.000000
    v128.store(to - point, text, 2);
    return to + 2 - point + length;
  }
  v128.store(to, text, 1);
  store<u8>(to, <u8>i8x16.extract_lane_u(text, 0));
  store<u8>(to, 0x2e, 1); // .
  to += length > 1 ? length + 1 : 1;
  return writeExponent(point - 1, to);
}

/** `e`, a sign, and one or two digits. */
@inline
function writeExponent(exponent: i32, to: usize): usize {
  store<u8>(to, 0x65);
  store<u8>(to, exponent < 0 ? 0x2d : 0x2b, 1);
  const magnitude = <u32>abs<i32>(exponent);
  const tens = magnitude / 10;
  store<u8>(to, <u8>(0x30 + tens), 2);
  to += <usize>(tens > 0);
  store<u8>(to, <u8>(0x30 + magnitude - tens * 10), 2);
  return to + 3;
}

/** Digits from number `first` on as text, and zeros behind the last. */
@inline
function shiftedText(digits: v128, first: i32): v128 {
  const places = i8x16.add(i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), i8x16.splat(<i8>first));
  return i8x16.add(i8x16.swizzle(digits, places), i8x16.splat(0x30));
}

/** A number below 10^8 as eight digits, a byte each, the first one in the lowest: cut in halves three times. */
@inline
function eightDigits(value: u32): u64 {
  const high = value / 10000;
  const fours = <u64>high | (<u64>(value - high * 10000) << 32);
  const hundreds = ((fours * 5243) >> 19) & 0x0000007f0000007f;
  const twos = hundreds | ((fours - hundreds * 100) << 16);
  const tens = ((twos * 103) >> 10) & 0x000f000f000f000f;
  return tens | ((twos - tens * 10) << 8);
}
