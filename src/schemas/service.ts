/** What the server says of itself. */
import { Type } from 'typebox';

export const Health = Type.Object({ status: Type.Literal('alive') }, { $id: 'Health', additionalProperties: false });

export const Readiness = Type.Object(
  {
    status: Type.Literal('ready'),
    sessions: Type.Integer({ description: 'Sessions in memory.' }),
    damaged: Type.Array(
      Type.Object(
        {
          session: Type.Optional(
            Type.String({ description: 'Absent where the damage concerns no session that there is.' }),
          ),
          file: Type.String({ description: 'Where it lies now.' }),
          reason: Type.String(),
        },
        { additionalProperties: false },
      ),
      { description: 'Files that could not be read; they were set aside, never deleted.' },
    ),
    disk: Type.Optional(
      Type.Object(
        {
          level: Type.Enum(['low', 'scarce', 'short'], {
            description: '`low`: a warning. `scarce`: no new sessions. `short`: no changes that need room.',
          }),
          free_bytes: Type.Integer(),
        },
        { additionalProperties: false, description: 'Where the disk of the data folder is filling up.' },
      ),
    ),
  },
  { $id: 'Readiness', additionalProperties: false },
);
