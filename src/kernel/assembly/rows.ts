// Moving memory about: plain copies, summing repeated rows of a sparse gradient, and collecting rows for a reply.

export function copy(to: usize, from: usize, bytes: usize): void {
  memory.copy(to, from, bytes);
}

/** sums[slots[k]] += values[k] for k = 0..count-1, in that order; rows of `width` elements. */
@inline
export function addRows<T extends number>(values: usize, slots: usize, count: i32, width: i32, sums: usize): void {
  const lanes = 16 / <i32>sizeof<T>();
  const bytes = <usize>width * sizeof<T>();
  const vectorBytes = <usize>(width / lanes) << 4;
  for (let k = 0; k < count; k++) {
    const sum = sums + <usize>load<u32>(slots + (<usize>k << 2)) * bytes;
    const row = values + <usize>k * bytes;
    let i: usize = 0;
    for (; i < vectorBytes; i += 16) v128.store(sum + i, v128.add<T>(v128.load(sum + i), v128.load(row + i)));
    for (; i < bytes; i += sizeof<T>()) store<T>(sum + i, <T>(load<T>(sum + i) + load<T>(row + i)));
  }
}

/** out[k] = from[rows[k]]; `rowBytes` of each row, rows of `from` lie `strideBytes` apart. */
export function gatherRows(from: usize, rows: usize, count: i32, rowBytes: i32, strideBytes: i32, out: usize): void {
  for (let k = 0; k < count; k++) {
    const row = from + <usize>load<u32>(rows + (<usize>k << 2)) * <usize>strideBytes;
    copyRow(out + <usize>k * <usize>rowBytes, row, <usize>rowBytes);
  }
}

/** to[rows[k]] = values[k]: the inverse of `gatherRows`. */
export function scatterRows(to: usize, rows: usize, count: i32, rowBytes: i32, strideBytes: i32, values: usize): void {
  for (let k = 0; k < count; k++) {
    const row = to + <usize>load<u32>(rows + (<usize>k << 2)) * <usize>strideBytes;
    copyRow(row, values + <usize>k * <usize>rowBytes, <usize>rowBytes);
  }
}

/** A row is short, and `memory.copy` a call of its own. Rows are a multiple of 4 bytes long and do not overlap. */
@inline
function copyRow(to: usize, from: usize, bytes: usize): void {
  const vectorBytes = bytes & ~15;
  let i: usize = 0;
  for (; i < vectorBytes; i += 16) v128.store(to + i, v128.load(from + i));
  for (; i < bytes; i += 4) store<u32>(to + i, load<u32>(from + i));
}
