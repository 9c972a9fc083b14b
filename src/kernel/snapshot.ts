/**
 * A variable's memory as it stands at one moment, while steps go on changing it: a block is copied just before its first
 * change, unless the reader has taken it by then. So a snapshot costs memory only for what changes under it, and that is
 * memory used before where there is some.
 */
import { bodyPool, copyBytes } from '../tensor/buffer-pool.ts';
import { bytesPerElement } from '../tensor/dtype.ts';
import { blockElements } from './bank.ts';
import type { Values } from './blocks.ts';
import { type Extent, type Part, parts } from './extent.ts';

/** What a snapshot needs of a variable's memory. */
export interface BlockReader extends Extent {
  read(part: Part, first: number, count: number, to: Values): void;
}

/** Large enough to be worth keeping for the next snapshot. */
const slabBytes = 1024 * 1024;

export class VariableSnapshot {
  readonly memory: BlockReader;
  readonly #saved: Record<Part, (Uint8Array | undefined)[]> = { w: [], m: [], v: [] };
  /** Where blocks are saved, one after the other; the last one has room from `#used` on. */
  readonly #slabs: Buffer[] = [];
  #used = slabBytes;
  /** Blocks of a part below this one have been read. */
  readonly #taken: Record<Part, number> = { w: 0, m: 0, v: 0 };

  constructor(memory: BlockReader) {
    this.memory = memory;
  }

  get blocks(): number {
    return Math.ceil((this.memory.rows * this.memory.width) / blockElements);
  }

  /** Takes `count` blocks of a part from block `first` on, which follows the last one taken, into the start of `to`. */
  take(part: Part, first: number, count: number, to: Uint8Array): number {
    let bytes = 0;
    for (let block = first; block < first + count; block++) {
      const saved = this.#saved[part][block];
      if (saved === undefined) bytes += this.#copy(part, block, to.subarray(bytes));
      else {
        copyBytes(saved, to, bytes);
        bytes += saved.length;
        this.#saved[part][block] = undefined;
      }
      this.#taken[part] = block + 1;
    }
    return bytes;
  }

  /** Called before elements `first` to `first + count` change. */
  preserve(first: number, count: number): void {
    const last = Math.floor((first + count - 1) / blockElements);
    for (const part of parts) {
      for (let block = Math.max(Math.floor(first / blockElements), this.#taken[part]); block <= last; block++) {
        if (this.#saved[part][block] !== undefined) continue;
        const copy = this.#room(this.#elements(block) * bytesPerElement[this.memory.dtype]);
        this.#copy(part, block, copy);
        this.#saved[part][block] = copy;
      }
    }
  }

  /** To be called once, when nothing will be taken any more. */
  end(): void {
    for (const slab of this.#slabs) bodyPool.give(slab);
  }

  #room(bytes: number): Uint8Array {
    if (this.#used + bytes > slabBytes) {
      this.#slabs.push(bodyPool.take(slabBytes));
      this.#used = 0;
    }
    this.#used += bytes;
    return (this.#slabs.at(-1) as Buffer).subarray(this.#used - bytes, this.#used);
  }

  #elements(block: number): number {
    return Math.min(blockElements, this.memory.rows * this.memory.width - block * blockElements);
  }

  #copy(part: Part, block: number, to: Uint8Array): number {
    const n = this.#elements(block);
    this.memory.read(part, block * blockElements, n, { dtype: this.memory.dtype, bytes: to });
    return n * bytesPerElement[this.memory.dtype];
  }
}
