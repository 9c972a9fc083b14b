/**
 * A session's state as one sequence of bytes, the same on every machine and however it came about: what its fingerprint is
 * taken of. For each variable, in ASCII order of the names:
 *
 *     ["<name>","<dtype>",[<shape>]]\n    as UTF-8 JSON without spaces
 *     w, m, v                             little-endian, row-major, one after the other
 *
 * A NaN stands there with one sign and payload (7fc00000 in F32, 7ff8000000000000 in F64), since processors make different
 * ones. Configuration and counter are not part of it.
 */
import { scanValues, type Values } from '../kernel/blocks.ts';
import { parts } from '../kernel/extent.ts';
import { bytesPerElement } from '../tensor/dtype.ts';
import { elementCount } from '../tensor/tensor.ts';
import type { Variable } from './variable.ts';

const chunkBytes = 1024 * 1024;

/** The bytes in pieces of at most 1 MiB, each good until the next one is asked for. Nothing may change meanwhile. */
export function* canonicalBytes(variables: ReadonlyMap<string, Variable>): Generator<Uint8Array> {
  const sorted = [...variables.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  // No more than is needed: of a small model's, memory for it would take most of the time.
  const bytesOf = ({ dtype, shape }: Variable): number => elementCount(shape) * bytesPerElement[dtype];
  const largest = sorted.reduce((most, variable) => Math.max(most, bytesOf(variable)), 0);
  const chunk = Buffer.allocUnsafeSlow(Math.min(chunkBytes, largest));
  for (const { name, dtype, shape, memory } of sorted) {
    yield Buffer.from(`${JSON.stringify([name, dtype, shape])}\n`);
    const size = bytesPerElement[dtype];
    const count = elementCount(shape);
    for (const part of parts) {
      for (let first = 0; first < count; first += chunkBytes / size) {
        const n = Math.min(chunkBytes / size, count - first);
        const values = { dtype, bytes: chunk.subarray(0, n * size) };
        memory.read(part, first, n, values);
        if (!scanValues(values, n, dtype, null).finite) unifyNaNs(values);
        yield values.bytes;
      }
    }
  }
}

function unifyNaNs({ dtype, bytes }: Values): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length; at += bytesPerElement[dtype]) {
    if (dtype === 'F32' && Number.isNaN(view.getFloat32(at, true))) view.setUint32(at, 0x7fc00000, true);
    if (dtype === 'F64' && Number.isNaN(view.getFloat64(at, true))) {
      view.setUint32(at, 0, true);
      view.setUint32(at + 4, 0x7ff80000, true);
    }
  }
}
