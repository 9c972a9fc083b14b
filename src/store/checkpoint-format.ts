/**
 * What a checkpoint file says: one safetensors file with `w`, `w:m` and `w:v` for every variable and, in `__metadata__`,
 * the rest of the session as JSON texts. `format` names this layout; a file of another version is refused by name.
 */
import { Problem } from '../errors.ts';
import type { Part } from '../kernel/extent.ts';
import { parseOptimizer, serializeOptimizer } from '../optimizer/adamax-config.ts';
import type { SessionContents } from '../session/session.ts';
import { defaultSettings, type SessionSettings } from '../session/settings.ts';
import type { SessionSnapshot } from '../session/snapshot.ts';
import type { VariableSpec } from '../session/variable.ts';
import { Workers } from '../session/workers.ts';
import type { Dtype } from '../tensor/dtype.ts';
import type { TensorPlan } from '../tensor/safetensors.ts';
import { sameShape } from '../tensor/tensor.ts';

export const checkpointFormat = 'adamax-server/1';

/** The part of a variable that a tensor's name means: `w`, `w:m` or `w:v`. */
export function splitTensorName(name: string): { variable: string; part: Part | undefined } {
  const colon = name.lastIndexOf(':');
  if (colon < 0) return { variable: name, part: 'w' };
  const suffix = name.slice(colon + 1);
  return { variable: name.slice(0, colon), part: suffix === 'm' || suffix === 'v' ? suffix : undefined };
}

export function tensorName(variable: string, part: Part): string {
  return part === 'w' ? variable : `${variable}:${part}`;
}

/** What a checkpoint says besides the session's state. */
export interface CheckpointNote {
  /** RFC 3339, UTC. */
  readonly savedAt: string;
  /** What the session is in the journal, hexadecimal. */
  readonly journal: string;
}

export function checkpointMetadata(snapshot: SessionSnapshot, note: CheckpointNote): Record<string, string> {
  const { head, createdAt, contents } = snapshot;
  const { durability, checkpointing, aggregation, metadata } = contents.settings;
  return {
    format: checkpointFormat,
    session: head.session,
    revision: String(head.revision),
    iterations: String(head.iterations),
    learning_rate: String(head.learningRate),
    optimizer: JSON.stringify(serializeOptimizer(contents.optimizer)),
    durability,
    checkpointing: JSON.stringify(checkpointing),
    aggregation: JSON.stringify(aggregation),
    metadata: JSON.stringify(metadata),
    workers: JSON.stringify(contents.workers),
    created_at: createdAt,
    saved_at: note.savedAt,
    journal: note.journal,
  };
}

export function checkpointTensors({ contents }: SessionSnapshot): TensorPlan[] {
  return [...contents.variables.values()].flatMap(({ name, dtype, shape }) =>
    (['w', 'm', 'v'] as const).map((part) => ({ name: tensorName(name, part), dtype, shape })),
  );
}

export interface CheckpointDescription {
  readonly session: string;
  readonly revision: number;
  readonly createdAt: string;
  readonly savedAt: string;
  /** `undefined` in those that an older version wrote. */
  readonly journal: string | undefined;
  readonly iterations: number;
  readonly optimizer: SessionContents['optimizer'];
  readonly settings: SessionSettings;
  readonly workers: Workers;
  readonly variables: VariableSpec[];
}

/** Reads a header that `checkpointMetadata` and `checkpointTensors` have written. Throws a Problem for any other. */
export function describeCheckpoint(
  metadata: ReadonlyMap<string, string>,
  entries: ReadonlyMap<string, TensorEntry>,
): CheckpointDescription {
  const { text, count, json } = members(metadata);
  if (text('format') !== checkpointFormat) {
    throw malformed(`a checkpoint's format must be "${checkpointFormat}"`, `"${text('format')}"`);
  }
  return {
    session: text('session'),
    revision: count('revision'),
    createdAt: text('created_at'),
    savedAt: text('saved_at'),
    journal: metadata.get('journal'),
    iterations: count('iterations'),
    optimizer: parseOptimizer(json('optimizer'), () => 0),
    settings: {
      durability: text('durability') as SessionSettings['durability'],
      checkpointing: { ...defaultSettings.checkpointing, ...(json('checkpointing') as object) },
      aggregation: json('aggregation') as SessionSettings['aggregation'],
      metadata: json('metadata') as SessionSettings['metadata'],
    },
    // Those that an older version wrote have none.
    workers: metadata.has('workers') ? readWorkers(json('workers')) : new Workers(),
    variables: readVariables(entries),
  };
}

/** What a header says of one tensor, as far as it matters here. */
type TensorEntry = { readonly dtype: Dtype; readonly shape: readonly number[] };

/** Readers of the metadata's members, each of which must be there. */
function members(metadata: ReadonlyMap<string, string>) {
  const text = (name: string): string => {
    const value = metadata.get(name);
    if (value === undefined) throw malformed(`a checkpoint must have "${name}" in its metadata`, 'none');
    return value;
  };
  const count = (name: string): number => {
    const value = text(name);
    if (/^\d+$/.test(value) && Number.isSafeInteger(Number(value))) return Number(value);
    throw malformed(`a checkpoint must have an integer of at least 0 under "${name}"`, `"${value}"`);
  };
  const json = (name: string): unknown => {
    const value = text(name);
    try {
      return JSON.parse(value);
    } catch (cause) {
      throw malformed(`a checkpoint must have JSON under "${name}"`, 'other text', cause);
    }
  };
  return { text, count, json };
}

function readWorkers(entries: unknown): Workers {
  try {
    return Workers.of(entries);
  } catch (cause) {
    throw malformed('a checkpoint must have its workers under "workers"', 'something else', cause);
  }
}

function readVariables(entries: ReadonlyMap<string, TensorEntry>): VariableSpec[] {
  const variables: VariableSpec[] = [];
  for (const [name, { dtype, shape }] of entries) {
    const { variable, part } = splitTensorName(name);
    const owner = entries.get(variable);
    if (part === undefined || owner === undefined || owner.dtype !== dtype || !sameShape(owner.shape, shape)) {
      throw malformed("a checkpoint's slot must belong to a variable of its shape", `"${name}"`);
    }
    if (dtype !== 'F32' && dtype !== 'F64') {
      throw malformed("a checkpoint's variables must be F32 or F64", `"${name}" of ${dtype}`);
    }
    if (part === 'w') variables.push({ name: variable, dtype, shape });
  }
  if (entries.size !== 3 * variables.length) {
    throw malformed('a checkpoint must have both slots of every variable', `${entries.size} tensors in all`);
  }
  return variables;
}

function malformed(rule: string, received: string, cause?: unknown): Problem {
  return new Problem('malformed_body', `${rule}. Received: ${received}`, { cause });
}
