/**
 * One step of a variable, at random: what it starts from, on the kernel's memory and as the reference has it, and the
 * gradient as it travels and as the variable sees it. Everything follows from a seed, so a failure can be repeated.
 */
import fc from 'fast-check';
import type { Values } from '../../src/kernel/blocks.ts';
import type { Extent, Part } from '../../src/kernel/extent.ts';
import { allocate, type VariableMemory } from '../../src/kernel/variable-memory.ts';
import type { FloatDtype, VariableDtype } from '../../src/tensor/dtype.ts';
import { assertSameBits, decode, encode, floatDtypes, maxOf, randomFloats, randomUnits, roundTo } from './floats.ts';
import { referenceScalars, type Scalars, type State } from './reference-adamax.ts';

export const variableDtypes = ['F32', 'F64'] as const;

/** One step, and all that it starts from, as far as `seed` does not say. */
export interface StepCase {
  readonly dtype: VariableDtype;
  readonly wire: FloatDtype;
  readonly misalignment: number;
  readonly reply: FloatDtype;
  readonly seed: number;
  readonly iterations: number;
}

export const stepCases = fc.record<StepCase>({
  dtype: fc.constantFrom(...variableDtypes),
  wire: fc.constantFrom(...floatDtypes),
  misalignment: fc.nat(7),
  reply: fc.constantFrom(...floatDtypes),
  seed: fc.nat(2 ** 31),
  iterations: fc.nat(40),
});

export function randomState({ seed, dtype }: StepCase, count: number): State {
  return {
    w: randomFloats(seed + 1, count, dtype),
    m: randomFloats(seed + 2, count, dtype),
    v: randomFloats(seed + 3, count, dtype).map(Math.abs),
  };
}

export function scalarsOf({ seed, iterations, dtype }: StepCase): Scalars {
  const next = randomUnits(seed);
  const config = {
    learning_rate: next(),
    beta_1: next() * 0.99,
    beta_2: next(),
    epsilon: next() * 1e-6,
    decay: next(),
  };
  return referenceScalars(config, iterations, dtype);
}

/** `count` random row numbers, as many of them repeated as `spread` is small. */
export function randomRows(seed: number, count: number, spread: number): Float64Array {
  const next = randomUnits(seed);
  return Float64Array.from({ length: count }, () => Math.floor(next() * spread));
}

export function holding(extents: readonly Extent[], states: readonly State[], bankBytes?: number): VariableMemory[] {
  const memories = allocate(extents, bankBytes);
  memories.forEach((memory, index) => {
    const state = states[index] as State;
    for (const part of ['w', 'm', 'v'] as const) {
      memory.write(part, 0, state[part].length, encode(state[part], memory.dtype));
    }
  });
  return memories;
}

export function assertState(memory: VariableMemory, { w, m, v }: State): void {
  for (const [part, values] of Object.entries({ w, m, v }) as [Part, Float64Array][]) {
    const held = encode(new Float64Array(values.length), memory.dtype);
    memory.read(part, 0, values.length, held);
    assertSameBits(held, encode(values, memory.dtype), part);
  }
}

/** A random gradient as it travels, and as the variable sees it: finite, as every checked gradient is. */
export function randomGradient(
  { seed, wire, misalignment, dtype }: StepCase,
  count: number,
): { sent: Values; seen: Float64Array } {
  const most = Math.min(maxOf(wire), maxOf(dtype));
  const values = randomFloats(seed + 4, count, wire).map((value) => Math.max(-most, Math.min(most, value)));
  const sent = encode(values, wire, misalignment);
  return { sent, seen: decode(sent).map((value) => roundTo(value, dtype)) };
}
