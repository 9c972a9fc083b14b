/**
 * A sparse gradient (TensorFlow's IndexedSlices): rows of a variable's first axis, in any order and with repeats. Here its
 * indices are read and it is found out which slices are for the same row; the sums themselves are the kernel's.
 */
import type { SlicesByRow } from '../kernel/step.ts';
import type { IndexDtype } from '../tensor/dtype.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** The row numbers of an index tensor of shape `[k]`. An I64 beyond 2^53 comes out inexact, and so beyond any row. */
export function readIndices(indices: Tensor<IndexDtype>): Float64Array {
  const { bytes, dtype } = indices;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const rows = new Float64Array(indices.shape[0] as number);
  for (let k = 0; k < rows.length; k++) {
    if (dtype === 'I32') rows[k] = view.getInt32(k * 4, true);
    else if (dtype === 'U32') rows[k] = view.getUint32(k * 4, true);
    else rows[k] = view.getInt32(k * 8 + 4, true) * 4_294_967_296 + view.getUint32(k * 8, true);
  }
  return rows;
}

/** Brings the slices of the same row together. `indices` are whole numbers from 0 to 2^53 - 1. */
export function groupByRow(indices: Float64Array): SlicesByRow {
  const order = sortedOrder(indices);
  const rows = new Float64Array(order.length);
  const starts = new Uint32Array(order.length + 1);
  let count = 0;
  let last = -1;
  for (let place = 0; place < order.length; place++) {
    const row = indices[order[place] as number] as number;
    if (row === last) continue;
    starts[count] = place;
    rows[count++] = row;
    last = row;
  }
  starts[count] = order.length;
  return { rows: rows.slice(0, count), order, starts: starts.slice(0, count + 1) };
}

/** The rows that any of several gradients names, ascending, each once. */
export function unionOfRows(gradients: readonly Pick<SlicesByRow, 'rows'>[]): Float64Array {
  const all = new Float64Array(gradients.reduce((sum, { rows }) => sum + rows.length, 0));
  let at = 0;
  for (const { rows } of gradients) {
    all.set(rows, at);
    at += rows.length;
  }
  return groupByRow(all).rows;
}

/** The places of `keys` in ascending order of the keys, equal ones in the order given: a radix sort, 11 bits at a time. */
function sortedOrder(keys: Float64Array): Uint32Array {
  let order = new Uint32Array(keys.length);
  for (let k = 0; k < order.length; k++) order[k] = k;
  if (isAscending(keys)) return order;
  let next = new Uint32Array(keys.length);
  let largest = 0;
  for (let k = 0; k < keys.length; k++) largest = Math.max(largest, keys[k] as number);
  for (let unit = 1; unit <= largest; unit *= 2 ** 32) {
    const words = new Uint32Array(unit === 1 ? keys : keys.map((key) => Math.floor(key / unit)));
    for (let shift = 0; shift < 32 && unit * 2 ** shift <= largest; shift += 11) {
      distribute(order, words, shift, next);
      [order, next] = [next, order];
    }
  }
  return order;
}

/** Puts the places in `order` into `next`, by 11 bits of their words, and those with the same bits as they were. */
function distribute(order: Uint32Array, words: Uint32Array, shift: number, next: Uint32Array): void {
  const ends = new Uint32Array(2049);
  for (let k = 0; k < words.length; k++) (ends[(((words[k] as number) >>> shift) & 2047) + 1] as number)++;
  for (let bits = 1; bits < 2048; bits++) (ends[bits] as number) += ends[bits - 1] as number;
  for (let k = 0; k < order.length; k++) {
    const place = order[k] as number;
    const bits = ((words[place] as number) >>> shift) & 2047;
    next[(ends[bits] as number)++] = place;
  }
}

function isAscending(keys: Float64Array): boolean {
  for (let k = 1; k < keys.length; k++) if ((keys[k] as number) < (keys[k - 1] as number)) return false;
  return true;
}
