/**
 * Works for an executor, at random: what their variables start from, what is to be done, and what the reference makes of it,
 * once for all executors that it is asked of. Everything follows from a seed, so a failure can be repeated.
 */
import assert from 'node:assert/strict';
import type { Clip, Values } from '../../src/kernel/blocks.ts';
import { type Part, parts } from '../../src/kernel/extent.ts';
import { blocksHere, type Executor } from '../../src/kernel/threads.ts';
import { allocate, type VariableMemory } from '../../src/kernel/variable-memory.ts';
import { blocksOf, costPerBlock, type Work } from '../../src/kernel/work.ts';
import { groupByRow } from '../../src/optimizer/indexed-slices.ts';
import { bytesPerElement, type FloatDtype, type VariableDtype } from '../../src/tensor/dtype.ts';
import { assertSameBits, decode, encode, floatDtypes, maxOf, randomFloats, randomUnits, roundTo } from './floats.ts';
import { clipByValue, referenceDense, referenceSparse, type State } from './reference-adamax.ts';
import { randomRows, type StepCase, scalarsOf, variableDtypes } from './step-cases.ts';

/** What a work is done on; the rest of it comes from the seed. */
export interface WorkSize {
  readonly rows: number;
  readonly width: number;
  /** Slices of a sparse gradient, for `spread` of the rows; none: the gradient is dense. */
  readonly slices?: number;
  readonly spread?: number;
}

/** All elements of a variable and its slots, in its dtype. */
type Parts = Readonly<Record<Part, Values>>;

interface WorkCase extends StepCase, WorkSize {
  readonly indices: Float64Array | undefined;
  readonly clip: Clip;
  readonly gradient: Values;
  readonly before: Parts;
  readonly after: Parts;
  /** What the step replies: the new values, of a sparse step those of the rows that it names, ascending. */
  readonly replied: Values;
  /** The new values of the whole variable, and some rows of `part`, as they are to be read. */
  readonly updated: Values;
  readonly part: Part;
  readonly rowsRead: Float64Array;
  readonly rowValues: Values;
}

export interface Plan {
  readonly cases: readonly WorkCase[];
  readonly bankBytes: number | undefined;
}

/** The bytes at the same misalignment in memory that threads share. */
export function shared<V extends Values>(values: V): V {
  const misalignment = values.bytes.byteOffset % 8;
  const memory = new SharedArrayBuffer(misalignment + values.bytes.length);
  const bytes = new Uint8Array(memory, misalignment);
  bytes.set(values.bytes);
  return { ...values, bytes };
}

/** Room in shared memory for `count` elements. */
export function sharedRoom(count: number, dtype: FloatDtype, misalignment = 0): Values {
  const memory = new SharedArrayBuffer(misalignment + count * bytesPerElement[dtype]);
  return { dtype, bytes: new Uint8Array(memory, misalignment) };
}

/** So many random values are repeated over and over: a prime number, so that no two blocks are the same. */
const differentValues = 30_011;

function repeated<T extends Float64Array | Uint8Array>(some: T, all: T): T {
  for (let at = 0; at < all.length; at += some.length) all.set(some.subarray(0, all.length - at), at);
  return all;
}

function manyFloats(seed: number, count: number, dtype: FloatDtype): Float64Array {
  return repeated(randomFloats(seed, Math.min(count, differentValues), dtype), new Float64Array(count));
}

/** `count` elements, which are `some` over and over. */
function manyValues(some: Float64Array, count: number, dtype: FloatDtype, misalignment: number): Values {
  const room = new Uint8Array(misalignment + count * bytesPerElement[dtype]).subarray(misalignment);
  return { dtype, bytes: repeated(encode(some, dtype).bytes, room) };
}

/** `count` random elements. */
export function randomValues(seed: number, count: number, dtype: FloatDtype, misalignment = 0): Values {
  return manyValues(randomFloats(seed, Math.min(count, differentValues), dtype), count, dtype, misalignment);
}

