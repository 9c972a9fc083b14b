/**
 * The data of one large record, in a file of their own: written while they arrive, so that little is left to be done when
 * they are there, and once. Through lmdb they would go by way of pages in fresh memory, which takes several times as long.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { syncFolder } from './files.ts';

/** Less is not worth a system call while more is to come. */
const writtenAtOnce = 4 * 1024 * 1024;
/** What is written is brought to the disk by so much at a time, while more arrives. */
const syncedAtOnce = 16 * 1024 * 1024;

export class DataFile {
  #path: string;
  readonly #onWrite: (bytes: number) => void;
  /** What is to be written next: views of memory that must stay as it is. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #bytes = 0;
  #checksum = 0;
  #isWhole = false;
  #isOver = false;
  #file: Promise<FileHandle>;
  #writing: Promise<void> | undefined;
  #syncing: Promise<void> | undefined;
  #unsynced = 0;
  #failure: { readonly error: unknown } | undefined;

  /** At `path`, where nothing is. `onWrite` is told of bytes before they are written. */
  constructor(path: string, onWrite: (bytes: number) => void) {
    this.#path = path;
    this.#onWrite = onWrite;
    this.#file = open(path, 'wx');
    this.#file.catch((error: unknown) => {
      this.#failure ??= { error };
    });
  }

  /** Bytes that were put. */
  get bytes(): number {
    return this.#bytes;
  }

  /** CRC-32 of all that was put. */
  get checksum(): number {
    return this.#checksum;
  }

  /** Puts more behind all that there is. The memory is read until `keepAs` or `discard` is over. */
  put(view: Uint8Array): void {
    this.#checksum = crc32(view, this.#checksum);
    this.#bytes += view.length;
    this.#waiting.push(view);
    this.#waitingBytes += view.length;
    if (this.#waitingBytes >= writtenAtOnce) this.#writing ??= this.#write();
  }

  /** Resolves when all that was put is on the disk, under the name `path`. Throws what the file system says. */
  async keepAs(path: string): Promise<void> {
    this.#isWhole = true;
    this.#writing ??= this.#write();
    await this.#writing;
    await this.#syncing;
    if (this.#failure !== undefined) throw this.#failure.error;
    const file = await this.#file;
    await Promise.all([file.datasync(), this.#moveTo(path)]);
    this.#isOver = true;
    await file.close();
  }

  /** Removes the file, unless it is kept. */
  async discard(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    await this.#writing;
    await this.#syncing;
    const file = await this.#file.catch(() => undefined);
    await file?.close().catch(() => undefined);
    await rm(this.#path, { force: true }).catch(() => undefined);
  }

  async #moveTo(path: string): Promise<void> {
    await rename(this.#path, path);
    this.#path = path;
    await syncFolder(dirname(path));
  }

  async #write(): Promise<void> {
    try {
      const file = await this.#file;
      while (!this.#isOver && this.#waitingBytes > (this.#isWhole ? 0 : writtenAtOnce - 1)) {
        const runs = runsOf(this.#waiting);
        this.#unsynced += this.#waitingBytes;
        this.#onWrite(this.#waitingBytes);
        this.#waiting = [];
        this.#waitingBytes = 0;
        for (const run of runs) await writeWhole(file, run);
        if (this.#unsynced >= syncedAtOnce) this.#syncing ??= this.#sync(file);
      }
    } catch (error) {
      this.#failure ??= { error };
    }
    this.#writing = undefined;
  }

  async #sync(file: FileHandle): Promise<void> {
    this.#unsynced = 0;
    await file.datasync().catch((error: unknown) => {
      this.#failure ??= { error };
    });
    this.#syncing = undefined;
  }
}

async function writeWhole(file: FileHandle, view: Uint8Array): Promise<void> {
  for (let at = 0; at < view.length; ) at += (await file.write(view, at, view.length - at)).bytesWritten;
}

/** Views that lie one behind the other in the same memory become one. */
export function runsOf(data: readonly Uint8Array[]): Uint8Array[] {
  const runs: Uint8Array[] = [];
  for (const view of data) {
    const last = runs.at(-1);
    if (last !== undefined && last.buffer === view.buffer && last.byteOffset + last.length === view.byteOffset) {
      runs[runs.length - 1] = new Uint8Array(last.buffer, last.byteOffset, last.length + view.length);
    } else if (view.length > 0) runs.push(view);
  }
  return runs;
}
