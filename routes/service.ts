/** Around the API: is the server alive, is it ready, what does it count, and what does it offer. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { catalogue, Problem } from '../src/errors.ts';
import { openapiYaml } from '../src/plugins/openapi.ts';
import { problemsFor } from '../src/schemas/common.ts';
import { Health, Readiness } from '../src/schemas/service.ts';

const tags = ['service'];

export async function serviceRoutes(instance: FastifyInstance): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>();

  app.get(
    '/healthz',
    {
      config: { access: 'open' },
      schema: {
        operationId: 'getHealth',
        summary: 'Whether the process is alive',
        tags,
        response: {
          200: { description: 'It is.', content: { 'application/json': { schema: Health } } },
          ...problemsFor('open'),
        },
      },
    },
    async () => ({ status: 'alive' as const }),
  );

  app.get(
    '/readyz',
    {
      config: { access: 'open' },
      schema: {
        operationId: 'getReadiness',
        summary: 'Whether all sessions are back and the disk takes writes',
        description:
          'Names what was found damaged at the start and set aside. Where the disk fails, the server is read-only and the problem says why; it comes back by itself.',
        tags,
        response: {
          200: { description: 'Ready.', content: { 'application/json': { schema: Readiness } } },
          ...problemsFor('open', 'storage_failed', 'insufficient_storage'),
        },
      },
    },
    async () => {
      const { ready, sessions, expected = 'an unknown number', replayed, damaged } = app.store.status;
      if (!ready) {
        const far = `${sessions} of ${expected}, and ${replayed} changes applied again`;
        throw new Problem('recovering', `all sessions must be back. So far: ${far}`, {
          headers: { 'retry-after': '1' },
        });
      }
      await app.store.probe();
      const { level, freeBytes } = app.store.disk;
      const disk = level === 'ample' ? {} : { disk: { level, free_bytes: freeBytes } };
      return { status: 'ready' as const, sessions, damaged: [...damaged], ...disk };
    },
  );

  app.get(
    '/metrics',
    {
      config: { access: 'any' },
      schema: {
        operationId: 'getMetrics',
        summary: "Figures in Prometheus' text form",
        tags,
        response: {
          200: { description: 'The figures.', content: { 'text/plain': { schema: Type.String() } } },
          ...problemsFor('any'),
        },
      },
    },
    async (_request, reply) => reply.type(app.metrics.registry.contentType).send(await app.metrics.registry.metrics()),
  );

  app.get(
    '/openapi.json',
    {
      config: { access: 'any' },
      schema: {
        operationId: 'getOpenapiJson',
        summary: 'This document, as JSON',
        tags,
        response: {
          200: { description: 'OpenAPI 3.1.', content: { 'application/json': { schema: Type.Unknown() } } },
          ...problemsFor('any'),
        },
      },
    },
    async (_request, reply) => reply.type('application/json').send(JSON.stringify(app.swagger())),
  );

  app.get(
    '/openapi.yaml',
    {
      config: { access: 'any' },
      schema: {
        operationId: 'getOpenapiYaml',
        summary: 'This document, as YAML',
        tags,
        response: {
          200: { description: 'OpenAPI 3.1.', content: { 'application/yaml': { schema: Type.String() } } },
          ...problemsFor('any'),
        },
      },
    },
    async (_request, reply) => reply.type('application/yaml').send(openapiYaml(app)),
  );

  app.get(
    '/docs/errors',
    {
      config: { access: 'any' },
      schema: {
        operationId: 'getErrors',
        summary: 'The catalogue of errors, as a page',
        tags,
        response: {
          200: { description: 'A table.', content: { 'text/html': { schema: Type.String() } } },
          ...problemsFor('any'),
        },
      },
    },
    async (_request, reply) => reply.type('text/html; charset=utf-8').send(errorPage()),
  );
}

/** Where the `type` of every problem points to. */
function errorPage(): string {
  const rows = Object.entries(catalogue).map(
    ([code, { status, title }]) =>
      `<tr id="${code}"><td>${status}</td><td><code>${code}</code></td><td>${title}</td></tr>`,
  );
  return `<!doctype html><html lang="en"><title>Errors</title><h1>Errors</h1><table>${rows.join('')}</table></html>`;
}
