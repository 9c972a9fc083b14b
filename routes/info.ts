/** The server's figures for people, in the manner of Redis' INFO: among them, whether the last step is durable, and where. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { mayKnow } from '../src/plugins/authorisation.ts';
import { problemsFor, query } from '../src/schemas/common.ts';
import { Info, sections } from '../src/schemas/info.ts';

export async function infoRoutes(instance: FastifyInstance): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>();

  app.get(
    '/v1/info',
    {
      config: { access: 'any' },
      schema: {
        operationId: 'getInfo',
        summary: 'What the server is, has, and does',
        description:
          'Version, memory, persistence (of each session: is its last step durable, and where), clients, counts, and figures by session. Answered while the sessions are being recovered too.',
        tags: ['service'],
        querystring: query({
          section: Type.Optional(Type.Enum([...sections], { description: 'One section alone; all by default.' })),
        }),
        response: {
          200: { description: 'The figures.', content: { 'application/json': { schema: Info } } },
          ...problemsFor('any', 'overloaded'),
        },
      },
    },
    async (request) => app.info(request.query.section, (session) => mayKnow(request, session)),
  );
}
