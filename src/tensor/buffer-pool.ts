/**
 * Large buffers, in memory that threads share, and used again. Fresh memory costs a page fault for every 4 KiB, which for
 * a gradient of 100 MB takes longer than all that is done with it. Whoever takes a buffer owns it, contents undefined,
 * until they give it back. What lies idle for long, or is more than the bound, is let go.
 */
import { pooledBytesMax, pooledBytesMin, pooledIdleMs } from '../limits.ts';
import { made, reclaim } from './reclaim.ts';

const granuleBytes = 65_536;

interface Idle {
  readonly memory: SharedArrayBuffer;
  /** The sweep at which it will be let go. */
  readonly until: number;
}

export class BufferPool {
  readonly #min: number;
  readonly #max: number;
  /** Oldest first. */
  #idle: Idle[] = [];
  /** Of buffers that several have: how many besides the first. */
  readonly #others = new WeakMap<SharedArrayBuffer, number>();
  #sweeps = 0;
  #sweeping: NodeJS.Timeout | undefined;

  /** Buffers below `min` bytes are not worth keeping; at most `max` bytes are kept. */
  constructor(min: number, max: number) {
    this.#min = min;
    this.#max = max;
  }

  /** A buffer of exactly `bytes` bytes, whatever they are. It is shared memory if it is one of the large ones. */
  take(bytes: number): Buffer {
    if (bytes < this.#min) return Buffer.allocUnsafe(bytes);
    // One of at least that size, but not a far larger one, which a larger request may need.
    const fitting = this.#idle.filter(({ memory }) => memory.byteLength >= bytes && memory.byteLength <= 2 * bytes);
    const best = fitting.sort((a, b) => a.memory.byteLength - b.memory.byteLength)[0];
    if (best === undefined) return make(bytes);
    this.#idle = this.#idle.filter((each) => each !== best);
    return Buffer.from(best.memory, 0, bytes);
  }

  /** Whether giving it back would have an effect. */
  keeps({ buffer }: Buffer): boolean {
    return buffer instanceof SharedArrayBuffer;
  }

  /** One more has it; the last of them to give it back does so. */
  share({ buffer: memory }: Buffer): void {
    if (memory instanceof SharedArrayBuffer) this.#others.set(memory, (this.#others.get(memory) ?? 0) + 1);
  }

  /** Takes back a buffer that nobody reads or writes any more; the oldest ones go where there are too many. */
  give({ buffer: memory }: Buffer): void {
    if (!(memory instanceof SharedArrayBuffer) || this.#idle.some((each) => each.memory === memory)) return;
    const others = this.#others.get(memory) ?? 0;
    if (others > 0) {
      this.#others.set(memory, others - 1);
      return;
    }
    this.#idle.push({ memory, until: this.#sweeps + 2 });
    let bytes = this.#idle.reduce((sum, each) => sum + each.memory.byteLength, 0);
    while (bytes > this.#max) {
      bytes -= (this.#idle.shift() as Idle).memory.byteLength;
      reclaim();
    }
    this.#sweeping ??= setInterval(() => this.#sweep(), pooledIdleMs).unref();
  }

  #sweep(): void {
    this.#sweeps++;
    const kept = this.#idle.filter(({ until }) => until > this.#sweeps);
    if (kept.length < this.#idle.length) reclaim();
    this.#idle = kept;
    if (kept.length > 0) return;
    clearInterval(this.#sweeping);
    this.#sweeping = undefined;
  }
}

function make(bytes: number): Buffer {
  // The next reply may be a digit longer.
  const memory = new SharedArrayBuffer(Math.ceil(bytes / granuleBytes) * granuleBytes);
  made(memory.byteLength);
  return Buffer.from(memory, 0, bytes);
}

/** Buffers below half of that are cut from one that is there: of 8 KiB by default, which a thousand floats do not fit into. */
Buffer.poolSize = 256 * 1024;

/** For the bodies of requests and replies. */
export const bodyPool = new BufferPool(pooledBytesMin, pooledBytesMax);

const { fill } = Buffer.prototype;

/** Copies all of `from` to `to`, from its byte `at` on: memcpy, where `set` goes word by word if one of them is shared. */
export function copyBytes(from: Uint8Array, to: Uint8Array, at: number): void {
  if (from.length > 0) fill.call(to, from, at, at + from.length);
}
