/**
 * Where things lie in a file of lmdb's, read off its pages: what the newest transaction uses of them, and within that the values
 * of entries. As of lmdb's data version 2, little-endian: a page's header has 24 bytes, with flags at 18, and 2 bytes for each
 * node behind it; a node has its size or child (4, and 2 of flags), the length of its key (2), the key and the value.
 */

export interface Extent {
  readonly at: number;
  readonly bytes: number;
}

export const pageBytes = 4096;
const headerBytes = 24;
/** Of a meta page, behind which nothing is used. */
const metaBytes = 168;
const [branchFlag, overflowNode] = [0x01, 0x01];

/** Where the newer of the two meta pages stands, and the roots that it has of the free pages' tree and of the entries'. */
export function newestMeta(file: Buffer): { at: number; free: number; main: number } {
  const metas = [0, pageBytes].map((at) => ({ at, transaction: Number(file.readBigUInt64LE(at + 152)) }));
  const { at } = metas.sort((a, b) => b.transaction - a.transaction)[0] as { at: number };
  return { at, free: Number(file.readBigInt64LE(at + 88)), main: Number(file.readBigInt64LE(at + 136)) };
}

/** What the newest transaction uses, of the two meta pages too, but for overflow pages; and the values in it. */
export function inUse(file: Buffer): { used: Extent[]; values: Extent[] } {
  const used = [0, 1].map((page) => ({ at: page * pageBytes, bytes: metaBytes }));
  const values: Extent[] = [];
  const { free, main } = newestMeta(file);
  const walk = (page: number, isEntries: boolean): void => {
    const begin = page * pageBytes;
    const upper = headerBytes + file.readUInt16LE(begin + 22);
    used.push({ at: begin, bytes: headerBytes + file.readUInt16LE(begin + 20) });
    used.push({ at: begin + upper, bytes: pageBytes - upper });
    const isBranch = (file.readUInt16LE(begin + 18) & branchFlag) !== 0;
    const count = file.readUInt16LE(begin + 20) / 2;
    for (let k = 0; k < count; k++) {
      const at = begin + headerBytes + file.readUInt16LE(begin + headerBytes + 2 * k);
      const low = file.readUInt32LE(at);
      const flags = file.readUInt16LE(at + 4);
      const value = at + 8 + file.readUInt16LE(at + 6);
      if (isBranch) walk(low + flags * 2 ** 32, isEntries);
      else if ((flags & overflowNode) === 0 && isEntries) values.push({ at: value, bytes: low });
    }
  };
  for (const root of [free, main]) if (root >= 0) walk(root, root !== free);
  return { used, values };
}
