/**
 * The safetensors codec, case by case: files that Python wrote, hostile files, bounds, views and layouts. What holds for any
 * tensors is in safetensors.properties.test.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { safetensorsHeaderBytesMax } from '../../src/limits.ts';
import type { Dtype } from '../../src/tensor/dtype.ts';
import {
  layoutSafetensors,
  parseSafetensors,
  readHeaderLength,
  readSafetensorsHeader,
  type TensorPlan,
} from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { entry, hostileFiles, plain, rawSafetensors, writeSafetensors } from './hostile-safetensors.ts';

function fixture(name: string): Buffer {
  return readFileSync(new URL(`../fixtures/python/${name}.safetensors`, import.meta.url));
}

function viewOf(tensors: ReadonlyMap<string, Tensor>, name: string): DataView {
  const bytes = tensors.get(name)?.bytes ?? assert.fail(name);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

const header = (json: string, dataBytes: number) => readSafetensorsHeader(Buffer.from(json), dataBytes);
const plan = (name: string, dtype: Dtype, shape: number[]): TensorPlan => ({ name, dtype, shape });

describe('a file that Python wrote', () => {
  test('has every dtype of ours, value by value', () => {
    const { metadata, tensors } = parseSafetensors(fixture('dtypes'));
    assert.deepEqual([...metadata], [['note', 'a "quoted"\n\u00e9\u{1f600}\x7f']]);
    assert.deepEqual([...tensors.keys()], ['gamma', 'delta', 'epsilon', 'alpha', 'beta', 'eta', 'zeta']);

    // binary16: 1.5 = 1.1b * 2^0; -2 = -1.0b * 2^1; 65504 is the largest. bfloat16: -3.140625 = -1.1001001b * 2^1.
    assert.deepEqual(
      plain(tensors).filter(([, dtype]) => dtype === 'F16' || dtype === 'BF16'),
      [
        ['eta', 'BF16', [2], '803f49c0'],
        ['zeta', 'F16', [3], '003e00c0ff7b'],
      ],
    );
    const epsilon = viewOf(tensors, 'epsilon');
    assert.deepEqual(tensors.get('epsilon')?.shape, [2, 2]);
    assert.deepEqual(
      [0, 4, 8, 12].map((offset) => epsilon.getFloat32(offset, true)),
      [Math.fround(0.1), -0, Number.POSITIVE_INFINITY, Math.fround(3e38)],
    );
    const delta = viewOf(tensors, 'delta');
    assert.deepEqual(
      [0, 8, 16].map((offset) => delta.getFloat64(offset, true)),
      [0.1, Number.NEGATIVE_INFINITY, 5e-324],
    );
    const gamma = viewOf(tensors, 'gamma');
    assert.deepEqual([gamma.getBigInt64(0, true), gamma.getBigInt64(8, true)], [-1n, 2n ** 53n + 1n]);
    const beta = viewOf(tensors, 'beta');
    assert.deepEqual([beta.getInt32(0, true), beta.getInt32(4, true)], [-(2 ** 31), 7]);
    assert.equal(viewOf(tensors, 'alpha').getUint32(0, true), 2 ** 32 - 1);
  });

  test('has scalars, empty tensors and any name', () => {
    const { metadata, tensors } = parseSafetensors(fixture('shapes'));
    assert.equal(metadata.size, 0);
    const cube = Buffer.from(Float32Array.from({ length: 24 }, (_, index) => index).buffer).toString('hex');
    assert.deepEqual(plain(tensors), [
      ['no rows', 'F64', [0, 3], ''],
      ['cube', 'F32', [2, 3, 4], cube],
      ['empty', 'F32', [0], ''],
      ['one', 'F32', [1], '0000e040'],
      ['scalar', 'F32', [], '00002040'],
      ['gr\u00f6\u00dfe/0:v', 'I32', [2], '0100000002000000'],
      ['0', 'F16', [1], '0038'],
      ['no columns', 'F16', [3, 0, 2], ''],
    ]);
  });

  test('may have no tensor', () => {
    const { metadata, tensors } = parseSafetensors(fixture('no-tensors'));
    assert.deepEqual([[...metadata], tensors.size], [[['format', 'np']], 0]);
  });

  test('is what our writer writes for the same tensors, byte for byte', () => {
    for (const name of ['dtypes', 'shapes', 'no-tensors']) {
      const { metadata, tensors } = parseSafetensors(fixture(name));
      const shuffled = new Map([...tensors].reverse());
      assert.ok(writeSafetensors(Object.fromEntries(metadata), shuffled).equals(fixture(name)), name);
    }
  });

  test('is refused by tensor and dtype where the dtype is not one of ours', () => {
    assert.throws(() => parseSafetensors(fixture('foreign-dtype')), {
      code: 'dtype_mismatch',
      message: 'tensor "mask" must have one of the dtypes F64, F32, F16, BF16, I64, I32, U32. Received: "U8"',
    });
  });
});

describe('a header that Python reads', () => {
  test('may order and space its members in any way, and keeps its own order of tensors', () => {
    const { metadata, tensors } = parseSafetensors(fixture('odd-order'));
    const text = [...metadata];
    assert.deepEqual(text, [
      ['k', '\u{1f600}'],
      ['10', ''],
      ['__proto__', 'p'],
    ]);
    assert.deepEqual(plain(tensors).slice(1), [
      ['a', 'F16', [], '003e'],
      ['10', 'F32', [1, 1], '000080be'],
      ['__proto__', 'I64', [0], ''],
    ]);
    // Its data starts at an odd byte, so this view is as unaligned as can be.
    assert.equal(viewOf(tensors, 'b').getFloat64(0, true), 0.1);
  });

  test('may end in any number of spaces', () => {
    const { tensors } = parseSafetensors(fixture('padded'));
    assert.deepEqual(plain(tensors), [['w', 'F32', [2], '0000803f000000c0']]);
  });
});

describe('a hostile file is refused by the rule that it breaks', () => {
  for (const { title, file, code, detail } of hostileFiles) {
    test(title, () => {
      assert.throws(() => parseSafetensors(file()), { name: 'Problem', code, message: detail });
    });
  }

  test('and a long name or string is cut in the message', () => {
    const name = 'n'.repeat(1_000_000);
    assert.throws(() => header(`{"${name}":5}`, 0), {
      message: `tensor "${'n'.repeat(80)}"… must be an object with dtype, shape and data_offsets. Received: "5"`,
    });
  });
});

describe('at its bounds', () => {
  test('a tensor may have 32 dimensions', () => {
    const shape = Array(32).fill(1);
    const { tensors } = parseSafetensors(rawSafetensors(`{${entry('w', { shape, data_offsets: [0, 4] })}}`, 4));
    assert.deepEqual(plain(tensors), [['w', 'F32', shape, '00000000']]);
  });

  test('a tensor may have 2^50 - 1 elements, and data may be as long as a float64 counts', () => {
    const end = 8 * (2 ** 50 - 1);
    const json = `{${entry('w', { dtype: 'F64', shape: [2 ** 50 - 1], data_offsets: [0, end] })}}`;
    assert.deepEqual(header(json, end).entries.get('w'), { dtype: 'F64', shape: [2 ** 50 - 1], begin: 0, end });
  });

  test('an empty tensor may have any other size, and stand where a tensor begins or ends', () => {
    const empty = (name: string, at: number) => entry(name, { shape: [2 ** 49, 0], data_offsets: [at, at] });
    const { tensors } = parseSafetensors(rawSafetensors(`{${empty('c', 8)},${entry('b')},${empty('a', 0)}}`, 8));
    assert.deepEqual([...tensors.keys()], ['c', 'b', 'a']);
    assert.equal(tensors.get('c')?.bytes.length, 0);
  });

  test('a header may be 100,000,000 bytes long', () => {
    const start = Buffer.alloc(8);
    start.writeBigUInt64LE(100_000_000n);
    assert.equal(readHeaderLength(start, 100_000_008), 100_000_000);
  });

  test('a file may have 49,152 tensors, as a checkpoint of 16,384 variables has', () => {
    const plans = Array.from({ length: 3 * 16_384 }, (_, index) => plan(`${index}`, 'F32', [0]));
    assert.equal(parseSafetensors(layoutSafetensors({}, plans).header).tensors.size, 49_152);
  });

  test('files longer than 4 GiB are read and laid out exactly', () => {
    const rows = 2 ** 31;
    const {
      header: start,
      totalBytes,
      offsets,
    } = layoutSafetensors({}, [plan('a', 'F64', [rows]), plan('b', 'F32', [rows, 3])]);
    assert.deepEqual(
      [...offsets],
      [
        ['a', start.length],
        ['b', start.length + 8 * rows],
      ],
    );
    assert.equal(totalBytes, start.length + 20 * rows);
    assert.equal(readHeaderLength(start.subarray(0, 8), totalBytes), start.length - 8);
    const { entries } = readSafetensorsHeader(start.subarray(8), 20 * rows);
    assert.deepEqual(entries.get('b'), { dtype: 'F32', shape: [rows, 3], begin: 8 * rows, end: 20 * rows });
  });
});

describe('the tensors of a parsed file', () => {
  const file = writeSafetensors({}, new Map([['w', { dtype: 'F32', shape: [1], bytes: Buffer.of(1, 2, 3, 4) }]]));

  test('are views of its bytes, not copies', () => {
    const bytes = Buffer.from(file);
    const tensor = parseSafetensors(bytes).tensors.get('w');
    bytes.set([9], bytes.length - 1);
    assert.deepEqual([...(tensor?.bytes ?? [])], [1, 2, 3, 9]);
    assert.equal(tensor?.bytes.buffer, bytes.buffer);
  });

  test('are those of this file, and held against its length, however often the same header came before', () => {
    const other = Buffer.concat([file.subarray(0, -4), Buffer.of(5, 6, 7, 8)]);
    for (let time = 0; time < 2; time++) {
      assert.deepEqual([...(parseSafetensors(file).tensors.get('w')?.bytes ?? [])], [1, 2, 3, 4]);
      assert.deepEqual([...(parseSafetensors(other).tensors.get('w')?.bytes ?? [])], [5, 6, 7, 8]);
      assert.throws(() => parseSafetensors(file.subarray(0, -1)), { code: 'malformed_body' });
      assert.throws(() => parseSafetensors(Buffer.concat([file, Buffer.of(0)])), { code: 'malformed_body' });
    }
  });

  test('may lie in shared memory, at any offset', () => {
    for (let byteOffset = 0; byteOffset < 8; byteOffset++) {
      const shared = new Uint8Array(new SharedArrayBuffer(byteOffset + file.length + 3), byteOffset, file.length);
      shared.set(file);
      const tensor = parseSafetensors(shared).tensors.get('w');
      assert.deepEqual([...(tensor?.bytes ?? [])], [1, 2, 3, 4]);
      assert.equal(tensor?.bytes.buffer, shared.buffer);
    }
  });
});

describe('a layout', () => {
  test('has the larger elements first, then the names, and header and data in that order', () => {
    const {
      header: start,
      totalBytes,
      offsets,
    } = layoutSafetensors({ b: '1', a: '2' }, [
      plan('x', 'F16', [3]),
      plan('10', 'F32', []),
      plan('9', 'F32', [2]),
      plan('__proto__', 'F64', [1]),
      plan('i', 'I64', [0]),
    ]);
    // 8 + 4 + 8 + 6 bytes of data.
    const json =
      '{"__metadata__":{"b":"1","a":"2"},"i":{"dtype":"I64","shape":[0],"data_offsets":[0,0]},' +
      '"__proto__":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"10":{"dtype":"F32","shape":[],"data_offsets":[8,12]},' +
      '"9":{"dtype":"F32","shape":[2],"data_offsets":[12,20]},"x":{"dtype":"F16","shape":[3],"data_offsets":[20,26]}}';
    const padded = json.padEnd(Math.ceil(json.length / 8) * 8);
    assert.equal(Buffer.from(start).toString('latin1', 8), padded);
    assert.equal(Buffer.from(start).readBigUInt64LE(), BigInt(padded.length));
    assert.deepEqual(
      [...offsets].map(([name, offset]) => [name, offset - start.length]),
      [
        ['i', 0],
        ['__proto__', 0],
        ['10', 8],
        ['9', 12],
        ['x', 20],
      ],
    );
    assert.equal(totalBytes, start.length + 26);
  });

  test('cannot have a name twice, a tensor named __metadata__ or a header over the bound', () => {
    const failure = { name: 'AssertionError' };
    assert.throws(() => layoutSafetensors({}, [plan('w', 'F32', [1]), plan('w', 'F64', [1])]), failure);
    assert.throws(() => layoutSafetensors({}, [plan('__metadata__', 'F32', [1])]), failure);
    assert.throws(() => layoutSafetensors({ k: 'x'.repeat(safetensorsHeaderBytesMax) }, []), failure);
  });
});
