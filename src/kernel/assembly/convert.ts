// Conversions between the dtypes that travel (F16, BF16, F32, F64) and those that variables have (F32, F64), each value
// rounded once, to nearest even. A NaN stays a NaN, quieted.

export function f16ToF32(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<f32>(to + (i << 2), halfToFloat(load<u16>(from + (i << 1))));
}

export function f16ToF64(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<f64>(to + (i << 3), <f64>halfToFloat(load<u16>(from + (i << 1))));
}

export function bf16ToF32(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<u32>(to + (i << 2), <u32>load<u16>(from + (i << 1)) << 16);
}

export function bf16ToF64(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    store<f64>(to + (i << 3), <f64>reinterpret<f32>(<u32>load<u16>(from + (i << 1)) << 16));
  }
}

export function f32ToF64(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<f64>(to + (i << 3), <f64>load<f32>(from + (i << 2)));
}

export function f64ToF32(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<f32>(to + (i << 2), <f32>load<f64>(from + (i << 3)));
}

export function f32ToF16(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<u16>(to + (i << 1), floatToHalf(load<u32>(from + (i << 2))));
}

export function f32ToBf16(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<u16>(to + (i << 1), floatToBrain(load<u32>(from + (i << 2))));
}

export function f64ToF16(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<u16>(to + (i << 1), floatToHalf(toOdd(load<f64>(from + (i << 3)))));
}

export function f64ToBf16(from: usize, to: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<u16>(to + (i << 1), floatToBrain(toOdd(load<f64>(from + (i << 3)))));
}

/** The half's fields moved into a float's places; the factor 2^112 mends the bias, and makes subnormals normal. */
@inline
function halfToFloat(half: u32): f32 {
  const magnitude = half & 0x7fff;
  let bits = reinterpret<u32>(reinterpret<f32>(magnitude << 13) * reinterpret<f32>(0x77800000));
  if (magnitude > 0x7bff) bits |= 0x7f800000;
  return reinterpret<f32>(bits | ((half & 0x8000) << 16));
}

@inline
function floatToHalf(bits: u32): u16 {
  const sign = (bits >> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) return <u16>(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (magnitude < 0x38800000) {
    // Below 2^-14: adding 0.5 leaves just the half's subnormal bits in the mantissa, rounded by the addition itself.
    return <u16>(sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + <f32>0.5) - 0x3f000000));
  }
  return <u16>(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
}

@inline
function floatToBrain(bits: u32): u16 {
  if ((bits & 0x7fffffff) > 0x7f800000) return <u16>((bits >> 16) | 0x40);
  return <u16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/**
 * The bits of `x` as float32, rounded to odd: an inexact result gets an odd last bit. Rounding that again to 11 or 8 bits
 * gives what one rounding of `x` would have given (Boldo & Melquiond, "When double rounding is odd", 2005).
 */
@inline
function toOdd(x: f64): u32 {
  const nearest = <f32>x;
  const bits = reinterpret<u32>(nearest);
  if (x != x || <f64>nearest == x || (bits & 1) == 1) return bits;
  return abs(<f64>nearest) > abs(x) ? bits - 1 : bits + 1;
}
