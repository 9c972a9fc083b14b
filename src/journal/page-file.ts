/**
 * The pages of a file of lmdb's, read with calls that can fail: a page that is not there, or that the disk cannot give, is a
 * fault. Those that follow each other in a tree lie anywhere in a file that may be larger than the memory, but for values
 * that were put one after the other: where pages are asked for in their order, more of them are read at a time.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { claimedPageSize, metaBytes, PageFault, readMeta } from './lmdb-page.ts';

const pageSizes = [4096, 8192, 16_384, 32_768, 65_536];
/** Read at a time in order. */
const windowBytes = 1024 * 1024;
/** So many pages further on are still in order. */
const nearPages = 16;

export class PageFile {
  readonly path: string;
  readonly pageSize: number;
  /** Whole ones. */
  readonly pages: number;
  readonly #file: number;
  readonly #window = Buffer.alloc(windowBytes);
  /** Where in the file the window is, and how much of it is filled. */
  #windowAt = 0;
  #windowBytes = 0;
  #last = 0;

  private constructor(path: string, file: number, size: number) {
    this.path = path;
    this.#file = file;
    this.pageSize = pageSizeOf(file);
    this.pages = Math.floor(size / this.pageSize);
  }

  static open(path: string): PageFile {
    const file = openSync(path, 'r');
    try {
      return new PageFile(path, file, fstatSync(file).size);
    } catch (error) {
      closeSync(file);
      throw error;
    }
  }

  /** Throws `PageFault` where they are not in the file. */
  require(number: number, count: number): void {
    if (number + count > this.pages)
      throw new PageFault(`page ${number + count - 1} must be in the file. It has ${this.pages} pages`);
  }

  /** Fills `into` from the beginning of page `number`, over as many as it takes, behind `skip` bytes. Throws `PageFault`. */
  read(number: number, into: Buffer, skip = 0): Buffer {
    this.require(number, Math.ceil((skip + into.length) / this.pageSize));
    const at = number * this.pageSize + skip;
    const isNear = number > this.#last && number <= this.#last + nearPages;
    this.#last = number;
    if (isNear && !this.#has(at, into.length)) this.#moveWindow(number * this.pageSize);
    if (this.#has(at, into.length)) this.#window.copy(into, 0, at - this.#windowAt);
    else readFully(this.#file, into, at, number);
    return into;
  }

  #has(at: number, bytes: number): boolean {
    return at >= this.#windowAt && at + bytes <= this.#windowAt + this.#windowBytes;
  }

  /** What the disk cannot give is asked for again, page by page. */
  #moveWindow(at: number): void {
    this.#windowAt = at;
    this.#windowBytes = 0;
    try {
      this.#windowBytes = readSync(this.#file, this.#window, 0, windowBytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error;
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

function readFully(file: number, into: Buffer, at: number, number: number): void {
  let bytes = 0;
  while (bytes < into.length) {
    const read = tryReading(file, into.subarray(bytes), at + bytes, number);
    if (read === 0) throw new PageFault(`page ${number} must be in the file. It ends before`);
    bytes += read;
  }
}

function tryReading(file: number, into: Buffer, at: number, number: number): number {
  try {
    return readSync(file, into, 0, into.length, at);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error;
    throw new PageFault(`the disk must give page ${number}. It failed: EIO`);
  }
}

/** The one for which most of both meta pages is true. */
function pageSizeOf(file: number): number {
  const bytes = Buffer.alloc(metaBytes);
  const truth = (size: number): number => [0, 1].filter((number) => isMeta(file, bytes, number, size)).length;
  const [best = 4096] = pageSizes
    .map((size) => ({ size, true: truth(size) }))
    .sort((a, b) => b.true - a.true)
    .map(({ size }) => size);
  return best;
}

function isMeta(file: number, bytes: Buffer, number: number, pageSize: number): boolean {
  try {
    readFully(file, bytes, number * pageSize, number);
    readMeta(bytes, number, pageSize);
    return claimedPageSize(bytes) === pageSize;
  } catch (error) {
    if (error instanceof PageFault) return false;
    throw error;
  }
}
