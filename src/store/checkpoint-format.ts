/**
 * What a checkpoint file says: one safetensors file with `w`, `w:m` and `w:v` for every variable and, in `__metadata__`,
 * the rest of the session as JSON texts. `format` names this layout; a file of another version is refused by name.
 */
import { Problem } from '../errors.ts';
import type { Part } from '../kernel/extent.ts';
import { parseOptimizer, serializeOptimizer } from '../optimizer/adamax-config.ts';
import type { SessionContents } from '../session/session.ts';
import type { SessionSettings } from '../session/settings.ts';
import type { SessionSnapshot } from '../session/snapshot.ts';
import type { VariableSpec } from '../session/variable.ts';
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

/** `savedAt`: RFC 3339, UTC. */
export function checkpointMetadata(snapshot: SessionSnapshot, savedAt: string): Record<string, string> {
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
    created_at: createdAt,
    saved_at: savedAt,
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
  readonly iterations: number;
  readonly optimizer: SessionContents['optimizer'];
  readonly settings: SessionSettings;
  readonly variables: VariableSpec[];
}

/** Reads a header that `checkpointMetadata` and `checkpointTensors` have written. Throws for any other. */
export function describeCheckpoint(
  metadata: ReadonlyMap<string, string>,
  entries: ReadonlyMap<string, { dtype: Dtype; shape: readonly number[] }>,
): CheckpointDescription {
  const text = (name: string): string => {
    const value = metadata.get(name);
    if (value === undefined)
      throw new Problem('malformed_body', `a checkpoint must have "${name}" in its metadata. Received: none`);
    return value;
  };
  if (text('format') !== checkpointFormat) {
    throw new Problem(
      'malformed_body',
      `a checkpoint's format must be "${checkpointFormat}". Received: "${text('format')}"`,
    );
  }
  const variables: VariableSpec[] = [];
  for (const [name, { dtype, shape }] of entries) {
    const { variable, part } = splitTensorName(name);
    const owner = entries.get(variable);
    if (part === undefined || owner === undefined || owner.dtype !== dtype || !sameShape(owner.shape, shape)) {
      throw new Problem(
        'malformed_body',
        `a checkpoint's slot must belong to a variable of its shape. Received: "${name}"`,
      );
    }
    if (dtype !== 'F32' && dtype !== 'F64') {
      throw new Problem(
        'malformed_body',
        `a checkpoint's variables must be F32 or F64. Received: "${name}" of ${dtype}`,
      );
    }
    if (part === 'w') variables.push({ name: variable, dtype, shape });
  }
  return {
    session: text('session'),
    revision: Number(text('revision')),
    createdAt: text('created_at'),
    savedAt: text('saved_at'),
    iterations: Number(text('iterations')),
    optimizer: parseOptimizer(JSON.parse(text('optimizer')), () => 0),
    settings: {
      durability: text('durability') as SessionSettings['durability'],
      checkpointing: JSON.parse(text('checkpointing')),
      aggregation: JSON.parse(text('aggregation')),
      metadata: JSON.parse(text('metadata')),
    },
    variables,
  };
}
