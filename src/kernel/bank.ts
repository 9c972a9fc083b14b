/**
 * A bank is one WASM memory with the kernel over it: a scratch area, then whatever was taken from it. It has its final
 * size from the start, so views of it never go stale, and it is freed as a whole when nothing refers to it any more. It is
 * not shared memory, which V8 does not count and so would leave lying long after a session is deleted.
 */
import { bytesPerElement, type FloatDtype, type VariableDtype } from '../tensor/dtype.ts';
import { conversion, instantiate, type KernelExports, type Loops, loopsFor } from './kernel.ts';

/** Elements worked on at a time: gradient, w, m and v of one block stay in a core's L2 cache. */
export const blockElements = 16_384;

const pageBytes = 65_536;
const alignment = 64;
const blockBytes = blockElements * 8;
const scratchBytes = 3 * blockBytes + 2 * blockElements * 4 + alignment;

/** What one bank can hold besides its scratch area: a WASM memory ends at 4 GiB. */
export const bankBytesMax = 65_536 * pageBytes - scratchBytes - pageBytes;

export class Bank {
  readonly bytes: Uint8Array;
  readonly kernel: KernelExports;
  /** Byte addresses of scratch for one block each: as it travels, converted, and summed by row. */
  readonly wire: number;
  readonly values: number;
  readonly sums: number;
  /** Scratch for a block's row numbers and for the slot in `sums` that each row of values belongs to. */
  readonly rowsAt: number;
  readonly rows: Int32Array;
  readonly slotsAt: number;
  readonly slots: Int32Array;
  readonly f32: Loops;
  readonly f64: Loops;
  #next = alignment;

  /** `dataBytes`: the sum of all that will be taken, each rounded up by `takenBytes`. At most `bankBytesMax`. */
  constructor(dataBytes: number) {
    const pages = Math.ceil((scratchBytes + dataBytes) / pageBytes) + 1;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.bytes = new Uint8Array(memory.buffer);
    this.kernel = instantiate(memory);
    this.f32 = loopsFor(this.kernel, 'F32');
    this.f64 = loopsFor(this.kernel, 'F64');
    this.wire = this.take(blockBytes);
    this.values = this.take(blockBytes);
    this.sums = this.take(blockBytes);
    this.rowsAt = this.take(blockElements * 4);
    this.slotsAt = this.take(blockElements * 4);
    this.rows = new Int32Array(memory.buffer, this.rowsAt, blockElements);
    this.slots = new Int32Array(memory.buffer, this.slotsAt, blockElements);
  }

  /** The address of `bytes` zeroed bytes, aligned to a cache line. */
  take(bytes: number): number {
    const address = this.#next;
    this.#next += takenBytes(bytes);
    if (this.#next > this.bytes.length) throw new Error('the bank is full');
    return address;
  }

  loops(dtype: VariableDtype): Loops {
    return dtype === 'F32' ? this.f32 : this.f64;
  }

  /** Converts `n` elements; a plain copy where both dtypes are the same. */
  convert(from: number, fromDtype: FloatDtype, to: number, toDtype: FloatDtype, n: number): void {
    if (fromDtype === toDtype) this.bytes.copyWithin(to, from, from + n * bytesPerElement[toDtype]);
    else conversion(this.kernel, fromDtype, toDtype)(from, to, n);
  }
}

/** How much of a bank `take(bytes)` uses up. */
export function takenBytes(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}
