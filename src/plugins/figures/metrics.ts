/**
 * What operators watch, in Prometheus' form; `/metrics` serves the registry. What each figure means is in docs/metrics.md, and a
 * test holds that all of them are.
 */
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { collectDefaultMetrics, Registry } from 'prom-client';
import type { Store } from '../../store/store.ts';
import { synchronous } from '../synchronous.ts';
import { RequestFigures } from './request-figures.ts';
import { serverFigures } from './server-figures.ts';
import { sessionFigures } from './session-figures.ts';

export interface Metrics {
  readonly registry: Registry;
  readonly requests: RequestFigures;
}

export const metrics = fp(async (app: FastifyInstance, { store }: { store: Store }) => {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requests = new RequestFigures(registry);
  serverFigures(registry, app, store);
  sessionFigures(registry, store);
  app.decorate('metrics', { registry, requests } satisfies Metrics);
  app.decorateRequest('answeredAt', 0);
  app.addHook(
    'onResponse',
    synchronous((request, reply) => {
      const { url = 'none' } = request.routeOptions;
      requests.note(url, request.method, reply.statusCode, reply.elapsedTime / 1000, request.problemCode);
      if (request.answeredAt === 0) return;
      const { stages } = store.figures;
      const now = performance.now();
      stages.read.observe((request.bodyAt - (now - reply.elapsedTime)) / 1000);
      stages.reply.observe((now - request.answeredAt) / 1000);
    }),
  );
});

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Metrics;
  }
  interface FastifyRequest {
    /** Of a push that was applied: when its reply began, by `performance.now()`; else 0. */
    answeredAt: number;
  }
}
