/**
 * One record of the journal: one change to a session. Little-endian; it is stored as one piece, or as its head and then its
 * data in pieces.
 *
 *      0  4  "AJ1" and the kind of change, a letter
 *      4  4  checksum of the session's record before this one, 0 for the first: the chain
 *      8  8  session
 *     16  8  revision of the session after the change, a float64
 *     24  8  revision before it
 *     32  8  iterations after it
 *     40  4  bytes of description
 *     44  8  bytes of data, a float64
 *     52  4  CRC-32 of the data
 *     56  4  CRC-32 of the 56 bytes before and of the description: the record's checksum
 *     60     description, UTF-8 JSON; then the data
 *
 * What a description says is in changes.ts. Session and revision are in the key that it is stored under too; they stand here
 * as well so that a record under another key than its own is noticed.
 */
import { crc32 } from 'node:zlib';
import type { SessionId } from './journal-entries.ts';

export const kinds = {
  create: 'c',
  gradients: 'g',
  assign: 'a',
  patch: 'p',
  restore: 'r',
  resume: 's',
  worker: 'w',
  delete: 'd',
} as const;
export type Kind = keyof typeof kinds;

export interface RecordHead {
  readonly kind: Kind;
  /** The checksum of the session's record before. */
  readonly chain: number;
  readonly session: SessionId;
  readonly revision: number;
  readonly previous: number;
  readonly iterations: number;
  readonly description: unknown;
  readonly dataBytes: number;
  readonly dataChecksum: number;
}

export interface ReadHead extends RecordHead {
  readonly checksum: number;
  /** Of the head, where the data begins. */
  readonly bytes: number;
}

const magic = 0x00314a41;
const fixedBytes = 60;
const summedBytes = fixedBytes - 4;
const kindOf = new Map(Object.entries(kinds).map(([kind, letter]) => [letter.charCodeAt(0), kind as Kind]));

/** The head's bytes, and the checksum that the next record carries. */
export function encodeHead(head: RecordHead): { bytes: Buffer; checksum: number } {
  const description = JSON.stringify(head.description);
  const descriptionBytes = Buffer.byteLength(description);
  const bytes = Buffer.allocUnsafe(fixedBytes + descriptionBytes);
  bytes.writeUInt32LE(magic, 0);
  bytes.writeUInt8(kinds[head.kind].charCodeAt(0), 3);
  bytes.writeUInt32LE(head.chain, 4);
  head.session.copy(bytes, 8, 0, 8);
  bytes.writeDoubleLE(head.revision, 16);
  bytes.writeDoubleLE(head.previous, 24);
  bytes.writeDoubleLE(head.iterations, 32);
  bytes.writeUInt32LE(descriptionBytes, 40);
  bytes.writeDoubleLE(head.dataBytes, 44);
  bytes.writeUInt32LE(head.dataChecksum, 52);
  bytes.write(description, fixedBytes);
  const checksum = checksumOf(bytes);
  bytes.writeUInt32LE(checksum, summedBytes);
  return { bytes, checksum };
}

/** Reads the head that `bytes` begins with. Throws an error that says what is wrong with it. */
export function decodeHead(bytes: Buffer): ReadHead {
  if (bytes.length < fixedBytes)
    throw new Error(`a record must have at least ${fixedBytes} bytes. It has ${bytes.length}`);
  const kind = kindOf.get(bytes.readUInt8(3));
  const headBytes = fixedBytes + bytes.readUInt32LE(40);
  const checksum = bytes.readUInt32LE(summedBytes);
  if (
    (bytes.readUInt32LE(0) & 0xff_ffff) !== magic ||
    headBytes > bytes.length ||
    checksumOf(bytes.subarray(0, headBytes)) !== checksum
  ) {
    throw new Error('a record must have the checksum that it carries. It has another');
  }
  if (kind === undefined) throw new Error(`a record must be of a known kind. Received: ${bytes.readUInt8(3)}`);
  return {
    kind,
    chain: bytes.readUInt32LE(4),
    session: Buffer.from(bytes.subarray(8, 16)),
    revision: bytes.readDoubleLE(16),
    previous: bytes.readDoubleLE(24),
    iterations: bytes.readDoubleLE(32),
    description: JSON.parse(bytes.toString('utf8', fixedBytes, headBytes)),
    dataBytes: bytes.readDoubleLE(44),
    dataChecksum: bytes.readUInt32LE(52),
    checksum,
    bytes: headBytes,
  };
}

/** What a record's head says before its description, its checksum not looked at; `undefined` where it is no head at all. */
export function glanceAt(
  bytes: Buffer,
): { session: SessionId; revision: number; headBytes: number; dataBytes: number } | undefined {
  if (bytes.length < fixedBytes || (bytes.readUInt32LE(0) & 0xff_ffff) !== magic) return undefined;
  return {
    session: bytes.subarray(8, 16),
    revision: bytes.readDoubleLE(16),
    headBytes: fixedBytes + bytes.readUInt32LE(40),
    dataBytes: bytes.readDoubleLE(44),
  };
}

/** Throws an error where the data are not those that the head was made for. */
export function checkData({ dataBytes, dataChecksum }: RecordHead, data: Uint8Array): void {
  if (data.length !== dataBytes)
    throw new Error(`a record must have ${dataBytes} bytes of data. It has ${data.length}`);
  if (crc32(data) !== dataChecksum)
    throw new Error('the data of a record must have the checksum that it carries. They have another');
}

function checksumOf(head: Buffer): number {
  return crc32(head.subarray(fixedBytes), crc32(head.subarray(0, summedBytes)));
}
