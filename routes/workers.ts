/** The workers of a session: who they are and how they do, and back with those that were put aside. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { changeRequest, entityTag, noteReplay, refuseBody } from '../src/plugins/headers.ts';
import { ChangeHeaders, changeProblems, problems, query, SessionParams, WorkerParams } from '../src/schemas/common.ts';
import { json } from '../src/schemas/content.ts';
import { headJson } from '../src/schemas/tensor-reply.ts';
import { encodeWorkers } from '../src/schemas/worker.ts';

const tags = ['workers'];

export async function workerRoutes(instance: FastifyInstance): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>();

  app.get(
    '/v1/sessions/:session/workers',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'listWorkers',
        summary: 'List the workers',
        description: 'All that have named themselves in a push, by name: who waits, who is late, who is put aside.',
        tags,
        params: SessionParams,
        querystring: query({}),
        response: { 200: json('WorkerList', 'The workers.'), ...problems('session_not_found') },
      },
    },
    async (request, reply) => {
      const held = app.store.session(request.params.session);
      reply.header('etag', entityTag(held.revision));
      return encodeWorkers(held.name, held.revision, held.workers);
    },
  );

  app.post(
    '/v1/sessions/:session/workers/:worker/release',
    {
      config: { access: 'admin' },
      schema: {
        operationId: 'releaseWorker',
        summary: 'Release a worker from quarantine',
        description: 'Its pushes are taken again. Where it is not in quarantine, nothing changes.',
        tags,
        params: WorkerParams,
        querystring: query({}),
        headers: ChangeHeaders,
        response: { 200: json('Head', 'Released.'), ...problems('session_not_found', ...changeProblems) },
      },
    },
    async (request, reply) => {
      refuseBody(request);
      const { session, worker } = request.params;
      const { result: head, replayed } = await app.store.session(session).release(worker, changeRequest(request));
      noteReplay(reply, replayed);
      return reply.header('etag', entityTag(head.revision)).send(headJson(head));
    },
  );
}
