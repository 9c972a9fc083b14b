/** A record reads as it was written, and whatever else than what was written is noticed: every byte, every length. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { checkData, decodeHead, encodeHead, type Kind, kinds, type RecordHead } from '../../src/journal/record.ts';

const data = Buffer.from('some data, of which every byte counts');
const head: RecordHead = {
  kind: 'gradients',
  chain: 0xdead_beef,
  session: Buffer.from('0123456789abcdef', 'hex'),
  revision: 2 ** 40 + 3,
  previous: 2 ** 40 + 2,
  iterations: 17,
  description: [['größe', 'BF16', [3, 2], 'I64', 3]],
  dataBytes: data.length,
  dataChecksum: crc32(data),
};

/** As whoever reads a record does: head and data, one behind the other. */
function readWhole(bytes: Buffer): void {
  const read = decodeHead(bytes);
  checkData(read, bytes.subarray(read.bytes));
}

function encodeWhole(): Buffer {
  return Buffer.concat([encodeHead(head).bytes, data]);
}

describe('a record', () => {
  test('reads as it was written, with what follows it', () => {
    const kindsOfRecords = Object.keys(kinds) as Kind[];
    const uint32 = fc.nat(0xffff_ffff);
    const heads = fc.record({
      kind: fc.constantFrom(...kindsOfRecords),
      chain: uint32,
      session: fc.uint8Array({ minLength: 8, maxLength: 8 }).map((bytes) => Buffer.from(bytes)),
      revision: fc.maxSafeNat(),
      previous: fc.maxSafeNat(),
      iterations: fc.maxSafeNat(),
      description: fc.jsonValue(),
      dataBytes: fc.maxSafeNat(),
      dataChecksum: uint32,
    });
    fc.assert(
      fc.property(heads, fc.uint8Array({ maxLength: 40 }), (given, behind) => {
        const { bytes, checksum } = encodeHead(given);
        const read = decodeHead(Buffer.concat([bytes, behind]));
        // JSON has no -0.
        const description = JSON.parse(JSON.stringify(given.description));
        assert.deepEqual(read, { ...given, description, checksum, bytes: bytes.length });
      }),
    );
  });

  test('with any bit of any byte flipped, of its head or its data, is noticed', () => {
    const whole = encodeWhole();
    readWhole(whole);
    for (let at = 0; at < whole.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const hurt = Buffer.from(whole);
        hurt[at] = (hurt[at] as number) ^ (1 << bit);
        assert.throws(() => readWhole(hurt), Error, `byte ${at}, bit ${bit}`);
      }
    }
  });

  test('cut off at any length, or longer by a byte, is noticed', () => {
    const whole = encodeWhole();
    for (let length = 0; length < whole.length; length++) {
      assert.throws(() => readWhole(whole.subarray(0, length)), Error, `cut to ${length}`);
    }
    assert.throws(() => readWhole(Buffer.concat([whole, Buffer.alloc(1)])), /must have 37 bytes of data. It has 38/);
  });

  test('of an unknown kind is refused by that, though its checksum is right', () => {
    const { bytes } = encodeHead(head);
    bytes.writeUInt8('?'.charCodeAt(0), 3);
    bytes.writeUInt32LE(crc32(bytes.subarray(60), crc32(bytes.subarray(0, 56))), 56);
    assert.throws(() => decodeHead(bytes), /a record must be of a known kind. Received: 63/);
  });

  test("passes on a checksum that depends on the record before, so that one of another past doesn't fit", () => {
    const { checksum } = encodeHead(head);
    assert.notEqual(encodeHead({ ...head, chain: head.chain - 1 }).checksum, checksum);
    assert.notEqual(encodeHead({ ...head, dataChecksum: head.dataChecksum - 1 }).checksum, checksum);
  });
});
