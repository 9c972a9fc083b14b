/** What the server says of itself to people: `GET /v1/info`. What machines watch over time is in `/metrics`. */
import { type Static, Type } from 'typebox';
import type { HeldSession } from '../store/held-session.ts';
import type { Store } from '../store/store.ts';

export const sections = ['server', 'memory', 'persistence', 'clients', 'stats', 'sessions'] as const;

const orNull = <T extends Parameters<typeof Type.Optional>[0]>(type: T) => Type.Union([type, Type.Null()]);
const closed = { additionalProperties: false };
const Bytes = Type.Integer({ minimum: 0 });
const Count = Type.Integer({ minimum: 0 });
const Moment = Type.String({ description: 'RFC 3339, UTC.' });

const Server = Type.Object(
  {
    version: Type.String(),
    node: Type.String(),
    pid: Type.Integer(),
    started_at: Moment,
    uptime_seconds: Type.Number(),
    ready: Type.Boolean({ description: 'Whether all sessions are back.' }),
    config: Type.Object(
      {
        log_level: Type.String(),
        tokens: Type.Boolean({ description: 'Whether requests need one.' }),
        body_bytes_max: Bytes,
        memory_bytes_max: Bytes,
        disk_free_bytes_min: Bytes,
        requests_max: Count,
        threads: Count,
        idempotency_keys: Count,
        shutdown_timeout_ms: Count,
      },
      { ...closed, description: 'No addresses, paths or secrets.' },
    ),
  },
  closed,
);

const Memory = Type.Object(
  {
    rss_bytes: Bytes,
    heap_used_bytes: Bytes,
    heap_total_bytes: Bytes,
    external_bytes: Type.Integer({ minimum: 0, description: 'Buffers among them.' }),
    budget: Type.Object(
      {
        max_bytes: Type.Integer({ minimum: 0, description: 'For sessions and requests together.' }),
        sessions_bytes: Type.Integer({ minimum: 0, description: 'What sessions have.' }),
        requests_bytes: Type.Integer({ minimum: 0, description: 'What is lent to bodies and replies now.' }),
      },
      closed,
    ),
  },
  closed,
);

const SessionPersistence = Type.Object(
  {
    name: Type.String(),
    durability: Type.Enum(['always', 'everysec', 'checkpoint'], {
      description: 'What pushes are acknowledged at now.',
    }),
    iterations: Type.Integer({ description: 'Of the session as it stands.' }),
    durable: Type.Boolean({
      description: 'Whether the disk has the session as it stands: a power cut would cost nothing.',
    }),
    durable_iterations: Type.Integer({
      description: 'Of the state that a power cut would leave. The disk may have more, never less.',
    }),
    in: Type.Enum(['checkpoint', 'journal', 'journal tail'], {
      description: 'Where that state, or its last record, lies.',
    }),
    written_iterations: Type.Integer({ description: 'Of the state that a killed process would leave.' }),
    last_checkpoint: orNull(
      Type.Object(
        { id: Type.String(), iterations: Count, created_at: Moment, age_seconds: Type.Number() },
        { ...closed, description: 'The newest.' },
      ),
    ),
    checkpoint_failures: Type.Integer({ description: 'Since the server was started.' }),
  },
  closed,
);

const Persistence = Type.Object(
  {
    read_only: orNull(
      Type.Object(
        { code: Type.String(), detail: Type.String() },
        { ...closed, description: 'Why no changes are taken; null while they are.' },
      ),
    ),
    damaged_files: Type.Integer({
      description: 'That could not be read at the start and were set aside; /readyz names them.',
    }),
    journal: orNull(
      Type.Object(
        {
          database_bytes: Bytes,
          tail_bytes: Bytes,
          data_bytes: Type.Integer({ minimum: 0, description: 'Of large records, in files of their own.' }),
          last_fsync_seconds: Type.Object(
            { database: orNull(Type.Number()), tail: orNull(Type.Number()), data: orNull(Type.Number()) },
            {
              ...closed,
              description: 'How long the last write took until the disk had it; null where there was none.',
            },
          ),
        },
        { ...closed, description: 'Null until the sessions are back.' },
      ),
    ),
    disk: orNull(Type.Object({ size_bytes: Bytes, free_bytes: Bytes }, closed)),
    sessions: Type.Array(SessionPersistence, { description: 'By name.' }),
  },
  closed,
);

