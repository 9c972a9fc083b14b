/**
 * A bank is one WASM memory with the kernel over it: scratch areas, one for each thread, then the data. The memory has its
 * final size from the start, so views of it never go stale, and all threads share it; each has a `Bank` of its own over it.
 */
import { threadsMax } from '../limits.ts';
import { bytesPerElement, type FloatDtype, type VariableDtype } from '../tensor/dtype.ts';
import { made } from '../tensor/reclaim.ts';
import { conversion, instantiate, type KernelExports, type Loops, loopsFor } from './kernel.ts';

/** Elements worked on at a time: gradient, w, m and v of one block stay in a core's L2 cache. */
export const blockElements = 16_384;

const pageBytes = 65_536;
const alignment = 64;
const blockBytes = blockElements * 8;
/** Three blocks, row numbers and slots; see below. */
const scratchBytes = 3 * blockBytes + 2 * blockElements * 4;
/** Byte 0 stays free; the main thread and each of the others have scratch; then comes what the bank is for. */
export const dataStart = alignment + (threadsMax + 1) * scratchBytes;

/** What one bank can hold: a WASM memory ends at 4 GiB. */
export const bankBytesMax = 65_536 * pageBytes - dataStart - pageBytes;

/** Memory that has been made a bank of; the same in every thread. */
export interface BankMemory {
  readonly id: number;
  readonly memory: WebAssembly.Memory;
}

let banks = 0;

/** Zeroed memory for `dataBytes` bytes from `dataStart` on. At most `bankBytesMax`. */
export function allocateBank(dataBytes: number): Bank {
  const pages = Math.ceil((dataStart + dataBytes) / pageBytes);
  made(pages * pageBytes - dataStart);
  const size = { initial: pages, maximum: pages, shared: true };
  return new Bank({ id: ++banks, memory: new WebAssembly.Memory(size) }, 0);
}

export class Bank implements BankMemory {
  readonly id: number;
  readonly memory: WebAssembly.Memory;
  readonly bytes: Buffer;
  readonly words: Int32Array;
  readonly kernel: KernelExports;
  /** Byte addresses of this thread's scratch for one block each: as it travels, converted, and summed by row. */
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

  /** `thread`: 0 for the main one, up to `threadsMax`. */
  constructor({ id, memory }: BankMemory, thread: number) {
    this.id = id;
    this.memory = memory;
    this.bytes = Buffer.from(memory.buffer);
    this.words = new Int32Array(memory.buffer);
    this.kernel = instantiate(memory);
    this.f32 = loopsFor(this.kernel, 'F32');
    this.f64 = loopsFor(this.kernel, 'F64');
    this.wire = alignment + thread * scratchBytes;
    this.values = this.wire + blockBytes;
    this.sums = this.values + blockBytes;
    this.rowsAt = this.sums + blockBytes;
    this.slotsAt = this.rowsAt + blockElements * 4;
    this.rows = new Int32Array(memory.buffer, this.rowsAt, blockElements);
    this.slots = new Int32Array(memory.buffer, this.slotsAt, blockElements);
  }

  loops(dtype: VariableDtype): Loops {
    return dtype === 'F32' ? this.f32 : this.f64;
  }

  /** Converts `n` elements; a plain copy where both dtypes are the same. */
  convert(from: number, fromDtype: FloatDtype, to: number, toDtype: FloatDtype, n: number): void {
    if (fromDtype === toDtype) this.kernel.copy(to, from, n * bytesPerElement[toDtype]);
    else conversion(this.kernel, fromDtype, toDtype)(from, to, n);
  }
}

/** How much of a bank `bytes` bytes use up, so that what follows begins at a cache line. */
export function takenBytes(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}
