/**
 * One record of the journal: one change to a session. Little-endian; it is stored as one piece, or as its head and then its
 * data in pieces.
 *
 *      0  4  "AJ1" and the kind of change, a letter
 *      4  4  checksum of the session's record before this one, 0 for the first: the chain
 *      8  8  revision of the session after the change, a float64
 *     16  8  revision before it
 *     24  8  iterations after it
 *     32  4  bytes of description
 *     36  8  bytes of data, a float64
 *     44  4  CRC-32 of the data
 *     48  4  CRC-32 of the 48 bytes before and of the description: the record's checksum
 *     52     description, UTF-8 JSON; then the data
 *
 * What a description says is in changes.ts.
 */
import { crc32 } from 'node:zlib';

export const kinds = {
  create: 'c',
  gradients: 'g',
  assign: 'a',
  patch: 'p',
  restore: 'r',
  resume: 's',
  delete: 'd',
} as const;
export type Kind = keyof typeof kinds;

export interface RecordHead {
  readonly kind: Kind;
  /** The checksum of the session's record before. */
  readonly chain: number;
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
const fixedBytes = 52;
const kindOf = new Map(Object.entries(kinds).map(([kind, letter]) => [letter.charCodeAt(0), kind as Kind]));

/** The head's bytes, and the checksum that the next record carries. */
export function encodeHead(head: RecordHead): { bytes: Buffer; checksum: number } {
  const description = JSON.stringify(head.description);
  const descriptionBytes = Buffer.byteLength(description);
  const bytes = Buffer.allocUnsafe(fixedBytes + descriptionBytes);
  bytes.writeUInt32LE(magic, 0);
  bytes.writeUInt8(kinds[head.kind].charCodeAt(0), 3);
  bytes.writeUInt32LE(head.chain, 4);
  bytes.writeDoubleLE(head.revision, 8);
  bytes.writeDoubleLE(head.previous, 16);
  bytes.writeDoubleLE(head.iterations, 24);
  bytes.writeUInt32LE(descriptionBytes, 32);
  bytes.writeDoubleLE(head.dataBytes, 36);
  bytes.writeUInt32LE(head.dataChecksum, 44);
  bytes.write(description, fixedBytes);
  const checksum = checksumOf(bytes);
  bytes.writeUInt32LE(checksum, 48);
  return { bytes, checksum };
}

/** Reads the head that `bytes` begins with. Throws an error that says what is wrong with it. */
export function decodeHead(bytes: Buffer): ReadHead {
  if (bytes.length < fixedBytes)
    throw new Error(`a record must have at least ${fixedBytes} bytes. It has ${bytes.length}`);
  const kind = kindOf.get(bytes.readUInt8(3));
  const headBytes = fixedBytes + bytes.readUInt32LE(32);
  const checksum = bytes.readUInt32LE(48);
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
    revision: bytes.readDoubleLE(8),
    previous: bytes.readDoubleLE(16),
    iterations: bytes.readDoubleLE(24),
    description: JSON.parse(bytes.toString('utf8', fixedBytes, headBytes)),
    dataBytes: bytes.readDoubleLE(36),
    dataChecksum: bytes.readUInt32LE(44),
    checksum,
    bytes: headBytes,
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
  return crc32(head.subarray(fixedBytes), crc32(head.subarray(0, 48)));
}
