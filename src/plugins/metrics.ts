/** What operators watch, in Prometheus' form: requests, steps and sessions. `/metrics` serves the registry. */
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { Counter, collectDefaultMetrics, Gauge, Histogram, type Metric, Registry } from 'prom-client';
import type { HeldSession } from '../store/held-session.ts';
import type { Store } from '../store/store.ts';
import type { WorkerView } from '../store/worker-view.ts';
import { stalenessBounds } from '../store/worker-watch.ts';
import { synchronous } from './synchronous.ts';

const seconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export interface Metrics {
  readonly registry: Registry;
  /** One checkpoint written. */
  checkpoint(durationSeconds: number): void;
}

export const metrics = fp(async (app: FastifyInstance, { store }: { store: Store }) => {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const requests = new Histogram({
    name: 'adamax_http_request_duration_seconds',
    help: 'Requests by route, method and status; the time from the header to the end of the reply.',
    labelNames: ['route', 'method', 'status'],
    buckets: seconds,
    registers,
  });
  const refusals = new Counter({
    name: 'adamax_problems_total',
    help: 'Replies that were problems, by code.',
    labelNames: ['code'],
    registers,
  });
  sessionFigures(store, registers);
  const checkpoints = new Histogram({
    name: 'adamax_checkpoint_duration_seconds',
    help: 'Checkpoints written, and how long each took.',
    buckets: seconds,
    registers,
  });
  const checkpoint = (durationSeconds: number): void => checkpoints.observe(durationSeconds);
  store.onCheckpoint = (written) => checkpoint(written.seconds);

  app.decorate('metrics', { registry, checkpoint } satisfies Metrics);
  app.addHook(
    'onResponse',
    synchronous((request, reply) => {
      const route = request.routeOptions.url ?? 'none';
      requests.observe({ route, method: request.method, status: reply.statusCode }, reply.elapsedTime / 1000);
      if (request.problemCode !== undefined) refusals.inc({ code: request.problemCode });
    }),
  );
});

type Kind = typeof Counter | typeof Gauge;
type Figure = readonly [labels: Record<string, string>, value: number];

/** One whose values are taken whenever they are asked for. */
function newFigure(
  registers: Registry[],
  name: string,
  help: string,
  Kind: Kind,
  labelNames: string[],
  figures: () => readonly Figure[],
): void {
  new Kind({
    name,
    help,
    labelNames,
    registers,
    collect() {
      this.reset();
      for (const [labels, value] of figures()) this.inc(labels, value);
    },
  });
}

/** Figures that are read off the sessions whenever they are asked for. */
function sessionFigures(store: Store, registers: Registry[]): void {
  const figure = (Kind: Kind, name: string, help: string, of: (held: HeldSession) => number): void => {
    newFigure(registers, name, help, Kind, ['session'], () => {
      return store.held.map((held): Figure => [{ session: held.name }, of(held)]);
    });
  };
  new Gauge({
    name: 'adamax_sessions',
    help: 'Sessions in memory.',
    registers,
    collect() {
      this.set(store.status.sessions);
    },
  });
  new Gauge({
    name: 'adamax_read_only',
    help: '1 while the disk fails and no changes are taken.',
    registers,
    collect() {
      this.set(store.status.problem === undefined ? 0 : 1);
    },
  });
  workerFigures(store, registers);
  figure(Counter, 'adamax_steps_total', 'Applied steps.', ({ live }) => live.applied.steps);
  figure(Counter, 'adamax_rows_total', 'Rows of sparse gradients applied.', ({ live }) => live.applied.rows);
  figure(Counter, 'adamax_gradient_bytes_total', 'Bytes of gradients applied.', ({ live }) => live.applied.bytes);
  figure(
    Gauge,
    'adamax_session_iterations',
    'Applied steps of a session, its counter.',
    ({ contents }) => contents.iterations,
  );
  figure(Gauge, 'adamax_checkpoint_age_seconds', 'Time since the last checkpoint, or since the start.', (session) =>
    session.checkpoints.age(Date.now()),
  );
}

/** What each worker, by the name that it gives itself, has done and waits for. */
function workerFigures(store: Store, registers: Registry[]): void {
  const figure = (Kind: Kind, name: string, help: string, of: (worker: WorkerView) => number): void => {
    newFigure(registers, name, help, Kind, ['session', 'worker'], () => {
      return store.held.flatMap(({ name: session, workers }) => {
        return workers.map((worker): Figure => [{ session, worker: worker.name }, of(worker)]);
      });
    });
  };
  figure(Counter, 'adamax_worker_steps_total', 'Steps that a worker had a part in.', ({ steps }) => steps);
  figure(Counter, 'adamax_worker_rejected_total', 'Pushes of a worker that were refused.', ({ rejected }) => rejected);
  figure(Gauge, 'adamax_worker_waiting', '1 while a push of the worker waits for others.', ({ waiting }) =>
    Number(waiting),
  );
  figure(Gauge, 'adamax_worker_quarantined', '1 while the worker is put aside.', ({ quarantined }) =>
    Number(quarantined),
  );
  for (const registry of registers) registry.registerMetric(stalenessHistogram(store));
}

/** Counted by each session as its steps are made, and only put into words here. */
function stalenessHistogram(store: Store): Metric {
  const name = 'adamax_staleness';
  const help = 'Steps by the staleness of their gradients: how many others came after the variables that they are of.';
  const valuesOf = ({ name: session, pushes }: HeldSession) => {
    const { counts, sum } = pushes.watch.staleness;
    let below = 0;
    const buckets = counts.map((count, k) => {
      below += count;
      return { labels: { session, le: stalenessBounds[k] ?? '+Inf' }, value: below, metricName: `${name}_bucket` };
    });
    const [labels, value] = [{ session }, below];
    return [
      ...buckets,
      { labels, value: sum, metricName: `${name}_sum` },
      { labels, value, metricName: `${name}_count` },
    ];
  };
  const get = async () => ({ name, help, type: 'histogram', aggregator: 'sum', values: store.held.flatMap(valuesOf) });
  return { name, help, get, reset: () => undefined } as unknown as Metric;
}

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Metrics;
  }
}
