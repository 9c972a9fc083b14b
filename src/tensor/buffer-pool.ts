/**
 * Large buffers, used again. Fresh memory costs a page fault for every 4 KiB, which for a gradient of 100 MB takes longer
 * than all that is done with it. Whoever takes a buffer owns it, contents undefined, until they give it back; one that is
 * never given back is garbage like any other.
 */
import { pooledBytesMax, pooledBytesMin } from '../limits.ts';

export class BufferPool {
  readonly #min: number;
  readonly #max: number;
  /** Of all buffers that wait to be used, oldest first. */
  #idle: ArrayBuffer[] = [];

  /** Buffers below `min` bytes are not worth keeping; at most `max` bytes are kept. */
  constructor(min: number, max: number) {
    this.#min = min;
    this.#max = max;
  }

  /** A buffer of exactly `bytes` bytes, whatever they are. */
  take(bytes: number): Buffer {
    if (bytes < this.#min) return Buffer.allocUnsafe(bytes);
    // One of at least that size, but not a far larger one, which a larger request may need.
    const fitting = this.#idle.filter(({ byteLength }) => byteLength >= bytes && byteLength <= 2 * bytes);
    const best = fitting.sort((a, b) => a.byteLength - b.byteLength)[0];
    this.#idle = this.#idle.filter((memory) => memory !== best);
    return Buffer.from(best ?? new ArrayBuffer(bytes), 0, bytes);
  }

  /** Takes back a buffer that nobody reads or writes any more; the oldest ones go where there are too many. */
  give({ buffer: memory, byteLength }: Buffer): void {
    if (byteLength < this.#min || !(memory instanceof ArrayBuffer) || this.#idle.includes(memory)) return;
    this.#idle.push(memory);
    while (this.#idle.reduce((sum, each) => sum + each.byteLength, 0) > this.#max) this.#idle.shift();
  }
}

/** For the bodies of requests and replies. */
export const bodyPool = new BufferPool(pooledBytesMin, pooledBytesMax);
