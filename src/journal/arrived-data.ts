/**
 * A large body's way to the disk while it arrives. What a record of it will have as its data is known before all of it is
 * there: what stands behind the header of a safetensors file, in one piece, if the body names its tensors in their order.
 */
import { readHeaderLength } from '../tensor/safetensors.ts';
import { type DataFile, runsOf } from './data-file.ts';

const lengthBytes = 8;

export class ArrivedData {
  readonly #file: DataFile;
  readonly #bodyBytes: number;
  /** Where the data begin; `undefined` until that has arrived. */
  #begin: number | undefined;
  /** All that the file has. */
  #data: Uint8Array | undefined;

  /** Of a body of `bodyBytes` bytes, into `file`. */
  constructor(file: DataFile, bodyBytes: number) {
    this.#file = file;
    this.#bodyBytes = bodyBytes;
  }

  /** The first `filled` bytes of the body are there. Its memory must stay as it is until `discard` is over. */
  take(body: Buffer, filled: number): void {
    this.#begin ??= beginOfData(body.subarray(0, filled), this.#bodyBytes);
    if (this.#begin === undefined || filled <= this.#begin) return;
    const had = this.#data?.length ?? 0;
    this.#data = body.subarray(this.#begin, filled);
    this.#file.put(this.#data.subarray(had));
  }

  /** The file, if what is in it are these data. */
  fileOf(data: readonly Uint8Array[]): DataFile | undefined {
    const [run, ...others] = runsOf(data);
    if (run === undefined || others.length > 0 || this.#data === undefined) return undefined;
    const { buffer, byteOffset, length } = this.#data;
    return run.buffer === buffer && run.byteOffset === byteOffset && run.length === length ? this.#file : undefined;
  }

  /** Removes the file, unless the journal has it. */
  discard(): Promise<void> {
    return this.#file.discard();
  }
}

/** Infinite where the body is no safetensors file. */
function beginOfData(start: Buffer, bodyBytes: number): number | undefined {
  if (start.length < lengthBytes) return undefined;
  try {
    return lengthBytes + readHeaderLength(start, bodyBytes);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