export function planOf(seed: number, sizes: readonly WorkSize[], bankBytes?: number): Plan {
  return { cases: sizes.map((size, index) => caseOf(seed + 101 * index, size)), bankBytes };
}

function caseOf(seed: number, size: WorkSize): WorkCase {
  const next = randomUnits(seed);
  const one = <T>(of: readonly T[]): T => of[Math.floor(next() * of.length)] as T;
  const { rows, width, slices, spread = 1 } = size;
  const [dtype, wire] = [one(variableDtypes), one(floatDtypes)];
  // Many numbers take long to become F16.
  const reply = one(floatDtypes.filter((each) => each !== 'F16' || rows * width < 100_000));
  const misalignment = Math.floor(next() * 8);
  const step: StepCase = { dtype, wire, reply, misalignment, seed, iterations: Math.floor(next() * 40) };
  const clip: Clip = { limit: one([null, null, 0.5, 2]), factor: one([1, 1, 0.3]) };
  const indices =
    slices === undefined ? undefined : randomRows(seed, rows === 0 ? 0 : slices, Math.ceil(rows * spread));
  const count = (indices?.length ?? rows) * width;
  const { sent, seen } = gradientOf(step, count, clip);
  const state = {
    w: manyFloats(seed + 1, rows * width, dtype),
    m: manyFloats(seed + 2, rows * width, dtype),
    v: manyFloats(seed + 3, rows * width, dtype).map(Math.abs),
  };
  const before = encoded(state, dtype);
  if (indices === undefined) referenceDense(state, seen, scalarsOf(step), dtype);
  else referenceSparse(state, width, indices, seen, scalarsOf(step), dtype);
  const part = one(parts);
  const rowsRead = randomRows(seed + 5, rows === 0 ? 0 : Math.ceil(next() * Math.min(rows, 100)), rows);
  const rowsOf = (values: Float64Array, numbers: Iterable<number>) =>
    encode(concatenated(Array.from(numbers, (row) => values.subarray(row * width, (row + 1) * width))), reply);
  const updated = encode(state.w, reply);
  return {
    ...step,
    ...size,
    indices,
    clip,
    gradient: next() < 0.5 ? shared(sent) : sent,
    before,
    after: encoded(state, dtype),
    replied:
      indices === undefined
        ? updated
        : rowsOf(
            state.w,
            [...new Set(indices)].sort((a, b) => a - b),
          ),
    updated,
    part,
    rowsRead,
    rowValues: rowsOf(state[part], rowsRead),
  };
}

function encoded({ w, m, v }: State, dtype: VariableDtype): Parts {
  return { w: encode(w, dtype), m: encode(m, dtype), v: encode(v, dtype) };
}

/** A finite gradient as it travels, and as the variable sees it, clipped. */
function gradientOf(
  { seed, wire, dtype, misalignment }: StepCase,
  count: number,
  clip: Clip,
): { sent: Values; seen: Float64Array } {
  const most = Math.min(maxOf(wire), maxOf(dtype));
  const some = randomFloats(seed + 4, Math.min(count, differentValues), wire);
  const finite = some.map((value) => Math.max(-most, Math.min(most, roundTo(value, wire))));
  const seen = decode(encode(finite, wire)).map((value) => roundTo(value, dtype));
  return {
    sent: manyValues(finite, count, wire, misalignment),
    seen: repeated(clipped(seen, clip, dtype), new Float64Array(count)),
  };
}

/** By value in the variable's dtype, then by the factor in float64, rounded once. */
function clipped(gradient: Float64Array, { limit, factor }: Clip, dtype: VariableDtype): Float64Array {
  const limited = limit === null ? gradient : clipByValue(gradient, limit, dtype);
  return factor === 1 ? limited : limited.map((value) => roundTo(value * factor, dtype));
}

