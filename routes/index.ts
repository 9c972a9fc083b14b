/** The one list of routes. Any other method on one of their addresses is answered with 405 and the methods that it takes. */
import type { FastifyInstance, HTTPMethods } from 'fastify';
import { Problem } from '../src/errors.ts';
import { checkpointRoutes } from './checkpoints.ts';
import { eventRoutes } from './events.ts';
import { gradientRoutes } from './gradients.ts';
import { infoRoutes } from './info.ts';
import { serviceRoutes } from './service.ts';
import { sessionRoutes } from './sessions.ts';
import { variableRoutes } from './variables.ts';
import { workerRoutes } from './workers.ts';

const methods: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

export async function routes(app: FastifyInstance): Promise<void> {
  const taken = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    const set = taken.get(url) ?? new Set();
    for (const each of [method].flat()) set.add(each);
    taken.set(url, set);
  });
  await app.register(serviceRoutes);
  await app.register(infoRoutes);
  await app.register(sessionRoutes);
  await app.register(gradientRoutes);
  await app.register(variableRoutes);
  await app.register(checkpointRoutes);
  await app.register(workerRoutes);
  await app.register(eventRoutes);
  for (const [url, allowed] of [...taken]) refuseOtherMethods(app, url, [...allowed].sort());
}

function refuseOtherMethods(app: FastifyInstance, url: string, allowed: readonly string[]): void {
  app.route({
    method: methods.filter((method) => !allowed.includes(method)),
    url,
    config: { access: 'any' },
    schema: { hide: true },
    onRequest: async (request) => {
      const allow = allowed.join(', ');
      throw new Problem('method_not_allowed', `this address takes ${allow}. Received: ${request.method}`, {
        headers: { allow },
      });
    },
    handler: async () => undefined,
  });
}
