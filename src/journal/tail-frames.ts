/**
 * The frames of the tail's files (tail.ts), and how they are read after a crash. Each holds one record of the journal, with
 * the idempotency keys that it came with. Little-endian:
 *
 *      0  4  "TAIL"
 *      4  8  tag: random, another one whenever the file is begun anew
 *     12  8  session
 *     20  4  bytes of the idempotency keys, 0: none; the highest bit is set where each stands behind its length (4 bytes)
 *     24  4  bytes of the record's head
 *     28  8  bytes of its data, a float64
 *     36  8  number: they count up over both files, a float64
 *     44  8  number of the first frame that lmdb did not have when this one was written
 *     52  8  number of the last one that was fsynced then
 *     60  4  CRC-32 of the 60 bytes before
 *     64     keys, head, data, each with its own checksum
 *
 * A file is written over from its beginning, so behind its last frame there may be others, whole or not, of another tag.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { SessionId } from './journal-entries.ts';
import { checkData, decodeHead, type ReadHead } from './record.ts';

export interface TailFrame {
  readonly session: SessionId;
  readonly keys: readonly Buffer[];
  readonly head: Buffer;
  readonly data: readonly Uint8Array[];
}

export interface LeftFrame {
  readonly session: SessionId;
  readonly keys: readonly Buffer[];
  readonly head: ReadHead;
  readonly headBytes: Buffer;
  readonly data: Buffer;
}

/** What a process that was killed has left. */
export interface Left {
  readonly bytes: number;
  /** The sessions of frames that must be there and cannot be read; `undefined` where even that cannot. */
  readonly lost: readonly (SessionId | undefined)[];
  /** Those that can be read, by number. */
  frames(): AsyncGenerator<LeftFrame>;
  close(): Promise<void>;
}

/** Where the header of a frame stands. */
interface Place {
  readonly file: FileHandle;
  readonly at: number;
  readonly header: Buffer;
}

const magic = Buffer.from('TAIL', 'latin1');
const headerBytes = 64;
const severalKeys = 2 ** 31;
const windowBytes = 1024 * 1024;

export interface Numbering {
  readonly tag: Buffer;
  readonly number: number;
  readonly needed: number;
  readonly synced: number;
}

/** The pieces of a frame, in order. */
export function encodeFrame({ session, keys, head, data }: TailFrame, numbering: Numbering): Uint8Array[] {
  const keyBytes = encodeKeys(keys);
  const header = Buffer.allocUnsafe(headerBytes);
  magic.copy(header, 0);
  numbering.tag.copy(header, 4);
  session.copy(header, 12);
  header.writeUInt32LE((keyBytes.length | (keys.length > 1 ? severalKeys : 0)) >>> 0, 20);
  header.writeUInt32LE(head.length, 24);
  header.writeDoubleLE(
    data.reduce((sum, { length }) => sum + length, 0),
    28,
  );
  header.writeDoubleLE(numbering.number, 36);
  header.writeDoubleLE(numbering.needed, 44);
  header.writeDoubleLE(numbering.synced, 52);
  header.writeUInt32LE(crc32(header.subarray(0, 60)), 60);
  return [header, keyBytes, head, ...data].filter(({ length }) => length > 0);
}

function encodeKeys(keys: readonly Buffer[]): Buffer {
  if (keys.length <= 1) return keys[0] ?? Buffer.alloc(0);
  return Buffer.concat(
    keys.flatMap((key) => {
      const length = Buffer.allocUnsafe(4);
      length.writeUInt32LE(key.length);
      return [length, key];
    }),
  );
}

function decodeKeys(bytes: Buffer, header: Buffer): Buffer[] {
  if (header.readUInt32LE(20) < severalKeys) return bytes.length === 0 ? [] : [bytes];
  const keys: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at);
    keys.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return keys;
}

const tagOf = (header: Buffer) => header.subarray(4, 12);
const sessionOf = (header: Buffer) => Buffer.from(header.subarray(12, 20));
const keyBytesOf = (header: Buffer) => header.readUInt32LE(20) % severalKeys;
const bytesOf = (header: Buffer) => keyBytesOf(header) + header.readUInt32LE(24) + header.readDoubleLE(28);
const numberOf = (header: Buffer) => header.readDoubleLE(36);

