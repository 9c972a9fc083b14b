/**
 * A sparse gradient (TensorFlow's IndexedSlices): rows of a variable's first axis, in any order and with repeats. Here its
 * indices are read and its repeated rows are brought together; the sums themselves are the kernel's.
 */
import type { RowGroups } from '../kernel/step.ts';
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

/** Brings repeated rows together: unique rows ascending, and for each the positions that name it, first to last. */
export function groupRows(indices: Float64Array): RowGroups {
  const order = new Uint32Array(indices.length);
  for (let k = 0; k < order.length; k++) order[k] = k;
  if (!ascending(indices)) {
    order.sort((a, b) => (indices[a] as number) - (indices[b] as number) || a - b);
  }
  const rows = new Float64Array(indices.length);
  const starts = new Uint32Array(indices.length + 1);
  let count = 0;
  for (let k = 0; k < order.length; k++) {
    const row = indices[order[k] as number] as number;
    if (count > 0 && rows[count - 1] === row) continue;
    rows[count] = row;
    starts[count] = k;
    count++;
  }
  starts[count] = indices.length;
  return { rows: rows.subarray(0, count), starts: starts.subarray(0, count + 1), order };
}

function ascending(indices: Float64Array): boolean {
  for (let k = 1; k < indices.length; k++) if ((indices[k] as number) < (indices[k - 1] as number)) return false;
  return true;
}
