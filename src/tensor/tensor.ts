/** A tensor as it travels: dtype, shape and little-endian row-major bytes. No arithmetic here. */
import { elementsMax } from '../limits.ts';
import { bytesPerElement, type Dtype } from './dtype.ts';

export interface Tensor<D extends Dtype = Dtype> {
  readonly dtype: D;
  readonly shape: readonly number[];
  /** `elementCount(shape) * bytesPerElement[dtype]` bytes; may be a view of a larger buffer, at any alignment. */
  readonly bytes: Uint8Array;
}

/** The number of elements of `shape`; 1 for a scalar's `[]`. */
export function elementCount(shape: readonly number[]): number {
  let product = 1;
  for (const size of shape) product *= size;
  return product;
}

/** Whether every part of the shape, a row's say, can be multiplied up exactly: so its zeros do not count. */
export function isCountable(shape: readonly number[]): boolean {
  return elementCount(shape.filter((size) => size > 0)) <= elementsMax;
}

export function byteLength(dtype: Dtype, shape: readonly number[]): number {
  return elementCount(shape) * bytesPerElement[dtype];
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let axis = 0; axis < a.length; axis++) if (a[axis] !== b[axis]) return false;
  return true;
}
