/**
 * A walk over one tree of lmdb's file, from its root: every page must be what the one above it says, every key within its bounds,
 * and all together what the meta page says of the tree. What is not is named with the range of keys that it concerns, and the walk
 * goes on with the rest.
 */
import {
  type Header,
  headerBytes,
  isBig,
  type Node,
  overflowOf,
  overflowPages,
  PageFault,
  pageFlags,
  pagesFor,
  readHeader,
  readNodes,
  type Tree,
} from './lmdb-page.ts';
import type { PageFile } from './page-file.ts';
import type { PageUse } from './page-use.ts';

/** Of keys, both ends included; without an end where it is open. */
export interface Range {
  readonly low: Buffer | undefined;
  readonly high: Buffer | undefined;
}

export interface Fault {
  readonly reason: string;
  /** The keys that are concerned, if any are. */
  readonly range: Range | undefined;
}

/** Views that are good until the next entry. */
export interface FoundEntry {
  readonly key: Buffer;
  /** Bytes of the value. */
  readonly size: number;
  /** All of the value, or its beginning where it stands in overflow pages. */
  readonly start: Buffer;
  /** The first of its overflow pages. */
  readonly overflow: number | undefined;
}

export const all: Range = { low: undefined, high: undefined };
const depthMax = 32;
/** Read of a value in overflow pages. */
const startBytes = 128;

export class TreeWalk {
  /** When the walk is over: whether the root is not what it was, so that it does not lead to all entries. */
  isLost = false;
  readonly #file: PageFile;
  readonly #tree: Tree;
  readonly #use: PageUse;
  readonly #transaction: number;
  readonly #onFault: (fault: Fault) => void;
  /** The page of each depth. */
  readonly #buffers: Buffer[] = [];
  readonly #start: Buffer;
  /** Of keys as lmdb sorts them. */
  readonly #sortable: (key: Buffer) => Buffer;
  #depth: number | undefined;
  #faults = 0;
  #isRootWrong = false;
  #branches = 0;
  #leaves = 0;
  #overflow = 0;
  #entries = 0;

  /** `transaction`: the last one. `sortable`: a key as bytes that sort as lmdb sorts it. */
  constructor(
    file: PageFile,
    tree: Tree,
    transaction: number,
    use: PageUse,
    onFault: (fault: Fault) => void,
    sortable: (key: Buffer) => Buffer = (key) => key,
  ) {
    this.#file = file;
    this.#tree = tree;
    this.#transaction = transaction;
    this.#use = use;
    this.#onFault = onFault;
    this.#sortable = sortable;
    this.#start = Buffer.alloc(headerBytes + startBytes);
  }

