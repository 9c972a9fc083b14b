/** Checkpoints on the wire. */
import { type Static, Type } from 'typebox';

export const CheckpointInfo = Type.Object(
  {
    id: Type.String({ examples: ['ckpt-000007'] }),
    iterations: Type.Integer(),
    bytes: Type.Integer(),
    sha256: Type.String({ pattern: '^[0-9a-f]{64}$', description: 'Of the whole file.' }),
    created_at: Type.String({ description: 'RFC 3339, UTC.' }),
  },
  {
    $id: 'Checkpoint',
    additionalProperties: false,
    examples: [
      {
        id: 'ckpt-000007',
        iterations: 1200,
        bytes: 94_560,
        sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
        created_at: '2026-11-24T06:30:00.000Z',
      },
    ],
  },
);

export type CheckpointInfo = Static<typeof CheckpointInfo>;

export const CheckpointList = Type.Object(
  {
    session: Type.String(),
    revision: Type.Integer(),
    checkpoints: Type.Array(Type.Unsafe<CheckpointInfo>(Type.Ref('Checkpoint')), { description: 'Newest first.' }),
  },
  { $id: 'CheckpointList', additionalProperties: false },
);
