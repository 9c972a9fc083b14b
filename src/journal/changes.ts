/**
 * The changes that a session's journal holds, and how each stands in a record: what it is in the description, tensors as
 * they came over the wire in the data, one after the other. A patch is recorded by what it came to.
 */
import type { Part } from '../kernel/extent.ts';
import { parseOptimizer, serializeOptimizer } from '../optimizer/adamax-config.ts';
import type { Slices } from '../session/gradient.ts';
import type { SessionContents } from '../session/session.ts';
import type { SessionSettings } from '../session/settings.ts';
import { noOrigin, type Origin } from '../session/workers.ts';
import type { FloatDtype, IndexDtype } from '../tensor/dtype.ts';
import { byteLength } from '../tensor/tensor.ts';
import type { Kind } from './record.ts';

export type Change =
  | { readonly kind: 'create' }
  | { readonly kind: 'gradients'; readonly gradients: ReadonlyMap<string, Slices>; readonly origin: Origin }
  | { readonly kind: 'assign'; readonly part: Part; readonly assignments: ReadonlyMap<string, Slices> }
  | ({ readonly kind: 'patch' } & Pick<SessionContents, 'optimizer' | 'iterations' | 'settings'>)
  | { readonly kind: 'restore'; readonly checkpoint: string; readonly sha256: string }
  /** A worker is put aside, or taken back. */
  | { readonly kind: 'worker'; readonly worker: string; readonly quarantined: boolean }
  /** After a crash: revisions up to this one may have been given out for states that are lost. */
  | { readonly kind: 'resume' };

export interface EncodedChange {
  readonly description: unknown;
  /** Views of the tensors' own bytes, in order. */
  readonly data: readonly Uint8Array[];
}

export function encodeChange(change: Change): EncodedChange {
  switch (change.kind) {
    case 'gradients': {
      const { description, data } = encodeSlices(change.gradients);
      return { description: withOrigin(description, change.origin), data };
    }
    case 'assign': {
      const { description, data } = encodeSlices(change.assignments);
      return { description: [change.part, description], data };
    }
    case 'patch': {
      const { optimizer, iterations, settings } = change;
      return { description: { optimizer: serializeOptimizer(optimizer), iterations, settings }, data: [] };
    }
    case 'restore':
      return { description: { checkpoint: change.checkpoint, sha256: change.sha256 }, data: [] };
    case 'worker':
      return { description: { worker: change.worker, quarantined: change.quarantined }, data: [] };
    default:
      return { description: {}, data: [] };
  }
}

/** `data` is what a record of that kind and description carries; tensors are views of it. */
export function decodeChange(kind: Kind, description: unknown, data: Uint8Array): Change {
  switch (kind) {
    case 'gradients':
      return decodeStep(description as SlicesEntry[] | StepEntry, data);
    case 'assign': {
      const [part, slices] = description as [Part, SlicesEntry[]];
      return { kind, part, assignments: decodeSlices(slices, data) };
    }
    case 'patch': {
      const { optimizer, iterations, settings } = description as {
        optimizer: unknown;
        iterations: number;
        settings: SessionSettings;
      };
      return { kind, optimizer: parseOptimizer(optimizer, () => 0), iterations, settings };
    }
    case 'restore': {
      const { checkpoint, sha256 } = description as { checkpoint: string; sha256: string };
      return { kind, checkpoint, sha256 };
    }
    case 'worker': {
      const { worker, quarantined } = description as { worker: string; quarantined: boolean };
      return { kind, worker, quarantined };
    }
    case 'delete':
      throw new Error("a session's journal must not hold a deletion");
    default:
      return { kind };
  }
}

type SlicesEntry = [name: string, dtype: FloatDtype, shape: number[], indexDtype?: IndexDtype, indices?: number];

/** A step of which more is known than its gradients; otherwise they stand alone. */
interface StepEntry {
  readonly slices: SlicesEntry[];
  /** Its workers: name, staleness, clock. */
  readonly by: readonly [string | null, number | null, number | null][];
  /** What its learning rate was divided by. */
  readonly divisor: number;
}

function withOrigin(slices: SlicesEntry[], { by, rateDivisor }: Origin): SlicesEntry[] | StepEntry {
  if (by.length === 0 && rateDivisor === 1) return slices;
  return {
    slices,
    by: by.map(({ worker, staleness, clock }) => [worker ?? null, staleness ?? null, clock ?? null]),
    divisor: rateDivisor,
  };
}

function decodeStep(entry: SlicesEntry[] | StepEntry, data: Uint8Array): Change {
  if (Array.isArray(entry)) return { kind: 'gradients', gradients: decodeSlices(entry, data), origin: noOrigin };
  const by = entry.by.map(([worker, staleness, clock]) => {
    return { worker: worker ?? undefined, staleness: staleness ?? undefined, clock: clock ?? undefined };
  });
  return { kind: 'gradients', gradients: decodeSlices(entry.slices, data), origin: { by, rateDivisor: entry.divisor } };
}

function encodeSlices(slices: ReadonlyMap<string, Slices>): EncodedChange & { description: SlicesEntry[] } {
  const description: SlicesEntry[] = [];
  const data: Uint8Array[] = [];
  for (const [name, { values, indices }] of slices) {
    const entry: SlicesEntry = [name, values.dtype, values.shape as number[]];
    data.push(values.bytes);
    if (indices !== undefined) {
      entry.push(indices.dtype, indices.shape[0] as number);
      data.push(indices.bytes);
    }
    description.push(entry);
  }
  return { description, data };
}

function decodeSlices(entries: readonly SlicesEntry[], data: Uint8Array): Map<string, Slices> {
  let at = 0;
  const next = (bytes: number): Uint8Array => {
    at += bytes;
    return data.subarray(at - bytes, at);
  };
  const slices = new Map<string, Slices>();
  for (const [name, dtype, shape, indexDtype, count] of entries) {
    const values = { dtype, shape, bytes: next(byteLength(dtype, shape)) };
    if (indexDtype === undefined || count === undefined) slices.set(name, { values });
    else {
      const indices = { dtype: indexDtype, shape: [count], bytes: next(byteLength(indexDtype, [count])) };
      slices.set(name, { values, indices });
    }
  }
  return slices;
}
