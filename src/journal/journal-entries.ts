/** How the journal's entries are named, and how lmdb is opened. */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';

/** Of a session, 8 bytes, drawn when it is created. */
export type SessionId = Buffer;

export const journalFormat = 'adamax-journal/1';
/** The key that the format stands under. */
export const formatKey: Buffer = Buffer.from([0]);

/** Address space only; the file grows as it is needed. */
const mapBytes = 2 ** 40;
/** A commit is fsynced when it is over, and fails for its own caller alone. */
export const databaseOptions = {
  encoding: 'binary',
  keyEncoding: 'binary',
  compression: false,
  overlappingSync: false,
  eventTurnBatching: false,
  noSubdir: true,
  mapSize: mapBytes,
  maxDbs: 1,
} as const;

/** What an entry is. */
export const recordPrefix = 1;
export const keyPrefix = 2;

export function entryKey(prefix: number, session: SessionId, number: number): Buffer {
  assert(number >= 0, 'negative numbers do not sort before others');
  const key = Buffer.allocUnsafe(17);
  key[0] = prefix;
  session.copy(key, 1);
  key.writeDoubleBE(number, 9);
  return key;
}

export function numberOf(key: Buffer): number {
  return key.readDoubleBE(9);
}

/** The first key that can come behind this one. */
export function behind(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.alloc(1)]);
}

/** Of all entries behind number `after`; a negative one is before all. */
export function range(prefix: number, session: SessionId, after: number): { start: Buffer; end: Buffer } {
  return {
    start: after < 0 ? entryKey(prefix, session, 0) : behind(entryKey(prefix, session, after)),
    end: entryKey(prefix, session, Number.POSITIVE_INFINITY),
  };
}

export const sealBytes = 4;

/** A value with the CRC-32 of its key and itself before it, little-endian: under another key than its own it is noticed. */
export function seal(key: Buffer, value: Buffer): Buffer {
  const sealed = Buffer.allocUnsafe(sealBytes + value.length);
  sealed.writeUInt32LE(crc32(value, crc32(key)), 0);
  value.copy(sealed, sealBytes);
  return sealed;
}

export function isSealed(key: Buffer, value: Buffer): boolean {
  return value.length >= sealBytes && value.readUInt32LE(0) === crc32(value.subarray(sealBytes), crc32(key));
}
