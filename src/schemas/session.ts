/** Sessions on the wire: the document, the creation from JSON, and the patch. */
import { randomInt } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { Problem } from '../errors.ts';
import { metadataBytesMax, variablesMax } from '../limits.ts';
import { parseOptimizer, type SerializedOptimizer, serializeOptimizer } from '../optimizer/adamax-config.ts';
import { type Initializer, initialize, parseInitializer } from '../optimizer/initializers.ts';
import { checkRange } from '../session/gradient.ts';
import type { SessionContents } from '../session/session.ts';
import { defaultSettings, type SessionSettings, type SettingsPatch } from '../session/settings.ts';
import { allocateVariables, type Variable, type VariableSpec } from '../session/variable.ts';
import type { SessionView } from '../store/store.ts';
import type { FloatDtype, VariableDtype } from '../tensor/dtype.ts';
import { bytesPerElement } from '../tensor/dtype.ts';
import { elementCount, type Tensor } from '../tensor/tensor.ts';
import type { CheckpointInfo } from './checkpoint.ts';
import { Cursor, variableNamePattern } from './common.ts';
import { escapePointer, requireFinite } from './slices.ts';
import { DtypeName, decodeTensor, Shape, type TensorJson, tensorMembers } from './tensor.ts';

const orNull = <T extends Parameters<typeof Type.Optional>[0]>(type: T) => Type.Union([type, Type.Null()]);

/** Keras' serialised form; its members are read by the optimizer's own parser, which knows their rules. */
export const OptimizerJson = Type.Unsafe<unknown>({
  type: 'object',
  description:
    "Keras' serialised form, `json.dumps(keras.optimizers.serialize(opt))`, of Keras 2 or 3. Every member may be left out. `learning_rate` is a number or a serialised schedule.",
  examples: [{ class_name: 'Adamax', config: { learning_rate: 0.001, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 } }],
});

const Durability = Type.Literal('checkpoint', {
  description: 'A push is acknowledged at once; a crash falls back to the last checkpoint.',
});

const checkpointingMembers = {
  every_steps: orNull(
    Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Null: not by that measure.' }),
  ),
  every_seconds: orNull(Type.Number({ minimum: 1, maximum: 1e9, description: 'Null: not by that measure.' })),
  keep: Type.Integer({ minimum: 1, maximum: 10_000, description: 'How many checkpoints are kept.' }),
};

const Aggregation = Type.Object(
  { mode: Type.Literal('async', { description: 'Each push is a step on arrival.' }) },
  { additionalProperties: false },
);

const Metadata = Type.Record(Type.String(), Type.Unknown(), {
  description: 'Notes of your own, at most 64 KiB of JSON.',
});

/** The settings that a creation can give, in JSON or as JSON texts in a file's metadata. */
export const settingsMembers = {
  durability: Type.Optional(Durability),
  checkpointing: Type.Optional(
    Type.Object(
      {
        every_steps: Type.Optional(checkpointingMembers.every_steps),
        every_seconds: Type.Optional(checkpointingMembers.every_seconds),
        keep: Type.Optional(checkpointingMembers.keep),
      },
      { additionalProperties: false },
    ),
  ),
  aggregation: Type.Optional(Aggregation),
  metadata: Type.Optional(Metadata),
};

const VariableBody = Type.Object(
  {
    ...tensorMembers,
    values: Type.Optional(tensorMembers.values),
    initializer: Type.Optional(
      Type.Unsafe<unknown>({
        type: ['object', 'string'],
        description:
          "Keras' serialised form, or its name. `Zeros` by default; a `seed` that is not given is drawn and recorded.",
        examples: [{ class_name: 'GlorotUniform', config: { seed: 7 } }],
      }),
    ),
  },
  { $id: 'NewVariable', additionalProperties: false, description: '`values`, or `shape` with an `initializer`.' },
);

