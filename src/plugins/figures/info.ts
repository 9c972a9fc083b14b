/**
 * The figures of `GET /v1/info`, section by section. Whose sessions are told is for the caller to say: everything about a single
 * session is read off the one list that goes through it.
 */
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import type { Config } from '../../config.ts';
import { diskSpace } from '../../journal/files.ts';
import {
  encodeFigures,
  encodeJournal,
  encodePersistence,
  type Info,
  type SectionName,
  sections,
} from '../../schemas/info.ts';
import type { HeldSession } from '../../store/held-session.ts';
import { packageVersion } from '../package-version.ts';

type Section<Name extends SectionName> = NonNullable<Info[Name]>;

export const info = fp(async (app: FastifyInstance, { config }: { config: Config }) => {
  const { store } = app;

  app.decorate('info', async (section, isSeen) => {
    const held = store.held.filter(({ name }) => isSeen(name)).sort((a, b) => (a.name < b.name ? -1 : 1));
    const all = {
      server: () => server(),
      memory: () => memory(),
      persistence: () => persistence(held),
      clients: () => clients(held),
      stats: () => stats(held),
      sessions: () => held.map(encodeFigures),
    };
    const asked = section === undefined ? sections : [section];
    const told = await Promise.all(asked.map(async (name) => [name, await all[name]()] as const));
    return Object.fromEntries(told) as Info;
  });

  function server(): Section<'server'> {
    return {
      version: packageVersion(),
      node: process.version,
      pid: process.pid,
      started_at: new Date(performance.timeOrigin).toISOString(),
      uptime_seconds: process.uptime(),
      ready: store.status.ready,
      config: {
        log_level: config.logLevel,
        tokens: config.authFile !== undefined,
        body_bytes_max: config.bodyBytesMax,
        memory_bytes_max: config.memoryBytesMax,
        disk_free_bytes_min: config.diskFreeBytesMin,
        requests_max: config.requestsMax,
        threads: config.threads,
        idempotency_keys: config.keysMax,
        shutdown_timeout_ms: config.shutdownTimeoutMs,
      },
    };
  }

  function memory(): Section<'memory'> {
    const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
    const { max, held, lent } = store.memory;
    return {
      rss_bytes: rss,
      heap_used_bytes: heapUsed,
      heap_total_bytes: heapTotal,
      external_bytes: external,
      budget: { max_bytes: max, sessions_bytes: held, requests_bytes: lent },
    };
  }

  async function persistence(held: readonly HeldSession[]): Promise<Section<'persistence'>> {
    const { problem, damaged } = store.status;
    const disk = await diskSpace(store.folder);
    const now = Date.now();
    return {
      read_only: problem === undefined ? null : { code: problem.code, detail: problem.message },
      damaged_files: damaged.length,
      journal: await encodeJournal(store.journal),
      disk: disk === undefined ? null : { size_bytes: disk.bytes, free_bytes: disk.free },
      sessions: held.map((each) => encodePersistence(each, now)),
    };
  }

  async function clients(held: readonly HeldSession[]): Promise<Section<'clients'>> {
    return {
      connections: app.connections.open,
      listeners: app.eventStreams.size,
      waiting_for_turn: sum(held, ({ live }) => live.turns.waiting),
      waiting_for_workers: sum(held, ({ pushes }) => pushes.watch.waiting),
    };
  }

  function stats(held: readonly HeldSession[]): Section<'stats'> {
    const { answered, problems } = app.metrics.requests;
    return {
      requests: answered,
      problems: Object.fromEntries(problems),
      steps: sum(held, ({ live }) => live.applied.steps),
      rows: sum(held, ({ live }) => live.applied.rows),
      gradient_bytes: sum(held, ({ live }) => live.applied.bytes),
    };
  }
});

function sum(held: readonly HeldSession[], of: (held: HeldSession) => number): number {
  return held.reduce((total, each) => total + of(each), 0);
}

declare module 'fastify' {
  interface FastifyInstance {
    /** All sections, or one; of single sessions, those whose names are seen. */
    info: (section: SectionName | undefined, isSeen: (session: string) => boolean) => Promise<Info>;
  }
}
