/** What each page of lmdb's file is used for: at most one thing, or it is free. */

export class PageUse {
  readonly #pages: number;
  readonly #lastPage: number;
  readonly #used: Uint8Array;
  readonly #free: Uint8Array;
  #highest = 0;

  /** Of a file with so many pages, of which lmdb uses none behind `lastPage`. */
  constructor(pages: number, lastPage: number) {
    this.#pages = pages;
    this.#lastPage = lastPage;
    this.#used = new Uint8Array(Math.ceil(pages / 8));
    this.#free = new Uint8Array(Math.ceil(pages / 8));
  }

  isUsed(page: number): boolean {
    return page < this.#pages && has(this.#used, page);
  }

  /** Pages that a tree uses. Returns what is wrong with that. */
  take(first: number, count: number): string | undefined {
    let wrong = this.#requireInBounds(first, count);
    if (wrong !== undefined) return wrong;
    for (let page = first; page < first + count && page < this.#pages; page++) {
      if (has(this.#used, page)) wrong ??= `page ${page} must be used once. It is used twice`;
      if (has(this.#free, page)) wrong ??= `page ${page} must be used or free. It is both`;
      add(this.#used, page);
    }
    return wrong;
  }

  /** Pages that the list of free ones has. They need not be in the file. */
  free(first: number, count: number): string | undefined {
    let wrong = this.#requireInBounds(first, count);
    if (wrong !== undefined) return wrong;
    for (let page = first; page < first + count && page < this.#pages; page++) {
      if (has(this.#used, page)) wrong ??= `page ${page} must be used or free. It is both`;
      if (has(this.#free, page)) wrong ??= `page ${page} must be free once. It is listed twice`;
      add(this.#free, page);
    }
    return wrong;
  }

  /** Whether lmdb's last page is in the file, or free and not written yet. */
  isLast(page: number): boolean {
    return page < this.#pages || page === this.#highest;
  }

  /** Pages 0 and 1 are lmdb's meta pages. */
  #requireInBounds(first: number, count: number): string | undefined {
    const last = first + count - 1;
    if (first >= 2 && count >= 1 && last <= this.#lastPage) {
      this.#highest = Math.max(this.#highest, last);
      return undefined;
    }
    return `pages must lie from 2 to ${this.#lastPage}. Received: ${first} to ${last}`;
  }
}

function has(bits: Uint8Array, page: number): boolean {
  return ((bits[page >> 3] as number) & (1 << (page & 7))) !== 0;
}

function add(bits: Uint8Array, page: number): void {
  bits[page >> 3] = (bits[page >> 3] as number) | (1 << (page & 7));
}
