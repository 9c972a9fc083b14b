/**
 * What one page of lmdb's file says, as of its data version 2. Nothing in it is believed before its bounds are checked, since a
 * damaged page ends the process in which lmdb reads it. Little-endian:
 *
 *      0  8  number of the page          16  2  0
 *      8  8  transaction that wrote it   18  2  flags: branch 1, leaf 2, overflow 4, meta 8
 *     20  2  bytes of pointers           22  2  where the nodes begin, from 24 on; of an overflow page, 4: how many pages
 *     24  2  each: where a node stands, from 24 on; nodes fill the page's end without gaps, each of even length
 *
 * A node: its value's size, or its child's number with the flags above it (4), flags (2), bytes of its key (2), key, value. With
 * flag 1 the value stands in overflow pages, behind the header of their first: number (8), transaction (8), pages (8).
 */

export const headerBytes = 24;
export const metaBytes = 168;
const nodeHeaderBytes = 8;
const overflowBytes = 24;
const magic = 0xbeef_c0de;
const version = 2;
const noPage = 2n ** 64n - 1n;

export const pageFlags = { branch: 1, leaf: 2, overflow: 4, meta: 8 } as const;
const bigFlag = 1;

/** What a page cannot say. */
export class PageFault extends Error {
  override readonly name = 'PageFault';
}

export interface Header {
  readonly number: number;
  readonly transaction: number;
  readonly pad: number;
  readonly flags: number;
}

/** A tree as a meta page describes it. */
export interface Tree {
  readonly pad: number;
  readonly flags: number;
  readonly depth: number;
  readonly branches: number;
  readonly leaves: number;
  readonly overflow: number;
  readonly entries: number;
  /** `undefined`: it is empty. */
  readonly root: number | undefined;
}

export interface Meta {
  readonly free: Tree;
  readonly main: Tree;
  readonly lastPage: number;
  readonly transaction: number;
}

export interface Node {
  readonly key: Buffer;
  readonly flags: number;
  /** Of the value; of a branch's node, the child's number. */
  readonly size: number;
  /** In the page: the value, or where its overflow pages are. */
  readonly value: Buffer;
}

export interface Overflow {
  readonly page: number;
  readonly transaction: number;
  readonly pages: number;
}

/** Beyond 2^53 it is inexact, and far out of any bounds. */
function readNumber(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

/** Of a page's first `headerBytes` bytes. */
export function readHeader(bytes: Buffer): Header {
  return {
    number: readNumber(bytes, 0),
    transaction: readNumber(bytes, 8),
    pad: bytes.readUInt16LE(16),
    flags: bytes.readUInt16LE(18),
  };
}

/** How many pages an overflow page begins. */
export function overflowPages(bytes: Buffer): number {
  return bytes.readUInt32LE(20);
}

/** The page size that a meta page claims. */
export function claimedPageSize(bytes: Buffer): number {
  return bytes.readUInt32LE(48);
}

/** Of a meta page's first `metaBytes` bytes, that stands at `number`. Throws `PageFault` where it is none. */
export function readMeta(bytes: Buffer, number: number, pageSize: number): Meta {
  const header = readHeader(bytes);
  const isWhole =
    header.number === number &&
    header.transaction === 0 &&
    header.pad === 0 &&
    header.flags === pageFlags.meta &&
    bytes.readUInt32LE(20) === 0 &&
    bytes.readUInt32LE(24) === magic &&
    bytes.readUInt32LE(28) === version &&
    readNumber(bytes, 32) === 0 &&
    claimedPageSize(bytes) === pageSize;
  if (!isWhole)
    throw new PageFault(`page ${number} must be a header of lmdb's, of its version ${version}. It is something else`);
  return {
    free: readTree(bytes, 48),
    main: readTree(bytes, 96),
    lastPage: readNumber(bytes, 144),
    transaction: readNumber(bytes, 152),
  };
}

function readTree(bytes: Buffer, at: number): Tree {
  return {
    pad: bytes.readUInt32LE(at),
    flags: bytes.readUInt16LE(at + 4),
    depth: bytes.readUInt16LE(at + 6),
    branches: readNumber(bytes, at + 8),
    leaves: readNumber(bytes, at + 16),
    overflow: readNumber(bytes, at + 24),
    entries: readNumber(bytes, at + 32),
    root: bytes.readBigUInt64LE(at + 40) === noPage ? undefined : readNumber(bytes, at + 40),
  };
}

/**
 * The nodes of a page, views of it, as far as they lie within it; `fault` says what is wrong with them. What a value is must
 * then be seen from itself.
 */
export function readNodes(page: Buffer, isBranch: boolean): { nodes: Node[]; fault: string | undefined } {
  const body = page.subarray(headerBytes);
  const lower = page.readUInt16LE(20);
  const upper = page.readUInt16LE(22);
  let fault: string | undefined;
  if (lower % 2 !== 0 || lower > upper || upper > body.length)
    fault = `its nodes must begin behind its pointers. Received: ${lower} and ${upper}`;
  const count = Math.min(lower, body.length) >> 1;
  const nodes: Node[] = [];
  const ends = new Map<number, number>();
  for (let k = 0; k < count; k++) {
    const at = body.readUInt16LE(2 * k);
    // Before the first one there are remains of those that were removed.
    const node = at < upper ? undefined : readNode(body, at, isBranch);
    if (node === undefined) fault ??= `its nodes must lie within it. Node ${k} does not`;
    else {
      nodes.push(node);
      const length = nodeHeaderBytes + node.key.length + node.value.length;
      ends.set(at, at + length + (length % 2));
    }
  }
  fault ??= gapBetween(ends, count, upper, body.length);
  return { nodes, fault };
}

function readNode(body: Buffer, at: number, isBranch: boolean): Node | undefined {
  if (at + nodeHeaderBytes > body.length) return undefined;
  const low = body.readUInt32LE(at);
  const flags = body.readUInt16LE(at + 4);
  const keyAt = at + nodeHeaderBytes;
  const valueAt = keyAt + body.readUInt16LE(at + 6);
  const inPage = isBig(flags) ? overflowBytes : low;
  const end = isBranch ? valueAt : valueAt + inPage;
  if (end > body.length) return undefined;
  const key = body.subarray(keyAt, valueAt);
  return isBranch
    ? { key, flags: 0, size: low + flags * 2 ** 32, value: body.subarray(valueAt, valueAt) }
    : { key, flags, size: low, value: body.subarray(valueAt, end) };
}

/** Nodes, by where they begin, must fill the end of the page. */
function gapBetween(ends: ReadonlyMap<number, number>, count: number, upper: number, end: number): string | undefined {
  const rule = 'its nodes must fill its end, one behind the other';
  let at = upper;
  for (let k = 0; k < count; k++) {
    const next = ends.get(at);
    if (next === undefined) return `${rule}. There is none at ${at}`;
    at = next;
  }
  return at === end ? undefined : `${rule}. They end at ${at}`;
}

export function isBig(flags: number): boolean {
  return (flags & bigFlag) !== 0;
}

/** Where the value of a node with that flag is. */
export function overflowOf({ value }: Node): Overflow {
  return { page: readNumber(value, 0), transaction: readNumber(value, 8), pages: readNumber(value, 16) };
}

/** The pages that a value of so many bytes takes. */
export function pagesFor(bytes: number, pageSize: number): number {
  return Math.floor((headerBytes - 1 + bytes) / pageSize) + 1;
}
