/**
 * Room on the disk for what lmdb is about to write. A write of its own that fails can end the process, so it must not meet a
 * full disk: while there is plenty that is looked at now and then, and where there is not, its file is first made as long as
 * it can come to be, with zeros, by a write that may fail.
 */
import { open, stat, statfs } from 'node:fs/promises';

/** With so much to spare, nobody else fills the disk before the next look. */
const plentyBytes = 512 * 1024 * 1024;
const lookEveryMs = 500;
const zeros = Buffer.alloc(256 * 1024);

export class Room {
  readonly #path: string;
  /** Where lmdb's pages end. */
  readonly #end: () => number;
  #free = 0;
  #lookedAt = Number.NEGATIVE_INFINITY;

  /** Of the file at `path`, in which `end` bytes are in use. */
  constructor(path: string, end: () => number) {
    this.#path = path;
    this.#end = end;
  }

  /** Whether there was room for `bytes` more at the last look, and plenty besides. */
  hasPlenty(bytes: number): boolean {
    return this.#free - bytes >= plentyBytes;
  }

  /** To be told of what is written to the same disk by others. */
  spend(bytes: number): void {
    this.#free -= bytes;
  }

  /** Whether there is room for `bytes` more, without a look at the disk. */
  take(bytes: number): boolean {
    const isKnown = performance.now() - this.#lookedAt <= lookEveryMs && this.hasPlenty(bytes);
    if (isKnown) this.#free -= bytes;
    return isKnown;
  }

  /** Makes sure of room for `bytes` more. Throws what the file system says, if there is none. */
  async require(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#path);
    this.#free = bavail * bsize;
    this.#lookedAt = performance.now();
    if (this.#free - bytes < plentyBytes) await this.#lengthen(this.#end() + bytes);
    this.#free -= bytes;
  }

  async #lengthen(bytes: number): Promise<void> {
    const { size } = await stat(this.#path);
    if (size >= bytes) return;
    const file = await open(this.#path, 'r+');
    try {
      for (let at = size; at < bytes; ) {
        at += (await file.write(zeros, 0, Math.min(zeros.length, bytes - at), at)).bytesWritten;
      }
    } catch (error) {
      await file.truncate(size).catch(() => undefined);
      throw error;
    } finally {
      await file.close();
    }
  }
}
