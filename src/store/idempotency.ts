/**
 * Exactly once: the idempotency keys that the requests about one session bore. The first request with a key is carried out;
 * a repeat waits for it if it is still under way, and is then told what came of it. A request that failed leaves no trace, so
 * its repeat is a first one again. The oldest of too many keys are forgotten.
 *
 * An entry on the disk: CRC-32 of the rest (4 bytes, little-endian), then JSON.
 */
import { crc32 } from 'node:zlib';
import { Problem } from '../errors.ts';
import type { CheckpointInfo } from './checkpoint-folder.ts';

/** What a request is known by. */
export interface RequestKey {
  /** Its `Idempotency-Key`. */
  readonly key: string;
  /** Of its method, address and body. */
  readonly digest: string;
}

/** What a request did: where the session stood after it, and what its answer named. */
export interface KeyEntry extends RequestKey {
  readonly revision: number;
  readonly iterations: number;
  readonly learningRate: number;
  /** The session that it made. */
  readonly made?: string;
  /** The checkpoint that it deleted. */
  readonly removed?: string;
  /** The checkpoint that it wrote. */
  readonly wrote?: CheckpointInfo;
  /** The session that it was sent to, if that is not the one that it changed. */
  readonly sentTo?: string;
}

export class IdempotencyKeys {
  readonly #max: number;
  readonly #known = new Map<string, KeyEntry>();
  readonly #underWay = new Map<string, { readonly digest: string; readonly over: Promise<unknown> }>();

  /** At most `max` keys are remembered. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Oldest first. */
  get entries(): KeyEntry[] {
    return [...this.#known.values()];
  }

  get size(): number {
    return this.#known.size;
  }

  /** Whether a request bore that key, and has not failed. */
  knows(key: string): boolean {
    return this.#known.has(key) || this.#underWay.has(key);
  }

  /** Remembers these and no others. */
  replace(entries: readonly KeyEntry[]): void {
    this.#known.clear();
    for (const entry of entries) this.remember(entry);
  }

  remember(entry: KeyEntry): void {
    this.#known.delete(entry.key);
    this.#known.set(entry.key, entry);
    for (const key of this.#known.keys()) {
      if (this.#known.size <= this.#max) break;
      this.#known.delete(key);
    }
  }

  /**
   * Carries out `first`, which is to `remember` its key, or `again` where that has been done. Throws `idempotency_key_reused`
   * for a key that another request bore.
   */
  async once<T>(
    request: RequestKey | undefined,
    first: () => Promise<T>,
    again: (entry: KeyEntry) => Promise<T>,
  ): Promise<T> {
    if (request === undefined) return first();
    for (;;) {
      const entry = this.#known.get(request.key);
      const underWay = this.#underWay.get(request.key);
      const digest = entry?.digest ?? underWay?.digest;
      if (digest !== undefined && digest !== request.digest) throw reused(request.key);
      if (underWay === undefined) {
        if (entry !== undefined) return again(entry);
        break;
      }
      await underWay.over.catch(() => undefined);
    }
    const over = first();
    this.#underWay.set(request.key, { digest: request.digest, over });
    try {
      return await over;
    } finally {
      this.#underWay.delete(request.key);
    }
  }
}

export function encodeEntry(entry: KeyEntry): Buffer {
  const text = Buffer.from(JSON.stringify(entry));
  const bytes = Buffer.allocUnsafe(4 + text.length);
  bytes.writeUInt32LE(crc32(text));
  text.copy(bytes, 4);
  return bytes;
}

/** `undefined` where the bytes are not what was written. */
export function decodeEntry(bytes: Buffer): KeyEntry | undefined {
  if (bytes.length < 4 || crc32(bytes.subarray(4)) !== bytes.readUInt32LE(0)) return undefined;
  return JSON.parse(bytes.toString('utf8', 4));
}

function reused(key: string): Problem {
  return new Problem(
    'idempotency_key_reused',
    `an Idempotency-Key must come with the request that it first came with. Received: ${JSON.stringify(key)} with another one`,
  );
}
