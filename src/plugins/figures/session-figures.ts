/** What there is to tell of each session. Of workers there are sums: `GET …/workers` has them one by one. */
import type { Registry } from 'prom-client';
import type { HeldSession } from '../../store/held-session.ts';
import type { Store } from '../../store/store.ts';
import { newFigure, newHistogram } from './figure.ts';

export function sessionFigures(registry: Registry, store: Store): void {
  const figure = (type: 'counter' | 'gauge', name: string, help: string, of: (held: HeldSession) => number): void => {
    newFigure(registry, type, name, help, () => store.held.map((held) => [{ session: held.name }, of(held)] as const));
  };
  const count = (name: string, help: string, of: (held: HeldSession) => number) => figure('counter', name, help, of);
  const gauge = (name: string, help: string, of: (held: HeldSession) => number) => figure('gauge', name, help, of);
  count('adamax_steps_total', 'Applied steps.', ({ live }) => live.applied.steps);
  count('adamax_rows_total', 'Rows of sparse gradients applied.', ({ live }) => live.applied.rows);
  count('adamax_gradient_bytes_total', 'Bytes of gradients applied.', ({ live }) => live.applied.bytes);
  gauge('adamax_session_iterations', 'Applied steps of a session, its counter.', ({ contents }) => contents.iterations);
  gauge(
    'adamax_session_durable_iterations',
    'The counter of the state that a power cut would leave.',
    ({ durable }) => durable.durable.iterations,
  );
  gauge('adamax_session_memory_bytes', 'Memory of the variables and slots of a session.', ({ bytes }) => bytes);
  newFigure(
    registry,
    'gauge',
    'adamax_waiting_requests',
    'Requests that wait for their turn, or for other workers.',
    () =>
      store.held.flatMap(({ name: session, live, pushes }) => [
        [{ session, queue: 'turn' }, live.turns.waiting] as const,
        [{ session, queue: 'workers' }, pushes.watch.waiting] as const,
      ]),
  );
  checkpointFigures(count, gauge);
  gauge('adamax_workers', 'Workers that are known of a session.', ({ workerCounts }) => workerCounts.known);
  gauge('adamax_workers_quarantined', 'Workers that are put aside.', ({ workerCounts }) => {
    return workerCounts.quarantined;
  });
  count('adamax_worker_pushes_refused_total', 'Pushes of named workers that were refused.', ({ pushes }) => {
    return pushes.watch.rejected;
  });
  newHistogram(
    registry,
    'adamax_staleness',
    'Steps by the staleness of their gradients: how many others came after the variables that they are of.',
    () => store.held.map(({ name: session, pushes }) => [{ session }, pushes.watch.staleness] as const),
  );
}

type Add = (name: string, help: string, of: (held: HeldSession) => number) => void;

function checkpointFigures(count: Add, gauge: Add): void {
  gauge('adamax_checkpoint_age_seconds', 'Time since the last checkpoint.', ({ checkpoints }) => {
    return (Date.now() - checkpoints.saved.at) / 1000;
  });
  gauge('adamax_checkpoint_behind_steps', 'Steps since the last checkpoint.', ({ contents, checkpoints }) =>
    Math.abs(contents.iterations - checkpoints.saved.iterations),
  );
  count('adamax_checkpoint_failures_total', 'Checkpoints that could not be written.', ({ checkpoints }) => {
    return checkpoints.failures;
  });
}