export const SessionBody = Type.Object(
  {
    optimizer: Type.Optional(OptimizerJson),
    variables: Type.Optional(
      Type.Record(Type.String({ pattern: variableNamePattern }), VariableBody, {
        additionalProperties: false,
        maxProperties: variablesMax,
      }),
    ),
    ...settingsMembers,
  },
  {
    $id: 'NewSession',
    additionalProperties: false,
    description: 'A session to create. Every member may be left out.',
    examples: [
      {
        optimizer: { class_name: 'Adamax', config: { learning_rate: 0.001 } },
        variables: {
          'dense/kernel': { shape: [784, 10], initializer: { class_name: 'GlorotUniform', config: { seed: 7 } } },
          'dense/bias': { values: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0] },
        },
        checkpointing: { every_steps: 1000, every_seconds: 300, keep: 5 },
        metadata: { owner: 'team-a' },
      },
    ],
  },
);

export type SessionBody = Static<typeof SessionBody>;

export const SessionPatchBody = Type.Object(
  {
    optimizer: Type.Optional(
      Type.Object(
        {
          class_name: Type.Optional(Type.Literal('Adamax')),
          config: Type.Optional(
            Type.Record(Type.String(), Type.Unknown(), { description: 'Members to change; null is the default.' }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    iterations: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
    durability: Type.Optional(orNull(Durability)),
    checkpointing: Type.Optional(
      orNull(
        Type.Object(
          {
            every_steps: Type.Optional(checkpointingMembers.every_steps),
            every_seconds: Type.Optional(checkpointingMembers.every_seconds),
            keep: Type.Optional(checkpointingMembers.keep),
          },
          { additionalProperties: false },
        ),
      ),
    ),
    aggregation: Type.Optional(
      orNull(Type.Object({ mode: Type.Optional(Aggregation.properties.mode) }, { additionalProperties: false })),
    ),
    metadata: Type.Optional(orNull(Metadata)),
  },
  {
    $id: 'SessionPatch',
    additionalProperties: false,
    description:
      'JSON Merge Patch (RFC 7396). A `learning_rate` that names another schedule class replaces the schedule instead of merging into it.',
    examples: [{ optimizer: { config: { learning_rate: 0.0005 } } }],
  },
);

export const SessionDocument = Type.Object(
  {
    name: Type.String(),
    revision: Type.Integer(),
    optimizer: Type.Unsafe<SerializedOptimizer>(
      Type.Object({ class_name: Type.Literal('Adamax'), config: Type.Record(Type.String(), Type.Unknown()) }),
    ),
    iterations: Type.Integer({ description: 'Applied steps.' }),
    learning_rate: Type.Number({ description: 'The rate that the next step will use.' }),
    variables: Type.Record(
      Type.String(),
      Type.Object({ shape: Shape, dtype: DtypeName }, { additionalProperties: false }),
    ),
    parameters: Type.Integer({ description: 'Elements of all variables.' }),
    bytes: Type.Integer({ description: 'Memory held for variables and slots.' }),
    durability: Durability,
    checkpointing: Type.Object(checkpointingMembers, { additionalProperties: false }),
    aggregation: Aggregation,
    metadata: Metadata,
    created_at: Type.String({ description: 'RFC 3339, UTC.' }),
    last_checkpoint: orNull(Type.Unsafe<CheckpointInfo>(Type.Ref('Checkpoint'))),
  },
  { $id: 'Session', additionalProperties: false },
);

export type SessionDocument = Static<typeof SessionDocument>;

export const SessionList = Type.Object(
  {
    sessions: Type.Array(Type.Unsafe<SessionDocument>(Type.Ref('Session'))),
    next: Cursor,
  },
  { $id: 'SessionList', additionalProperties: false },
);

export type SessionList = Static<typeof SessionList>;

export type SessionPatchBody = Static<typeof SessionPatchBody>;

export function encodeSession({ session, lastCheckpoint }: SessionView): SessionDocument {
  const { head, contents, createdAt } = session;
  const variables = [...contents.variables.values()];
  const parameters = variables.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const bytes = variables.reduce((sum, { shape, dtype }) => sum + 3 * elementCount(shape) * bytesPerElement[dtype], 0);
  return {
    name: session.name,
    revision: head.revision,
    optimizer: serializeOptimizer(contents.optimizer),
    iterations: head.iterations,
    learning_rate: head.learningRate,
    variables: Object.fromEntries(variables.map(({ name, shape, dtype }) => [name, { shape: [...shape], dtype }])),
    parameters,
    bytes,
    durability: contents.settings.durability,
    checkpointing: contents.settings.checkpointing,
    aggregation: contents.settings.aggregation,
    metadata: contents.settings.metadata,
    created_at: createdAt,
    last_checkpoint: lastCheckpoint ?? null,
  };
}

/** A seed for what is to be random but was given none; it is recorded, so that a replay gives the same again. */
export function drawSeed(): number {
  return randomInt(2 ** 47);
}

interface NewVariable extends VariableSpec {
  readonly values: Tensor<FloatDtype> | undefined;
  readonly initializer: Initializer;
}

/** Checks a creation whole; the contents themselves are made when their turn has come. */
export function decodeSession(body: SessionBody): () => SessionContents {
  const optimizer = parseOptimizer(body.optimizer, drawSeed);
  const settings = newSettings(body);
  const specs = Object.entries(body.variables ?? {}).map(([name, json]) => decodeVariable(name, json));
  return () => {
    const variables = allocateVariables(specs.map(({ name, dtype, shape }) => ({ name, dtype, shape })));
    for (const { name, values, initializer, shape, dtype } of specs) {
      const { memory } = variables.get(name) as Variable;
      if (values !== undefined) memory.write('w', 0, elementCount(shape), values);
      else if (initializer.class_name !== 'Zeros') {
        for (const { first, values: block } of initialize(initializer, shape, dtype)) {
          const bytes = new Uint8Array(block.buffer, block.byteOffset, block.byteLength);
          memory.write('w', first, block.length, { dtype, bytes });
        }
      }
    }
    return { variables, optimizer, iterations: 0, settings };
  };
}

export function newSettings(given: SettingsPatch): SessionSettings {
  checkMetadata(given.metadata);
  return {
    ...defaultSettings,
    checkpointing: { ...defaultSettings.checkpointing, ...given.checkpointing },
    metadata: given.metadata ?? {},
  };
}

/** Throws `invalid_argument` for more notes than a session takes. */
export function checkMetadata(metadata: SettingsPatch['metadata']): void {
  const bytes = Buffer.byteLength(JSON.stringify(metadata ?? {}));
  if (bytes <= metadataBytesMax) return;
  throw new Problem(
    'invalid_argument',
    `metadata must have at most ${metadataBytesMax} bytes as JSON. Received: ${bytes}`,
  );
}

/** The dtype of a new variable: its own, or the one that its values widen to. */
export function variableDtype(name: string, dtype: TensorJson['dtype']): VariableDtype {
  if (dtype === undefined || dtype === 'F16' || dtype === 'BF16' || dtype === 'F32') return 'F32';
  if (dtype === 'F64') return 'F64';
  throw new Problem(
    'dtype_mismatch',
    `variable ${JSON.stringify(name)} must be F32 or F64 (F16 and BF16 widen to F32). Received: ${dtype}`,
  );
}

function decodeVariable(name: string, json: Static<typeof VariableBody>): NewVariable {
  const pointer = `/variables/${escapePointer(name)}`;
  const dtype = variableDtype(name, json.dtype);
  const quoted = JSON.stringify(name);
  if (json.values !== undefined) {
    if (json.initializer !== undefined)
      throw both(pointer, `${quoted} must have values or an initializer. Received: both`);
    const values = decodeTensor(json as TensorJson, undefined, pointer);
    requireFinite(new Map([[name, { values }]]));
    checkRange(name, dtype, values);
    return { name, dtype, shape: values.shape, values, initializer: { class_name: 'Zeros', config: {} } };
  }
  if (json.shape === undefined) throw both(pointer, `${quoted} must have values, or a shape. Received: neither`);
  const initializer = parseInitializer(json.initializer, `${pointer}/initializer`, drawSeed, dtype);
  return { name, dtype, shape: json.shape, values: undefined, initializer };
}

function both(pointer: string, detail: string): Problem {
  return new Problem('invalid_argument', detail, { errors: [{ pointer, detail }] });
}
