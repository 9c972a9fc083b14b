// Conversions between the dtypes that travel (F16, BF16, F32, F64) and those that variables have (F32, F64), each value
// rounded once, to nearest even. A NaN stays a NaN.
//
// Each takes eight elements at a time, as vectors, and what is left one by one, in the same way.

export function f16ToF32(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 1);
  for (const last = end - (end - from & 15); from < last; from += 16, to += 32) {
    v128.store(to, halvesToFloats(v128.load16x4_u(from)));
    v128.store(to, halvesToFloats(v128.load16x4_u(from, 8)), 16);
  }
  for (; from < end; from += 2, to += 4) store<f32>(to, halfToFloat(load<u16>(from)));
}

export function f16ToF64(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 1);
  for (const last = end - (end - from & 15); from < last; from += 16, to += 64) {
    storePromoted(to, halvesToFloats(v128.load16x4_u(from)));
    storePromoted(to + 32, halvesToFloats(v128.load16x4_u(from, 8)));
  }
  for (; from < end; from += 2, to += 8) store<f64>(to, <f64>halfToFloat(load<u16>(from)));
}

export function bf16ToF32(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 1);
  for (const last = end - (end - from & 15); from < last; from += 16, to += 32) {
    v128.store(to, i32x4.shl(v128.load16x4_u(from), 16));
    v128.store(to, i32x4.shl(v128.load16x4_u(from, 8), 16), 16);
  }
  for (; from < end; from += 2, to += 4) store<u32>(to, <u32>load<u16>(from) << 16);
}

export function bf16ToF64(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 1);
  for (const last = end - (end - from & 15); from < last; from += 16, to += 64) {
    storePromoted(to, i32x4.shl(v128.load16x4_u(from), 16));
    storePromoted(to + 32, i32x4.shl(v128.load16x4_u(from, 8), 16));
  }
  for (; from < end; from += 2, to += 8) store<f64>(to, <f64>reinterpret<f32>(<u32>load<u16>(from) << 16));
}

export function f32ToF64(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 2);
  for (const last = end - (end - from & 31); from < last; from += 32, to += 64) {
    storePromoted(to, v128.load(from));
    storePromoted(to + 32, v128.load(from, 16));
  }
  for (; from < end; from += 4, to += 8) store<f64>(to, <f64>load<f32>(from));
}

export function f64ToF32(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 3);
  for (const last = end - (end - from & 63); from < last; from += 64, to += 32) {
    v128.store(to, demoted(v128.load(from), v128.load(from, 16)));
    v128.store(to, demoted(v128.load(from, 32), v128.load(from, 48)), 16);
  }
  for (; from < end; from += 8, to += 4) store<f32>(to, <f32>load<f64>(from));
}

export function f32ToF16(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 2);
  for (const last = end - (end - from & 31); from < last; from += 32, to += 16) {
    v128.store(to, i16x8.narrow_i32x4_u(floatsToHalves(v128.load(from)), floatsToHalves(v128.load(from, 16))));
  }
  for (; from < end; from += 4, to += 2) store<u16>(to, floatToHalf(load<u32>(from)));
}

export function f32ToBf16(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 2);
  for (const last = end - (end - from & 31); from < last; from += 32, to += 16) {
    v128.store(to, i16x8.narrow_i32x4_u(floatsToBrains(v128.load(from)), floatsToBrains(v128.load(from, 16))));
  }
  for (; from < end; from += 4, to += 2) store<u16>(to, floatToBrain(load<u32>(from)));
}

export function f64ToF16(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 3);
  for (const last = end - (end - from & 63); from < last; from += 64, to += 16) {
    const low = floatsToHalves(demotedToOdd(v128.load(from), v128.load(from, 16)));
    const high = floatsToHalves(demotedToOdd(v128.load(from, 32), v128.load(from, 48)));
    v128.store(to, i16x8.narrow_i32x4_u(low, high));
  }
  for (; from < end; from += 8, to += 2) store<u16>(to, floatToHalf(toOdd(load<f64>(from))));
}

export function f64ToBf16(from: usize, to: usize, n: i32): void {
  const end = from + (<usize>n << 3);
  for (const last = end - (end - from & 63); from < last; from += 64, to += 16) {
    const low = floatsToBrains(demotedToOdd(v128.load(from), v128.load(from, 16)));
    const high = floatsToBrains(demotedToOdd(v128.load(from, 32), v128.load(from, 48)));
    v128.store(to, i16x8.narrow_i32x4_u(low, high));
  }
  for (; from < end; from += 8, to += 2) store<u16>(to, floatToBrain(toOdd(load<f64>(from))));
}

@inline
function storePromoted(to: usize, floats: v128): void {
  v128.store(to, f64x2.promote_low_f32x4(floats));
  v128.store(to, f64x2.promote_low_f32x4(v128.shuffle<u64>(floats, floats, 1, 0)), 16);
}

@inline
function demoted(low: v128, high: v128): v128 {
  return v128.shuffle<u64>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2);
}

