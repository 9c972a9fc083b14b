/**
 * Works for an executor, at random: what their variables start from, what is to be done, and what the reference makes of it,
 * once for all executors that it is asked of. Everything follows from a seed, so a failure can be repeated.
 */
import assert from 'node:assert/strict';
import type { Clip, Values } from '../../src/kernel/blocks.ts';
import { parts } from '../../src/kernel/extent.ts';
import type { Executor, Progress } from '../../src/kernel/threads.ts';
import type { VariableMemory } from '../../src/kernel/variable-memory.ts';
import type { Work } from '../../src/kernel/work.ts';
import { nameRows } from '../../src/optimizer/indexed-slices.ts';
import { bytesPerElement, type FloatDtype } from '../../src/tensor/dtype.ts';
import { assertSameBits, decode, encode, floatDtypes, maxOf, randomFloats, randomUnits, roundTo } from './floats.ts';
import { clipByValue, referenceDense, referenceSparse, type State } from './reference-adamax.ts';
import { assertState, holding, randomRows, type StepCase, scalarsOf, variableDtypes } from './step-cases.ts';

/** What a work is done on; the rest of it comes from the seed. */
export interface WorkSize {
  readonly rows: number;
  readonly width: number;
  /** Slices of a sparse gradient, for `spread` of the rows; none: the gradient is dense. */
  readonly slices?: number;
  readonly spread?: number;
}

interface WorkCase extends StepCase, WorkSize {
  readonly indices: Float64Array | undefined;
  readonly clip: Clip;
  readonly gradient: Values;
  readonly before: State;
  readonly after: State;
  /** The new values of the whole variable, and some rows of `part`, as they are to be read. */
  readonly updated: Values;
  readonly part: 'w' | 'm' | 'v';
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

export function planOf(seed: number, sizes: readonly WorkSize[], bankBytes?: number): Plan {
  return { cases: sizes.map((size, index) => caseOf(seed + 101 * index, size)), bankBytes };
}

function caseOf(seed: number, size: WorkSize): WorkCase {
  const next = randomUnits(seed);
  const one = <T>(of: readonly T[]): T => of[Math.floor(next() * of.length)] as T;
  const { rows, width, slices, spread = 1 } = size;
  const [dtype, wire, reply] = [one(variableDtypes), one(floatDtypes), one(floatDtypes)];
  const misalignment = Math.floor(next() * 8);
  const step: StepCase = { dtype, wire, reply, misalignment, seed, iterations: Math.floor(next() * 40) };
  const clip: Clip = { limit: one([null, null, 0.5, 2]), factor: one([1, 1, 0.3]) };
  const indices =
    slices === undefined ? undefined : randomRows(seed, rows === 0 ? 0 : slices, Math.ceil(rows * spread));
  const count = (indices?.length ?? rows) * width;
  const { sent, seen } = gradientOf(step, count, clip);
  const before = {
    w: manyFloats(seed + 1, rows * width, dtype),
    m: manyFloats(seed + 2, rows * width, dtype),
    v: manyFloats(seed + 3, rows * width, dtype).map(Math.abs),
  };
  const after = { w: before.w.slice(), m: before.m.slice(), v: before.v.slice() };
  if (indices === undefined) referenceDense(after, seen, scalarsOf(step), dtype);
  else referenceSparse(after, width, indices, seen, scalarsOf(step), dtype);
  const part = one(parts);
  const rowsRead = randomRows(seed + 5, rows === 0 ? 0 : Math.ceil(next() * Math.min(rows, 100)), rows);
  const rowValues = [...rowsRead].map((row) => after[part].subarray(row * width, (row + 1) * width));
  return {
    ...step,
    ...size,
    indices,
    clip,
    gradient: next() < 0.5 ? shared(sent) : sent,
    before,
    after,
    updated: encode(after.w, reply),
    part,
    rowsRead,
    rowValues: encode(concatenated(rowValues), reply),
  };
}

/** A finite gradient as it travels, and as the variable sees it, clipped. */
function gradientOf(
  { seed, wire, dtype, misalignment }: StepCase,
  count: number,
  clip: Clip,
): { sent: Values; seen: Float64Array } {
  const most = Math.min(maxOf(wire), maxOf(dtype));
  const some = randomFloats(seed + 4, Math.min(count, differentValues), wire);
  const { bytes } = encode(
    some.map((value) => Math.max(-most, Math.min(most, value))),
    wire,
  );
  const seen = decode({ dtype: wire, bytes }).map((value) => roundTo(value, dtype));
  const room = new Uint8Array(misalignment + count * bytesPerElement[wire]).subarray(misalignment);
  return {
    sent: { dtype: wire, bytes: repeated(bytes, room) },
    seen: repeated(clipped(seen, clip, dtype), new Float64Array(count)),
  };
}

/** By value in the variable's dtype, then by the factor in float64, rounded once. */
function clipped(gradient: Float64Array, { limit, factor }: Clip, dtype: StepCase['dtype']): Float64Array {
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

/** Fresh memory as the plan has it before its steps. */
export function memoriesOf({ cases, bankBytes }: Plan): VariableMemory[] {
  const states = cases.map(({ before }) => before);
  return holding(cases, states, bankBytes);
}

/** The steps of the plan; a dense one puts the new values into the place of its number. */
export function stepsOf({ cases }: Plan, memories: readonly VariableMemory[], places?: readonly Values[]): Work[] {
  return cases.map((each, index): Work => {
    const { gradient, clip, indices } = each;
    const step = { memory: memories[index] as VariableMemory, gradient, clip, scalars: scalarsOf(each) };
    if (indices === undefined) return { kind: 'dense', ...step, updated: places?.[index] };
    return { kind: 'sparse', ...step, slices: nameRows(indices) };
  });
}

/** Places in shared memory for the new values of each variable, whole, as the plan has them read. */
export function placesOf({ cases }: Plan): Values[] {
  return cases.map(({ rows, width, reply, misalignment }) => sharedRoom(rows * width, reply, misalignment));
}

/** Has the executor take the plan's steps, and read their variables, and holds all of it against the reference. */
export async function checkPlan(plan: Plan, executor: Executor, progress?: Progress): Promise<void> {
  const memories = memoriesOf(plan);
  const places = placesOf(plan);
  await executor.run(stepsOf(plan, memories, places), progress);
  assertTaken(plan, memories);
  plan.cases.forEach(({ indices, updated }, index) => {
    if (indices === undefined) assertSameBits(places[index] as Values, updated, 'updated element');
  });
  await checkReads(plan, memories, executor);
  executor.forget(memories);
}

export function assertTaken({ cases }: Plan, memories: readonly VariableMemory[]): void {
  memories.forEach((memory, index) => {
    assertState(memory, cases[index]?.after as State);
  });
}

async function checkReads(plan: Plan, memories: readonly VariableMemory[], executor: Executor): Promise<void> {
  const places = placesOf(plan);
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

/** Wraps an executor's runs: each must be left to the threads, which the calling thread does before it goes on. */
export function handingOver(executor: Executor): Executor {
  return {
    async run(works, progress) {
      let told = 0;
      const done = executor.run(works, (ranges) => {
        told++;
        progress?.(ranges);
      });
      assert.equal(told, 0, 'the threads must do it');
      await done;
      assert.ok(told > 1, 'it must be cut into pieces');
    },
    forget: (memories) => executor.forget(memories),
  };
}
