// The kernel's exports: the generic loops at both of a variable's dtypes.
import { dense, sparse } from './adamax';
import { addRows } from './rows';
import { allFinite, clipValue, divide, scale, sumSquares } from './scan';

export * from './convert';
export { decimalsF32 } from './decimal';
export { copy, gatherRows, scatterRows } from './rows';

export function denseF32(
  w: usize, m: usize, v: usize, g: usize, n: i32, alpha: f32, omb1: f32, beta2: f32, eps: f32,
): f64 {
  return dense<f32>(w, m, v, g, n, alpha, omb1, beta2, eps);
}

export function denseF64(
  w: usize, m: usize, v: usize, g: usize, n: i32, alpha: f64, omb1: f64, beta2: f64, eps: f64,
): f64 {
  return dense<f64>(w, m, v, g, n, alpha, omb1, beta2, eps);
}

export function sparseF32(
  w: usize, m: usize, v: usize, rows: usize, sums: usize, count: i32, width: i32, stride: i32,
  alpha: f32, beta1: f32, omb1: f32, beta2: f32, eps: f32,
): f64 {
  return sparse<f32>(w, m, v, rows, sums, count, width, stride, alpha, beta1, omb1, beta2, eps);
}

export function sparseF64(
  w: usize, m: usize, v: usize, rows: usize, sums: usize, count: i32, width: i32, stride: i32,
  alpha: f64, beta1: f64, omb1: f64, beta2: f64, eps: f64,
): f64 {
  return sparse<f64>(w, m, v, rows, sums, count, width, stride, alpha, beta1, omb1, beta2, eps);
}

export function addRowsF32(values: usize, slots: usize, count: i32, width: i32, sums: usize): void {
  addRows<f32>(values, slots, count, width, sums);
}

export function addRowsF64(values: usize, slots: usize, count: i32, width: i32, sums: usize): void {
  addRows<f64>(values, slots, count, width, sums);
}

export function allFiniteF32(x: usize, n: i32): bool {
  return allFinite<f32>(x, n);
}

export function allFiniteF64(x: usize, n: i32): bool {
  return allFinite<f64>(x, n);
}

export function sumSquaresF32(x: usize, n: i32): f64 {
  return sumSquares<f32>(x, n);
}

export function sumSquaresF64(x: usize, n: i32): f64 {
  return sumSquares<f64>(x, n);
}

export function clipValueF32(x: usize, n: i32, limit: f32): void {
  clipValue<f32>(x, n, limit);
}

export function clipValueF64(x: usize, n: i32, limit: f64): void {
  clipValue<f64>(x, n, limit);
}

export function scaleF32(x: usize, n: i32, factor: f64): void {
  scale<f32>(x, n, factor);
}

export function scaleF64(x: usize, n: i32, factor: f64): void {
  scale<f64>(x, n, factor);
}

export function divideF32(x: usize, n: i32, divisor: f32): void {
  divide<f32>(x, n, divisor);
}

export function divideF64(x: usize, n: i32, divisor: f64): void {
  divide<f64>(x, n, divisor);
}