/** The half's fields moved into a float's places; the factor 2^112 mends the bias, and makes subnormals normal. */
@inline
function halfToFloat(half: u32): f32 {
  const magnitude = half & 0x7fff;
  let bits = reinterpret<u32>(reinterpret<f32>(magnitude << 13) * reinterpret<f32>(0x77800000));
  if (magnitude > 0x7bff) bits |= 0x7f800000;
  return reinterpret<f32>(bits | ((half & 0x8000) << 16));
}

/** As `halfToFloat`, of halves in the lower bits of each lane. */
@inline
function halvesToFloats(halves: v128): v128 {
  const magnitude = v128.and(halves, i32x4.splat(0x7fff));
  const bits = f32x4.mul(i32x4.shl(magnitude, 13), i32x4.splat(0x77800000));
  const special = v128.and(i32x4.gt_s(magnitude, i32x4.splat(0x7bff)), i32x4.splat(0x7f800000));
  const sign = i32x4.shl(v128.xor(halves, magnitude), 16);
  return v128.or(v128.or(bits, special), sign);
}

/**
 * Adding 2^13 times its power of two, at least 2^-14, leaves just the half's bits in a float's fraction, rounded by the
 * addition itself: with the leading 1 where the half is normal. All that is too large is as 2^16, which becomes infinity.
 */
@inline
function floatToHalf(bits: u32): u16 {
  const magnitude = min<u32>(bits & 0x7fffffff, 0x47800000);
  const power = max<u32>(magnitude & 0x7f800000, 0x38800000);
  const larger = power + 0x06800000;
  const digits = reinterpret<u32>(reinterpret<f32>(magnitude) + reinterpret<f32>(larger)) - larger;
  const nan = <u32>((bits & 0x7fffffff) > 0x7f800000) << 9;
  return <u16>(((bits >> 16) & 0x8000) | nan | (((power - 0x38800000) >> 13) + digits));
}

/** As `floatToHalf`, into the lower bits of each lane. */
@inline
function floatsToHalves(bits: v128): v128 {
  const absolute = v128.and(bits, i32x4.splat(0x7fffffff));
  const magnitude = i32x4.min_s(absolute, i32x4.splat(0x47800000));
  const power = i32x4.max_s(v128.and(magnitude, i32x4.splat(0x7f800000)), i32x4.splat(0x38800000));
  const larger = i32x4.add(power, i32x4.splat(0x06800000));
  const digits = i32x4.sub(f32x4.add(magnitude, larger), larger);
  const nan = v128.and(f32x4.ne(bits, bits), i32x4.splat(0x200));
  const sign = i32x4.shr_u(v128.xor(bits, absolute), 16);
  const half = i32x4.add(i32x4.shr_u(i32x4.sub(power, i32x4.splat(0x38800000)), 13), digits);
  return v128.or(v128.or(sign, nan), half);
}

@inline
function floatToBrain(bits: u32): u16 {
  if ((bits & 0x7fffffff) > 0x7f800000) return <u16>((bits >> 16) | 0x40);
  return <u16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/** As `floatToBrain`, into the lower bits of each lane. */
@inline
function floatsToBrains(bits: v128): v128 {
  const upper = i32x4.shr_u(bits, 16);
  const even = v128.and(upper, i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(bits, i32x4.splat(0x7fff)), even), 16);
  return v128.bitselect(v128.or(upper, i32x4.splat(0x40)), rounded, f32x4.ne(bits, bits));
}

/**
 * The bits of `x` as float32, rounded to odd: an inexact result gets an odd last bit. Rounding that again to 11 or 8 bits
 * gives what one rounding of `x` would have given (Boldo & Melquiond, "When double rounding is odd", 2005).
 */
@inline
function toOdd(x: f64): u32 {
  const nearest = <f32>x;
  const towardsZero = reinterpret<u32>(nearest) - <u32>(abs(<f64>nearest) > abs(x));
  return towardsZero | <u32>(<f64>nearest != x);
}

/** As `toOdd`, of two and two. */
@inline
function demotedToOdd(low: v128, high: v128): v128 {
  const nearestLow = f32x4.demote_f64x2_zero(low);
  const nearestHigh = f32x4.demote_f64x2_zero(high);
  const backLow = f64x2.promote_low_f32x4(nearestLow);
  const backHigh = f64x2.promote_low_f32x4(nearestHigh);
  const nearest = v128.shuffle<u64>(nearestLow, nearestHigh, 0, 2);
  const larger = v128.shuffle<u32>(
    f64x2.gt(f64x2.abs(backLow), f64x2.abs(low)), f64x2.gt(f64x2.abs(backHigh), f64x2.abs(high)), 0, 2, 4, 6,
  );
  const inexact = v128.shuffle<u32>(f64x2.ne(backLow, low), f64x2.ne(backHigh, high), 0, 2, 4, 6);
  return v128.or(i32x4.add(nearest, larger), i32x4.shr_u(inexact, 31));
}
