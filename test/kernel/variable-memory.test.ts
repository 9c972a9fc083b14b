/**
 * A variable's memory as plain numbered elements: whatever is written, whole, in part or by rows, in any dtype, is what is
 * read, however the memory is cut. The model is an array of numbers.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Part, parts } from '../../src/kernel/extent.ts';
import { allocate, type VariableMemory } from '../../src/kernel/variable-memory.ts';
import { bytesPerElement, type FloatDtype } from '../../src/tensor/dtype.ts';
import { assertSameBits, decode, encode, floatDtypes, randomFloats, randomUnits, roundTo } from '../support/floats.ts';
import { variableDtypes } from '../support/step-cases.ts';

type Model = Record<Part, Float64Array>;

/** One random call; `seed` says which elements or rows. */
const operations = fc.record({
  kind: fc.constantFrom('write', 'writeRows', 'read', 'readRows'),
  part: fc.constantFrom(...parts),
  wire: fc.constantFrom(...floatDtypes),
  misalignment: fc.nat(7),
  seed: fc.nat(),
});
type Operation = { kind: string; part: Part; wire: FloatDtype; misalignment: number; seed: number };

function modelOf({ rows, width }: VariableMemory): Model {
  return { w: new Float64Array(rows * width), m: new Float64Array(rows * width), v: new Float64Array(rows * width) };
}

/** Row numbers in random order: each at most once, or any. */
function pickRows(seed: number, rows: number, distinct: boolean): number[] {
  const next = randomUnits(seed);
  if (!distinct) return Array.from({ length: rows === 0 ? 0 : 6 }, () => Math.floor(next() * rows));
  return Array.from({ length: rows }, (_, row) => ({ row, key: next() }))
    .sort((a, b) => a.key - b.key)
    .filter(({ key }) => key < 0.7)
    .map(({ row }) => row);
}

function run(memory: VariableMemory, model: Model, { kind, part, wire, misalignment, seed }: Operation): void {
  const { dtype, rows, width } = memory;
  const held = model[part];
  const next = randomUnits(seed);
  const first = Math.floor(next() * (held.length + 1));
  const count = Math.floor(next() * (held.length - first + 1));
  const named = pickRows(seed, rows, kind === 'writeRows');
  const blank = (length: number) => encode(new Float64Array(length), wire, misalignment);
  if (kind === 'write') {
    const values = encode(randomFloats(seed, count, wire), wire, misalignment);
    memory.write(part, first, count, values);
    held.set(
      decode(values).map((value) => roundTo(value, dtype)),
      first,
    );
  } else if (kind === 'writeRows') {
    const values = encode(randomFloats(seed, named.length * width, wire), wire, misalignment);
    memory.writeRows(part, named, values);
    const seen = decode(values).map((value) => roundTo(value, dtype));
    named.forEach((row, k) => {
      held.set(seen.subarray(k * width, (k + 1) * width), row * width);
    });
  } else if (kind === 'read') {
    const to = blank(count);
    memory.read(part, first, count, to);
    assertSameBits(to, encode(held.subarray(first, first + count), wire));
  } else {
    const to = blank(named.length * width);
    memory.readRows(part, named, to);
    assertSameBits(
      to,
      encode(
        named.flatMap((row) => [...held.subarray(row * width, (row + 1) * width)]),
        wire,
      ),
    );
  }
}

function assertModel(memory: VariableMemory, model: Model): void {
  for (const part of parts) {
    const to = encode(new Float64Array(model[part].length), memory.dtype);
    memory.read(part, 0, model[part].length, to);
    assertSameBits(to, encode(model[part], memory.dtype), part);
  }
}

describe('whatever is written is what is read', () => {
  test('for all variables of a session, in any dtype, in memory cut anywhere', () => {
    const extents = fc.array(
      fc.record({ dtype: fc.constantFrom(...variableDtypes), rows: fc.nat(8), width: fc.nat(30) }),
      {
        minLength: 1,
        maxLength: 3,
      },
    );
    const calls = fc.array(fc.tuple(fc.nat(2), operations), { maxLength: 12 });
    fc.assert(
      fc.property(extents, fc.integer({ min: 220, max: 2000 }), calls, (all, bankBytes, sequence) => {
        const memories = allocate(all, bankBytes);
        const models = memories.map(modelOf);
        for (const [index, operation] of sequence) {
          const which = index % all.length;
          run(memories[which] as VariableMemory, models[which] as Model, operation);
        }
        memories.forEach((memory, index) => {
          assertModel(memory, models[index] as Model);
        });
      }),
      { numRuns: 60 },
    );
  });

  test('for variables of many blocks, with rows shorter, as long and longer than a block, in one bank or several', () => {
    const shapes = fc.constantFrom<[number, number][]>([50_000, 1], [7, 7000], [3, 16_384], [3, 16_385], [2, 40_000]);
    const banks = fc.constantFrom(undefined, 300_000);
    const calls = fc.array(operations, { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(
        fc.constantFrom(...variableDtypes),
        shapes,
        banks,
        calls,
        (dtype, [rows, width], bankBytes, sequence) => {
          const [memory] = allocate([{ dtype, rows, width }], bankBytes) as [VariableMemory];
          const model = modelOf(memory);
          for (const operation of sequence) run(memory, model, operation);
          assertModel(memory, model);
        },
      ),
      { numRuns: 8 },
    );
  });
});

describe('fresh memory', () => {
  test('is all +0', () => {
    for (const memory of allocate([
      { dtype: 'F32', rows: 100, width: 33 },
      { dtype: 'F64', rows: 100, width: 33 },
    ]))
      assertModel(memory, modelOf(memory));
  });

  test('of no elements can be read and written', () => {
    for (const [rows, width] of [
      [0, 5],
      [5, 0],
      [0, 0],
    ] as const) {
      const [memory] = allocate([{ dtype: 'F64', rows, width }]) as [VariableMemory];
      const nothing = encode([], 'F64');
      memory.write('w', 0, 0, nothing);
      memory.read('w', 0, 0, nothing);
      const some = rows === 0 ? [] : [4, 0];
      memory.writeRows('m', some, nothing);
      memory.readRows('v', some, nothing);
      assert.deepEqual(memory.segments, []);
    }
  });

  test('lies aligned to cache lines, apart from all else', () => {
    const memories = allocate(
      [
        { dtype: 'F32', rows: 3, width: 7 },
        { dtype: 'F64', rows: 5, width: 9 },
      ],
      900,
    );
    const taken = memories.flatMap(({ dtype, segments }) =>
      segments.flatMap(({ bank, w, m, v, rows, columns }) =>
        [w, m, v].map((at) => ({ bank, at, end: at + rows * columns * bytesPerElement[dtype] })),
      ),
    );
    for (const a of taken) {
      assert.equal(a.at % 64, 0);
      assert.ok(a.end <= a.bank.bytes.length);
      for (const b of taken) assert.ok(a === b || a.bank !== b.bank || a.end <= b.at || b.end <= a.at);
    }
  });
});
