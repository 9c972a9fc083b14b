/**
 * A training that always takes the same path: one start, and the same gradients in every step, so that a session's bits are
 * a function of its counter. Whatever a crash leaves can be held against the path, worked out here by a session in memory.
 */
import { createHash } from 'node:crypto';
import { type Part, parts } from '../../src/kernel/extent.ts';
import type { HeldSession } from '../../src/store/held-session.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import type { Answer, Call } from './api.ts';
import { encode } from './floats.ts';
import { applyStep, dense, sessionOf, sparse } from './sessions.ts';

/** All are multiples of 1/64, so JSON and F32 have them exactly. */
const start = {
  kernel: { shape: [6, 4], values: Array.from({ length: 24 }, (_, i) => (i - 12) / 64) },
  rows: { shape: [5, 3], values: Array.from({ length: 15 }, (_, i) => i / 64) },
};
const kernelGradient = Array.from({ length: 24 }, (_, i) => ((i % 5) - 2) / 64);
const rowGradient = { indices: [3, 1, 3], values: [1, 2, 3, -1, -2, -3, 4, 5, 6].map((x) => x / 64) };

/** Of a creation and of every push, as JSON. */
export const pathVariables = start;
export const pathGradients = {
  kernel: { shape: [6, 4], values: kernelGradient },
  rows: { indices: rowGradient.indices, values: rowGradient.values, shape: [3, 3] },
};

const session = sessionOf(start);
const digests = [Promise.resolve(digest((part, name) => partBytes(session, part, name)))];

/** The digest of the state after `iterations` steps. */
export function pathAt(iterations: number): Promise<string> {
  while (digests.length <= iterations) digests.push(digestAfter(digests.at(-1) as Promise<string>));
  return digests[iterations] as Promise<string>;
}

async function digestAfter(previous: Promise<string>): Promise<string> {
  await previous;
  await applyStep(session, pathStep);
  return digest((part, name) => partBytes(session, part, name));
}

/** The step, as a session takes it. */
export const pathStep = {
  kernel: dense(kernelGradient, [6, 4]),
  rows: sparse(rowGradient.indices, rowGradient.values, [3, 3]),
};

export interface PathState {
  readonly revision: number;
  readonly iterations: number;
  readonly digest: string;
}

export function heldState(held: HeldSession): PathState {
  const { revision, contents } = held;
  return { revision, iterations: contents.iterations, digest: digest((part, name) => partBytes(held, part, name)) };
}

/** Read over HTTP; nobody may push meanwhile. */
export async function servedState(
  call: (method: string, path: string, call: Call) => Promise<Answer>,
  name: string,
): Promise<PathState> {
  const headers = { accept: 'application/vnd.safetensors' };
  const read = async (path: string) => (await call('GET', `/v1/sessions/${name}/${path}`, { headers })).file;
  const [w, m, v] = await Promise.all([read('variables'), read('slots/m'), read('slots/v')]);
  const files = { w, m, v };
  return {
    revision: Number(w.metadata.get('revision')),
    iterations: Number(w.metadata.get('iterations')),
    digest: digest((part, variable) => (files[part].tensors.get(variable) as Tensor).bytes),
  };
}

type Contained = Pick<HeldSession, 'contents'>;

function partBytes({ contents }: Contained, part: Part, name: string): Uint8Array {
  const variable = contents.variables.get(name);
  if (variable === undefined) throw new Error(`the session must have "${name}"`);
  const count = start[name as keyof typeof start].values.length;
  const to = encode(new Float64Array(count), variable.dtype);
  variable.memory.read(part, 0, count, to);
  return to.bytes;
}

function digest(bytes: (part: Part, name: string) => Uint8Array): string {
  const hash = createHash('sha256');
  for (const part of parts) {
    for (const name of Object.keys(start)) hash.update(bytes(part, name));
  }
  return hash.digest('hex');
}
