/** Sessions on the wire: their settings, the document, the list, and the patch. Creating one is new-session.ts. */
import { type Static, Type } from 'typebox';
import { checkpointsKeptMax, everySecondsMax, kerasMembersMax, metadataBytesMax } from '../limits.ts';
import { type SerializedOptimizer, serializeOptimizer } from '../optimizer/adamax-config.ts';
import { stateBytes } from '../session/variable.ts';
import type { SessionView } from '../store/session-view.ts';
import { elementCount } from '../tensor/tensor.ts';
import { Aggregation, AggregationGiven } from './aggregation.ts';
import type { CheckpointInfo } from './checkpoint.ts';
import { Cursor, SessionName } from './common.ts';
import { DtypeName, Shape } from './tensor.ts';

const orNull = <T extends Parameters<typeof Type.Optional>[0]>(type: T) => Type.Union([type, Type.Null()]);

/** Keras' serialised form; its members are read by the optimizer's own parser, which knows their rules. */
export const OptimizerJson = Type.Unsafe<unknown>({
  type: 'object',
  description:
    "Keras' serialised form, `json.dumps(keras.optimizers.serialize(opt))`, of Keras 2 or 3. Every member may be left out. `learning_rate` is a number or a serialised schedule.",
  examples: [{ class_name: 'Adamax', config: { learning_rate: 0.001, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 } }],
});

const Durability = Type.Enum(['always', 'everysec', 'checkpoint'], {
  description:
    'When a change is acknowledged. `always`: when it is on the disk, fsynced; nothing is lost. `everysec`: when it is written, to be fsynced within a second; a killed process loses nothing, a power cut at most a second. `checkpoint`: at once; a crash falls back to the last checkpoint.',
});

const checkpointingMembers = {
  every_steps: orNull(
    Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Null: not by that measure.' }),
  ),
  every_seconds: orNull(
    Type.Number({ minimum: 1, maximum: everySecondsMax, description: 'Null: not by that measure.' }),
  ),
  keep: Type.Integer({ minimum: 1, maximum: checkpointsKeptMax, description: 'How many checkpoints are kept.' }),
  keep_journal_steps: orNull(
    Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      description:
        'How many steps of the journal are kept for forks at an earlier iteration, as far back as a checkpoint reaches. Null: back to the oldest checkpoint.',
    }),
  ),
};

const Metadata = Type.Record(Type.String(), Type.Unknown(), {
  // Each member takes four bytes and more.
  maxProperties: metadataBytesMax / 4,
  description: 'Notes of your own, at most 64 KiB of JSON, nested at most 64 deep.',
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
        keep_journal_steps: Type.Optional(checkpointingMembers.keep_journal_steps),
      },
      { additionalProperties: false },
    ),
  ),
  aggregation: Type.Optional(AggregationGiven),
  metadata: Type.Optional(Metadata),
};

export const SessionPatchBody = Type.Object(
  {
    optimizer: Type.Optional(
      Type.Object(
        {
          class_name: Type.Optional(Type.Literal('Adamax')),
          config: Type.Optional(
            Type.Record(Type.String(), Type.Unknown(), {
              maxProperties: kerasMembersMax,
              description: 'Members to change; null is the default.',
            }),
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
            keep_journal_steps: Type.Optional(checkpointingMembers.keep_journal_steps),
          },
          { additionalProperties: false },
        ),
      ),
    ),
    aggregation: Type.Optional(orNull(AggregationGiven)),
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

/** What a fork is to be. */
export const ForkBody = Type.Object(
  {
    name: Type.Intersect([SessionName], { description: 'Of the new session.' }),
    iterations: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description:
          "The counter that the state is taken at: the session's own, which is the default, or an earlier one that checkpoints and journal still reach.",
      }),
    ),
  },
  { $id: 'Fork', additionalProperties: false, examples: [{ name: 'first-lower-rate', iterations: 1200 }] },
);

export type ForkBody = Static<typeof ForkBody>;

/** What the state of a session comes to, in one line. */
export const FingerprintReply = Type.Object(
  {
    iterations: Type.Integer({ description: 'Applied steps.' }),
    sha256: Type.String({
      pattern: '^[0-9a-f]{64}$',
      description:
        'Of all variables, in ASCII order of their names: `["name","dtype",[shape]]` as JSON without spaces and a newline, then the bytes of `w`, `m` and `v`, little-endian and row-major, each NaN as `7fc00000` (F64: `7ff8000000000000`).',
    }),
  },
  {
    $id: 'Fingerprint',
    additionalProperties: false,
    examples: [{ iterations: 42, sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08' }],
  },
);

export const SessionList = Type.Object(
  {
    sessions: Type.Array(Type.Unsafe<SessionDocument>(Type.Ref('Session'))),
    next: Cursor,
  },
  { $id: 'SessionList', additionalProperties: false },
);

export type SessionList = Static<typeof SessionList>;

export type SessionPatchBody = Static<typeof SessionPatchBody>;

export function encodeSession({ head, contents, createdAt, lastCheckpoint }: SessionView): SessionDocument {
  const variables = [...contents.variables.values()];
  const parameters = variables.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  return {
    name: head.session,
    revision: head.revision,
    optimizer: serializeOptimizer(contents.optimizer),
    iterations: head.iterations,
    learning_rate: head.learningRate,
    variables: Object.fromEntries(variables.map(({ name, shape, dtype }) => [name, { shape: [...shape], dtype }])),
    parameters,
    bytes: stateBytes(variables),
    durability: contents.settings.durability,
    checkpointing: contents.settings.checkpointing,
    aggregation: contents.settings.aggregation,
    metadata: contents.settings.metadata,
    created_at: createdAt,
    last_checkpoint: lastCheckpoint ?? null,
  };
}