const Clients = Type.Object(
  {
    connections: Count,
    listeners: Type.Integer({ minimum: 0, description: 'To events.' }),
    waiting_for_turn: Type.Integer({ minimum: 0, description: 'Requests to the sessions listed.' }),
    waiting_for_workers: Type.Integer({ minimum: 0, description: 'Pushes that wait for others.' }),
  },
  closed,
);

const Work = { steps: Count, rows: Count, gradient_bytes: Bytes };

const Stats = Type.Object(
  {
    requests: Type.Integer({ minimum: 0, description: 'Answered since the server was started.' }),
    problems: Type.Record(Type.String(), Count, { description: 'Replies that were problems, by code.' }),
    ...Work,
  },
  { ...closed, description: 'Steps, rows and bytes are those of the sessions that there are now.' },
);

const SessionFigures = Type.Object(
  {
    name: Type.String(),
    revision: Count,
    iterations: Count,
    created_at: Moment,
    variables: Count,
    memory_bytes: Bytes,
    ...Work,
    waiting_for_turn: Count,
    waiting_for_workers: Count,
    workers: Count,
    workers_quarantined: Count,
  },
  closed,
);

export const Info = Type.Object(
  {
    server: Type.Optional(Server),
    memory: Type.Optional(Memory),
    persistence: Type.Optional(Persistence),
    clients: Type.Optional(Clients),
    stats: Type.Optional(Stats),
    sessions: Type.Optional(Type.Array(SessionFigures, { description: 'By name.' })),
  },
  { $id: 'Info', ...closed, description: 'All sections, or the one that was asked for.' },
);

export type Info = Static<typeof Info>;
export type SectionName = (typeof sections)[number];

export function encodePersistence(held: HeldSession, now: number): Static<typeof SessionPersistence> {
  const { durable, written, in: where, isLast } = held.durable;
  const { lastCheckpoint } = held.view;
  return {
    name: held.name,
    durability: held.durability,
    iterations: held.contents.iterations,
    durable: isLast,
    durable_iterations: durable.iterations,
    in: where,
    written_iterations: written.iterations,
    last_checkpoint: lastCheckpoint
      ? {
          id: lastCheckpoint.id,
          iterations: lastCheckpoint.iterations,
          created_at: lastCheckpoint.created_at,
          age_seconds: Math.max(0, now - Date.parse(lastCheckpoint.created_at)) / 1000,
        }
      : null,
    checkpoint_failures: held.checkpoints.failures,
  };
}

export async function encodeJournal(journal: Store['journal']): Promise<Static<typeof Persistence>['journal']> {
  if (journal === undefined) return null;
  const { database, tail, data } = await journal.sizes();
  const { fsyncSeconds } = journal;
  return {
    database_bytes: database,
    tail_bytes: tail,
    data_bytes: data,
    last_fsync_seconds: {
      database: fsyncSeconds.database.last ?? null,
      tail: fsyncSeconds.tail.last ?? null,
      data: fsyncSeconds.data.last ?? null,
    },
  };
}

export function encodeFigures({ name, contents, live, view, bytes, workerCounts, pushes }: HeldSession) {
  const { steps, rows, bytes: gradientBytes } = live.applied;
  return {
    name,
    revision: view.head.revision,
    iterations: contents.iterations,
    created_at: view.createdAt,
    variables: contents.variables.size,
    memory_bytes: bytes,
    steps,
    rows,
    gradient_bytes: gradientBytes,
    waiting_for_turn: live.turns.waiting,
    waiting_for_workers: pushes.watch.waiting,
    workers: workerCounts.known,
    workers_quarantined: workerCounts.quarantined,
  } satisfies Static<typeof SessionFigures>;
}