  /** In order, as far as the tree is in order. */
  *entries(): Generator<FoundEntry> {
    const { root, ...told } = this.#tree;
    if (root !== undefined) yield* this.#page(root, 1, all, this.#transaction);
    const found = {
      depth: this.#depth ?? 0,
      branches: this.#branches,
      leaves: this.#leaves,
      overflow: this.#overflow,
      entries: this.#entries,
    };
    this.isLost = this.#isRootWrong && found.entries !== told.entries;
    // Where pages are missing, so are their numbers.
    if (this.#faults > 0) return;
    for (const [what, count] of Object.entries(found) as [keyof typeof found, number][])
      if (told[what] !== count)
        this.#fault(`a tree must have the ${what} that lmdb counts, ${told[what]}. Found: ${count}`, all);
  }

  *#page(number: number, depth: number, range: Range, transaction: number): Generator<FoundEntry> {
    const page = this.#read(number, depth, range);
    if (page === undefined) return;
    const header = readHeader(page);
    this.#judgeHeader(header, number, transaction, range);
    const { flags } = header;
    if ((flags !== pageFlags.branch && flags !== pageFlags.leaf) || depth > depthMax) {
      this.#fault(`page ${number} must be a branch or a leaf. It has flags ${flags} at depth ${depth}`, range);
      return;
    }
    const isBranch = flags === pageFlags.branch;
    const { nodes, fault } = readNodes(page, isBranch);
    if (fault !== undefined) this.#fault(`page ${number} must be whole: ${fault}`, range);
    const keys = nodes.map(({ key }) => this.#sortable(key));
    // lmdb does not look at the first key of a branch.
    const compared = isBranch ? keys.slice(1) : keys;
    const isElsewhere = !compared.some((key) => isWithin(key, range)) && (compared.length > 0 || nodes.length === 0);
    if (isElsewhere) {
      this.#fault(`page ${number} must have keys between those above it. It has none`, spanOf(range, compared));
      return;
    }
    const isAgain = this.#use.isUsed(number);
    const used = this.#use.take(number, 1);
    if (used !== undefined) this.#fault(used, range);
    if (isAgain && isBranch) return;
    const isInOrder = compared.every((key, k) => {
      const before = compared[k - 1];
      return isWithin(key, range) && (before === undefined || Buffer.compare(before, key) < 0);
    });
    if (!isInOrder)
      this.#fault(
        `page ${number} must have its keys in order, between those above it. It has not`,
        spanOf(range, compared),
      );
    if (isBranch) {
      this.#branches++;
      for (const [k, { size }] of nodes.entries()) {
        const low = k === 0 ? range.low : keys[k];
        const own = isInOrder ? { low, high: keys[k + 1] ?? range.high } : range;
        yield* this.#page(size, depth + 1, own, header.transaction);
      }
      return;
    }
    this.#leaves++;
    this.#depth ??= depth;
    if (this.#depth !== depth)
      this.#fault(`leaves must all have the same depth, ${this.#depth}. Page ${number} has ${depth}`, range);
    for (const [k, node] of nodes.entries()) {
      this.#entries++;
      yield* this.#entry(node, keys[k] as Buffer, header.transaction);
    }
  }

  *#entry(node: Node, key: Buffer, transaction: number): Generator<FoundEntry> {
    const own = { low: key, high: key };
    const { flags, size, value } = node;
    if (flags > 1) this.#fault(`an entry must have flags 0 or 1. Received: ${flags}`, own);
    if (!isBig(flags)) {
      yield { key: node.key, size, start: value, overflow: undefined };
      return;
    }
    const place = overflowOf(node);
    const pages = pagesFor(size, this.#file.pageSize);
    this.#overflow += pages;
    try {
      this.#file.require(place.page, pages);
      const wanted = this.#start.subarray(0, Math.min(headerBytes + size, this.#start.length));
      const start = this.#file.read(place.page, wanted);
      const header = readHeader(start);
      const isWhole =
        header.number === place.page &&
        header.pad === 0 &&
        header.flags === pageFlags.overflow &&
        header.transaction === place.transaction &&
        place.transaction <= transaction &&
        place.pages === pages &&
        overflowPages(start) === pages;
      if (!isWhole) this.#fault(`page ${place.page} must begin ${pages} pages of a value. It says something else`, own);
      const used = this.#use.take(place.page, pages);
      if (used !== undefined) this.#fault(used, own);
      // One of the two may be wrong; if both are, the size is.
      if (pages === place.pages || pages === overflowPages(start))
        yield { key: node.key, size, start: start.subarray(headerBytes), overflow: place.page };
    } catch (error) {
      if (!(error instanceof PageFault)) throw error;
      this.#fault(error.message, own);
    }
  }

  #read(number: number, depth: number, range: Range): Buffer | undefined {
    this.#buffers[depth] ??= Buffer.alloc(this.#file.pageSize);
    try {
      return this.#file.read(number, this.#buffers[depth]);
    } catch (error) {
      if (!(error instanceof PageFault)) throw error;
      this.#fault(error.message, range);
      return undefined;
    }
  }

  /** No page is newer than the one above it, since that was written with it. */
  #judgeHeader({ number, transaction, pad }: Header, at: number, above: number, range: Range): void {
    if (number !== at) this.#fault(`page ${at} must have its number. It has ${number}`, range);
    // The root is written by every transaction.
    if (transaction > above || (range === all && transaction !== above) || pad !== 0)
      this.#fault(`page ${at} must be of transaction ${above} or before. It is of ${transaction}`, range);
  }

  #fault(reason: string, range: Range): void {
    const { low, high } = range;
    this.#faults++;
    if (range === all) this.#isRootWrong = true;
    this.#onFault({ reason, range: { low: low && Buffer.from(low), high: high && Buffer.from(high) } });
  }
}

/** A range with these keys too, which may be where they are for good reason, and the range is wrong. */
function spanOf(range: Range, keys: readonly Buffer[]): Range {
  const sorted = [...keys].sort(Buffer.compare);
  const [low = range.low, high = range.high] = [sorted[0], sorted.at(-1)];
  return {
    low: range.low && low && (Buffer.compare(low, range.low) < 0 ? low : range.low),
    high: range.high && high && (Buffer.compare(high, range.high) > 0 ? high : range.high),
  };
}

/** A page's keys are below the next page's first. */
function isWithin(key: Buffer, { low, high }: Range): boolean {
  return (low === undefined || Buffer.compare(key, low) >= 0) && (high === undefined || Buffer.compare(key, high) < 0);
}