/** Of these files, as far as they are there. */
export async function readLeft(paths: readonly string[]): Promise<Left> {
  const files = (await Promise.all(paths.map(openIfThere))).filter((file) => file !== undefined);
  const places = (await Promise.all(files.map(placesIn))).flat();
  places.sort((a, b) => numberOf(a.header) - numberOf(b.header));
  const sizes = await Promise.all(files.map(async (file) => (await file.stat()).size));
  return {
    bytes: sizes.reduce((sum, size) => sum + size, 0),
    lost: await lostOf(places),
    async *frames() {
      for (const place of places) {
        const frame = await frameAt(place);
        if (frame !== undefined) yield frame;
      }
    },
    async close() {
      for (const file of files) await file.close();
    },
  };
}

async function lostOf(places: readonly Place[]): Promise<(SessionId | undefined)[]> {
  const last = places.at(-1)?.header;
  if (last === undefined) return [];
  const byNumber = new Map(places.map((place) => [numberOf(place.header), place]));
  const lost: (SessionId | undefined)[] = [];
  for (let number = last.readDoubleLE(44); number <= last.readDoubleLE(52); number++) {
    const place = byNumber.get(number);
    if (place === undefined || (await frameAt(place)) === undefined) lost.push(place && sessionOf(place.header));
  }
  return lost;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The headers of the frames that follow each other from the beginning, those behind one that is damaged too. */
async function placesIn(file: FileHandle): Promise<Place[]> {
  const places: Place[] = [];
  let tag: Buffer | undefined;
  for (let at = 0; ; ) {
    const header = await nextHeader(file, at, tag);
    if (header === undefined) return places;
    tag ??= tagOf(header.bytes);
    places.push({ file, at: header.at, header: header.bytes });
    at = header.at + headerBytes + bytesOf(header.bytes);
  }
}

/** The first header from `start` on, which is there unless something is damaged. */
async function nextHeader(
  file: FileHandle,
  start: number,
  tag: Buffer | undefined,
): Promise<{ at: number; bytes: Buffer } | undefined> {
  const begin = tag === undefined ? magic : Buffer.concat([magic, tag]);
  for (let from = start, length = headerBytes; ; length = windowBytes) {
    const window = Buffer.allocUnsafe(length);
    const { bytesRead } = await file.read(window, 0, length, from);
    if (bytesRead < headerBytes) return undefined;
    const filled = window.subarray(0, bytesRead);
    for (let at = filled.indexOf(begin); at >= 0 && at + headerBytes <= bytesRead; at = filled.indexOf(begin, at + 1)) {
      const bytes = filled.subarray(at, at + headerBytes);
      if (bytes.readUInt32LE(60) === crc32(bytes.subarray(0, 60))) return { at: from + at, bytes: Buffer.from(bytes) };
    }
    // Half a header may stand at the end.
    from += bytesRead - headerBytes + 1;
  }
}

/** `undefined` where not all of it is as it was written. */
async function frameAt({ file, at, header }: Place): Promise<LeftFrame | undefined> {
  const keyBytes = keyBytesOf(header);
  const dataAt = keyBytes + header.readUInt32LE(24);
  const bytes = bytesOf(header);
  if (at + headerBytes + bytes > (await file.stat()).size) return undefined;
  const rest = Buffer.allocUnsafeSlow(bytes);
  for (let from = 0; from < bytes; ) {
    const { bytesRead } = await file.read(rest, from, bytes - from, at + headerBytes + from);
    if (bytesRead === 0) return undefined;
    from += bytesRead;
  }
  const headBytes = rest.subarray(keyBytes, dataAt);
  const data = rest.subarray(dataAt);
  try {
    const head = decodeHead(headBytes);
    checkData(head, data);
    if (!head.session.equals(sessionOf(header))) return undefined;
    const keys = decodeKeys(rest.subarray(0, keyBytes), header);
    return { session: sessionOf(header), keys, head, headBytes, data };
  } catch {
    return undefined;
  }
}