function concatenated(pieces: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

/** A plan's memory, and places in shared memory for the new values of its variables, whole. */
interface Prepared {
  readonly memories: readonly VariableMemory[];
  readonly places: readonly Values[];
}

/** Fresh memory costs more time than all that is done with it here, so a plan's is used again. */
const prepared = new WeakMap<Plan, Prepared>();

/** The memory as the plan has it before its steps, and places with nothing of interest; one use at a time. */
export function prepare(plan: Plan): Prepared {
  const { cases, bankBytes } = plan;
  const { memories, places } = prepared.get(plan) ?? {
    memories: allocate(cases, bankBytes),
    places: cases.map(({ rows, width, reply, misalignment }) => sharedRoom(rows * width, reply, misalignment)),
  };
  prepared.set(plan, { memories, places });
  cases.forEach(({ rows, width, before }, index) => {
    for (const part of parts) memories[index]?.write(part, 0, rows * width, before[part]);
    places[index]?.bytes.fill(0xff);
  });
  return { memories, places };
}

/** The steps of the plan; each puts the new values into the beginning of the place of its number. */
export function stepsOf({ cases }: Plan, memories: readonly VariableMemory[], places?: readonly Values[]): Work[] {
  return cases.map((each, index): Work => {
    const { gradient, clip, indices } = each;
    const updated = places?.[index];
    const step = {
      memory: memories[index] as VariableMemory,
      gradient,
      clip,
      scalars: scalarsOf(each),
      updated,
      changes: undefined,
    };
    return indices === undefined
      ? { kind: 'dense', ...step }
      : { kind: 'sparse', ...step, slices: groupByRow(indices) };
  });
}

/** Has the executor take the plan's steps, and read their variables, and holds all of it against the reference. */
export async function checkPlan(plan: Plan, executor: Executor): Promise<void> {
  const { memories, places } = prepare(plan);
  await executor.run(stepsOf(plan, memories, places));
  assertTaken(plan, memories);
  plan.cases.forEach(({ replied }, index) => {
    const { dtype, bytes } = places[index] as Values;
    assertSameBits({ dtype, bytes: bytes.subarray(0, replied.bytes.length) }, replied, 'updated element');
  });
  await checkReads(plan, { memories, places }, executor);
  executor.forget(memories);
}

/** The memory must be as the reference leaves it. */
export function assertTaken({ cases }: Plan, memories: readonly VariableMemory[]): void {
  memories.forEach((memory, index) => {
    for (const part of parts) {
      const expected = cases[index]?.after[part] as Values;
      const held = { dtype: memory.dtype, bytes: Buffer.concat(memory.bytesOf(part)) };
      assertSameBits(held, expected, `${part} of number ${index}, element`);
    }
  });
}

async function checkReads(plan: Plan, { memories, places }: Prepared, executor: Executor): Promise<void> {
  for (const { bytes } of places) bytes.fill(0xff);
  const rows = plan.cases.map(({ rowValues: { dtype, bytes }, misalignment }) =>
    sharedRoom(bytes.length / bytesPerElement[dtype], dtype, misalignment),
  );
  const works = plan.cases.flatMap(({ part, rowsRead }, index): Work[] => {
    const memory = memories[index] as VariableMemory;
    return [
      { kind: 'read', memory, part: 'w', to: places[index] as Values },
      { kind: 'readRows', memory, part, rows: rowsRead, to: rows[index] as Values },
    ];
  });
  await executor.run(works);
  plan.cases.forEach(({ updated, rowValues }, index) => {
    assertSameBits(places[index] as Values, updated, 'element read');
    assertSameBits(rows[index] as Values, rowValues, 'element of rows read');
  });
}

/** Wraps an executor's runs: each but short reads must be left to the threads, and so not be done before the call returns. */
export function handingOver(executor: Executor): Executor {
  return {
    async run(works, progress) {
      const cost = works.reduce((sum, work) => sum + blocksOf(work) * costPerBlock(work), 0);
      const isShortRead = cost <= blocksHere && works.every(({ kind }) => kind === 'read' || kind === 'readRows');
      let told = 0;
      const done = executor.run(works, (ranges) => {
        told++;
        progress?.(ranges);
      });
      assert.ok(isShortRead || told === 0, 'the threads must do it');
      await done;
      assert.ok(told > 1, 'it must be cut into pieces');
    },
    forget: (memories) => executor.forget(memories),
  };
}
