/** The workers of a session on the wire. */
import { type Static, Type } from 'typebox';
import type { WorkerView } from '../store/worker-view.ts';

const Worker = Type.Object(
  {
    name: Type.String(),
    last_seen: Type.Union([Type.String(), Type.Null()], {
      description: 'When its last push came, RFC 3339, UTC; null if that was before the server was started.',
    }),
    steps: Type.Integer({ description: 'That its gradients had a part in.' }),
    mean_staleness: Type.Union([Type.Number(), Type.Null()], {
      description: 'Of its steps that came with a `base`; null where there are none.',
    }),
    last_staleness: Type.Union([Type.Integer(), Type.Null()]),
    rejected: Type.Integer({ description: 'Pushes that were refused since the server was started.' }),
    waiting: Type.Boolean({ description: 'Whether a push of it waits for other workers now.' }),
    quarantined: Type.Boolean({ description: 'Whether its pushes are refused until it is released.' }),
  },
  { additionalProperties: false },
);

export const WorkerList = Type.Object(
  {
    session: Type.String(),
    revision: Type.Integer(),
    workers: Type.Array(Worker, { description: 'By name.' }),
  },
  {
    $id: 'WorkerList',
    additionalProperties: false,
    examples: [
      {
        session: 'mnist',
        revision: 43,
        workers: [
          {
            name: 'worker-3',
            last_seen: '2026-01-02T03:04:05.678Z',
            steps: 14,
            mean_staleness: 1.5,
            last_staleness: 2,
            rejected: 0,
            waiting: false,
            quarantined: false,
          },
        ],
      },
    ],
  },
);

export type WorkerList = Static<typeof WorkerList>;

export function encodeWorkers(session: string, revision: number, workers: readonly WorkerView[]): WorkerList {
  return {
    session,
    revision,
    workers: workers.map((each) => ({
      name: each.name,
      last_seen: each.lastSeen ?? null,
      steps: each.steps,
      mean_staleness: each.meanStaleness ?? null,
      last_staleness: each.lastStaleness ?? null,
      rejected: each.rejected,
      waiting: each.waiting,
      quarantined: each.quarantined,
    })),
  };
}
