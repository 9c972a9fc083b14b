/** What there is to tell of the server as a whole: stages of pushes, memory, the journal, the disk, connections. */
import type { FastifyInstance } from 'fastify';
import type { Registry } from 'prom-client';
import { diskSpace } from '../../journal/files.ts';
import { queuedRequestsMax } from '../../limits.ts';
import { stages } from '../../store/figures.ts';
import type { Store } from '../../store/store.ts';
import { packageVersion } from '../package-version.ts';
import { newFigure, newHistogram } from './figure.ts';

type Disk = NonNullable<Awaited<ReturnType<typeof diskSpace>>>;

export function serverFigures(registry: Registry, app: FastifyInstance, store: Store): void {
  const gauge = (name: string, help: string, of: () => number | Promise<number>): void => {
    newFigure(registry, 'gauge', name, help, async () => [[{}, await of()]]);
  };
  const diskFigure = (name: string, help: string, of: (disk: Disk) => number): void => {
    newFigure(registry, 'gauge', name, help, async () => {
      const disk = await diskSpace(store.folder);
      return disk === undefined ? [] : [[{}, of(disk)]];
    });
  };
  newFigure(registry, 'gauge', 'adamax_build_info', 'Always 1; the labels say what runs.', () => [
    [{ version: packageVersion(), node: process.version }, 1],
  ]);
  gauge('adamax_ready', '1 when all sessions are back.', () => Number(store.status.ready));
  gauge('adamax_read_only', '1 while the disk fails and no changes are taken.', () => {
    return Number(store.status.problem !== undefined);
  });
  gauge('adamax_damaged_files', 'Files that could not be read at the start and were set aside.', () => {
    return store.status.damaged.length;
  });
  gauge('adamax_sessions', 'Sessions in memory.', () => store.status.sessions);
  gauge('adamax_waiting_requests_max', 'Requests that may wait for one session.', () => queuedRequestsMax);
  gauge('adamax_connections', 'Open connections.', () => app.connections.open);
  newFigure(
    registry,
    'counter',
    'adamax_connections_dropped_total',
    'Connections that were refused, since there were CONNECTIONS_MAX.',
    () => [[{}, app.connections.dropped]],
  );
  gauge('adamax_memory_max_bytes', 'Memory that sessions and requests may have together.', () => store.memory.max);
  newFigure(
    registry,
    'gauge',
    'adamax_memory_bytes',
    'Memory that sessions have, and the bodies and replies of requests.',
    () => [
      [{ use: 'sessions' }, store.memory.held],
      [{ use: 'requests' }, store.memory.lent],
    ],
  );
  newHistogram(
    registry,
    'adamax_push_stage_duration_seconds',
    'Pushes that were applied, by the stages that they go through.',
    () => stages.map((stage) => [{ stage }, store.figures.stages[stage]] as const),
  );
  newHistogram(registry, 'adamax_checkpoint_duration_seconds', 'Checkpoints written, and how long each took.', () => [
    [{}, store.figures.checkpoints],
  ]);
  diskFigure('adamax_disk_free_bytes', 'Free on the disk with the data folder.', ({ free }) => free);
  gauge('adamax_disk_free_min_bytes', 'What is to stay free there: DISK_FREE_BYTES_MIN.', () => store.disk.minBytes);
  diskFigure('adamax_disk_size_bytes', 'Of the disk with the data folder.', ({ bytes }) => bytes);
  journalFigures(registry, store);
}

function journalFigures(registry: Registry, store: Store): void {
  newHistogram(
    registry,
    'adamax_fsync_duration_seconds',
    'Writes that were waited for until the disk had them, by part of the journal.',
    () => Object.entries(store.journal?.fsyncSeconds ?? {}).map(([part, seconds]) => [{ part }, seconds] as const),
  );
  newFigure(registry, 'gauge', 'adamax_journal_bytes', "The journal's files, by what they are.", async () =>
    Object.entries((await store.journal?.sizes()) ?? {}).map(([part, bytes]) => [{ part }, bytes] as const),
  );
}
