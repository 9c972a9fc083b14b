/** Sessions in numbers: made from them, stepped by them, read out as them, and all of a session's bits to compare. */

import { type Part, parts } from '../../src/kernel/extent.ts';
import { parseOptimizer } from '../../src/optimizer/adamax-config.ts';
import type { Slices } from '../../src/session/gradient.ts';
import {
  type Head,
  type Outgoing,
  type Receive,
  type Selection,
  Session,
  type SessionPatch,
} from '../../src/session/session.ts';
import { defaultSettings, type SessionSettings } from '../../src/session/settings.ts';
import { allocateVariables } from '../../src/session/variable.ts';
import { Workers } from '../../src/session/workers.ts';
import type { FloatDtype, IndexDtype, VariableDtype } from '../../src/tensor/dtype.ts';
import { elementCount } from '../../src/tensor/tensor.ts';
import { decode, encode } from './floats.ts';

export interface VariableGiven {
  readonly shape: readonly number[];
  readonly dtype?: VariableDtype;
  /** Flat; zeros where left out. */
  readonly values?: readonly number[];
}

export interface SessionGiven {
  readonly config?: object;
  readonly iterations?: number;
  readonly revision?: number;
  readonly settings?: SessionSettings;
}

export function sessionOf(variables: Readonly<Record<string, VariableGiven>>, given: SessionGiven = {}): Session {
  const specs = Object.entries(variables).map(([name, { shape, dtype = 'F32' }]) => ({ name, shape, dtype }));
  const contents = {
    variables: allocateVariables(specs),
    optimizer: parseOptimizer({ config: given.config ?? {} }, () => 0),
    iterations: given.iterations ?? 0,
    settings: given.settings ?? defaultSettings,
    workers: new Workers(),
  };
  for (const { name, shape, memory } of contents.variables.values()) {
    const values = variables[name]?.values;
    if (values !== undefined) memory.write('w', 0, elementCount(shape), encode(values, 'F64'));
  }
  return new Session('s', '2026-01-02T03:04:05.678Z', contents, given.revision ?? 1);
}

export function dense(values: readonly number[], shape: readonly number[], dtype: FloatDtype = 'F32'): Slices {
  return { values: { shape, ...encode(values, dtype) } };
}

/** `shape`: of the values, `[k, ...]`. */
export function sparse(
  indices: readonly number[],
  values: readonly number[],
  shape: readonly number[],
  dtype: FloatDtype = 'F32',
  indexDtype: IndexDtype = 'I64',
): Slices {
  const numbers = {
    I64: () => BigInt64Array.from(indices, BigInt),
    I32: () => Int32Array.from(indices),
    U32: () => Uint32Array.from(indices),
  };
  const bytes = new Uint8Array(numbers[indexDtype]().buffer);
  return { indices: { dtype: indexDtype, shape: [indices.length], bytes }, ...dense(values, shape, dtype) };
}

/** After one step, so that no slot is zero. */
export async function sampleSession(): Promise<Session> {
  const session = sessionOf(
    {
      w: { shape: [3, 2], values: [1, 2, 3, 4, 5, 6] },
      b: { shape: [2], dtype: 'F64', values: [7, 8] },
      s: { shape: [], values: [9] },
    },
    { config: { learning_rate: 0.1, decay: 0.5 }, iterations: 4, revision: 41 },
  );
  await applyStep(session, { w: dense([1, 1, 1, 1, 1, 1], [3, 2]), b: dense([1, 1], [2]), s: dense([1], []) });
  return session;
}

export interface Received {
  readonly head: Head;
  readonly tensors: readonly (Outgoing & { values: number[] })[];
}

/** One step; what it gave to whom receives the updated values, in the variables' own dtypes. */
export async function applyStep(session: Session, gradients: Readonly<Record<string, Slices>>): Promise<Received> {
  const checked = await session.check(new Map(Object.entries(gradients)));
  return receiving(async (receive) => {
    const step = session.prepare(checked, receive);
    await session.apply(step);
    return step.head;
  });
}

export function read(session: Session, part: Part, selections?: readonly Selection[]): Promise<Received> {
  return receiving((receive) => session.read(part, selections, receive));
}

async function receiving(call: (receive: Receive) => Promise<Head>): Promise<Received> {
  let places: readonly (Outgoing & ReturnType<typeof encode>)[] = [];
  const head = await call((_, tensors) => {
    places = tensors.map((tensor) => ({
      ...tensor,
      ...encode(new Float64Array(elementCount(tensor.shape)), tensor.dtype),
    }));
    return places;
  });
  return {
    head,
    tensors: places.map(({ bytes, ...tensor }) => ({ ...tensor, values: [...decode({ ...tensor, bytes })] })),
  };
}

/** A part of all variables, by name. */
export async function valuesOf(session: Session, part: Part): Promise<Record<string, number[]>> {
  const { tensors } = await read(session, part);
  return Object.fromEntries(tensors.map(({ variable, values }) => [variable, values]));
}

/** Everything that a session is, its tensors as bytes: equal exactly if nothing has changed. */
export function everything(session: Session): object {
  const { head, contents, createdAt } = session;
  const { optimizer, iterations, settings, variables, workers } = contents;
  const tensors = [...variables.values()].map(({ name, dtype, shape, memory }) => {
    const bytes = parts.map((part) => {
      const to = encode(new Float64Array(elementCount(shape)), dtype);
      memory.read(part, 0, elementCount(shape), to);
      return Buffer.from(to.bytes).toString('hex');
    });
    return { name, dtype, shape, bytes };
  });
  return {
    head,
    createdAt,
    iterations,
    tensors,
    optimizer: structuredClone(optimizer),
    settings: structuredClone(settings),
    workers: workers.toJSON(),
  };
}

/** Checks and assigns at once. */
export function assign(session: Session, part: Part, assignments: ReadonlyMap<string, Slices>): Head {
  return session.assign(session.checkAssignments(part, assignments));
}

/** Works out what a merge patch comes to, and applies it. */
export function patch(session: Session, changes: SessionPatch): Head {
  return session.configure(session.patched(changes));
}
