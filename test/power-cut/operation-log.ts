/** The log that shim.c writes, read back: what a process did to the files of a folder, in the order in which it was done. */

export type SyncKind = 'fsync' | 'fdatasync' | 'synced write';

export type Operation =
  /** Opened: a file that was not there before, or one that was, or a folder. Later entries name it by its inode. */
  | { readonly type: 'create' | 'open'; readonly path: string; readonly inode: bigint }
  | { readonly type: 'write'; readonly inode: bigint; readonly offset: number; readonly bytes: Buffer }
  | { readonly type: 'truncate'; readonly inode: bigint; readonly size: number }
  /** Covers what stands in the log before `covered`; a synced write (O_DSYNC) covers the write at `covered`, and no other. */
  | { readonly type: 'sync'; readonly kind: SyncKind; readonly inode: bigint; readonly covered: number }
  | Renaming
  | { readonly type: 'mkdir'; readonly path: string }
  /** Mapped into memory to be written there, which no entry tells of. */
  | { readonly type: 'map'; readonly inode: bigint };

export type Renaming =
  | { readonly type: 'rename' | 'link'; readonly path: string; readonly to: string }
  | { readonly type: 'unlink' | 'rmdir'; readonly path: string };

/** An operation that was finished at a moment. Its place in the log is from `start` to `end`. */
export type Entry = Operation & {
  readonly start: number;
  readonly end: number;
  /** Milliseconds since 1970, with a fraction. */
  readonly time: number;
};

const headerBytes = 32;
const types = [
  'create',
  'open',
  'write',
  'truncate',
  'sync',
  'rename',
  'unlink',
  'link',
  'mkdir',
  'rmdir',
  'map',
  'unsupported',
] as const;
const kinds = ['fsync', 'fdatasync', 'synced write'] as const;

/** The whole entries. A process that was killed may have left the beginning of another one. */
export function readOperationLog(log: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let start = 0; start + headerBytes <= log.length; ) {
    const end = start + log.readUInt32LE(start);
    if (end > log.length) break;
    const time = Number(log.readBigUInt64LE(start + 8)) / 1e6;
    entries.push({ ...readOperation(log.subarray(start, end)), start, end, time });
    start = end;
  }
  return entries;
}

function readOperation(entry: Buffer): Operation {
  const type = types[entry.readUInt8(4) - 1];
  const rest = headerBytes + entry.readUInt16LE(6);
  const path = entry.toString('utf8', headerBytes, rest);
  const inode = entry.readBigUInt64LE(16);
  const value = Number(entry.readBigUInt64LE(24));
  switch (type) {
    case 'create':
    case 'open':
      return { type, path, inode };
    case 'write':
      return { type, inode, offset: value, bytes: entry.subarray(rest) };
    case 'truncate':
      return { type, inode, size: value };
    case 'sync':
      return { type, kind: kinds[entry.readUInt8(5) - 1] as SyncKind, inode, covered: value };
    case 'rename':
    case 'link':
      return { type, path, to: entry.toString('utf8', rest) };
    case 'unlink':
    case 'mkdir':
    case 'rmdir':
      return { type, path };
    case 'map':
      return { type, inode };
    default:
      throw new Error(`the log has an entry that cannot be replayed: ${type} ${path}`);
  }
}
