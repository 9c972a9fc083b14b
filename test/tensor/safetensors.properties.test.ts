/** What holds for any tensors and any bytes, tried on random ones; single cases are in safetensors.test.ts. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Problem } from '../../src/errors.ts';
import { bytesPerElement, type Dtype } from '../../src/tensor/dtype.ts';
import { parseSafetensors } from '../../src/tensor/safetensors.ts';
import { byteLength, type Tensor } from '../../src/tensor/tensor.ts';
import { plain, rawSafetensors, writeSafetensors } from './hostile-safetensors.ts';

describe('for any tensors', () => {
  const dtypes = Object.keys(bytesPerElement) as Dtype[];
  const text = fc.string({ unit: 'binary', maxLength: 12 });
  const tensor = fc
    .record({ dtype: fc.constantFrom(...dtypes), shape: fc.array(fc.nat(3), { maxLength: 4 }) })
    .chain(({ dtype, shape }) => {
      const length = byteLength(dtype, shape);
      return fc.uint8Array({ minLength: length, maxLength: length }).map((bytes): Tensor => ({ dtype, shape, bytes }));
    });
  const named = fc
    .oneof(fc.constantFrom('__proto__', '0', '7', 'constructor'), text)
    .filter((name) => name !== '__metadata__');
  const tensors = fc
    .uniqueArray(fc.tuple(named, tensor), { selector: ([name]) => name, maxLength: 6 })
    .map((all) => new Map(all));
  const metadata = fc.dictionary(text, text, { maxKeys: 4, noNullPrototype: true });

  test('reading what was written gives them back, each aligned to its elements', () => {
    fc.assert(
      fc.property(metadata, tensors, (notes, written) => {
        const file = writeSafetensors(notes, written);
        const read = parseSafetensors(file);
        assert.deepEqual(new Map(read.metadata), new Map(Object.entries(notes)));
        assert.deepEqual(plain(read.tensors).sort(), plain(written).sort());
        for (const { dtype, bytes } of read.tensors.values()) {
          assert.equal((bytes.byteOffset - file.byteOffset) % bytesPerElement[dtype], 0);
        }
      }),
    );
  });

  test('a file cut short anywhere, or with a byte more, is refused', () => {
    fc.assert(
      fc.property(metadata, tensors, (notes, written) => {
        const file = writeSafetensors(notes, written);
        for (let length = 0; length < file.length; length++) {
          assert.throws(() => parseSafetensors(file.subarray(0, length)), { code: 'malformed_body' });
        }
        assert.throws(() => parseSafetensors(Buffer.concat([file, Buffer.of(0)])), { code: 'malformed_body' });
      }),
      { numRuns: 30 },
    );
  });

  test('a file with bytes changed is refused, or read as JSON.parse reads its header', () => {
    const change = fc.record({
      at: fc.nat(),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from('"\\{}[],:019-.eu '))),
    });
    fc.assert(
      fc.property(metadata, tensors, fc.array(change, { minLength: 1, maxLength: 3 }), (notes, written, changes) => {
        const file = writeSafetensors(notes, written);
        for (const { at, byte } of changes) file.set([byte], 8 + (at % (file.length - 8)));
        const read = orProblem(() => parseSafetensors(file));
        if (read === undefined) return;
        const { __metadata__: notesRead = {}, ...entries } = JSON.parse(
          file.toString('utf8', 8, 8 + file.readUInt32LE()),
        );
        assert.deepEqual(new Map(read.metadata), new Map(Object.entries(notesRead)));
        assert.deepEqual(new Set(read.tensors.keys()), new Set(Object.keys(entries)));
        for (const [name, { dtype, shape }] of read.tensors) {
          assert.deepEqual({ dtype, shape }, { dtype: entries[name].dtype, shape: entries[name].shape });
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('bytes at random, and headers at random, meet nothing but a Problem', () => {
    const bytes = fc.uint8Array({ maxLength: 64 }).map((random) => Buffer.from(random));
    const anyHeader = fc.oneof(
      text,
      fc.json().map((value) => `{"w":${value}}`),
      fc.json().map((value) => `{"__metadata__":${value}}`),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          bytes,
          anyHeader.map((random) => rawSafetensors(random)),
        ),
        (file) => {
          orProblem(() => parseSafetensors(file));
        },
      ),
      { numRuns: 1000 },
    );
  });
});

/** What `read` returns, or `undefined` where it throws a Problem. */
function orProblem<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof Problem) return undefined;
    throw error;
  }
}
