/** The OpenAPI document, generated from the routes' own schemas, and a page to read it, all of whose assets are local. */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance, FastifySchema } from 'fastify';
import fp from 'fastify-plugin';
import type { TSchema } from 'typebox';
import { stringify } from 'yaml';
import { roles } from '../access/token.ts';
import { CheckpointInfo, CheckpointList } from '../schemas/checkpoint.ts';
import { ProblemDetails } from '../schemas/common.ts';
import { CheckpointEventJson, SessionEventJson, StepEventJson } from '../schemas/event.ts';
import { Info } from '../schemas/info.ts';
import { LookupBody } from '../schemas/lookup.ts';
import { SessionBody } from '../schemas/new-session.ts';
import { Health, Readiness } from '../schemas/service.ts';
import { FingerprintReply, ForkBody, SessionDocument, SessionList, SessionPatchBody } from '../schemas/session.ts';
import { AssignmentsBody, GradientsBody, SlicesJson } from '../schemas/slices.ts';
import { HeadReply, TensorsReply } from '../schemas/tensor-reply.ts';
import { WorkerList } from '../schemas/worker.ts';
import type { Access } from './authorisation.ts';
import { packageVersion } from './package-version.ts';

const components: readonly TSchema[] = [
  ProblemDetails,
  SlicesJson,
  GradientsBody,
  AssignmentsBody,
  LookupBody,
  HeadReply,
  TensorsReply,
  CheckpointInfo,
  CheckpointList,
  SessionBody,
  SessionPatchBody,
  SessionDocument,
  SessionList,
  FingerprintReply,
  WorkerList,
  ForkBody,
  StepEventJson,
  CheckpointEventJson,
  SessionEventJson,
  Health,
  Readiness,
  Info,
];

const description = `Named optimizer sessions over plain HTTP: a model's variables and Adamax' slots in memory, gradients in,
updated parameters out. Bodies are JSON or, with the same meaning, safetensors.`;

export const openapi = fp(async (app: FastifyInstance) => {
  for (const schema of components) app.addSchema(schema);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'adamax-server', version: packageVersion(), description, license: { name: 'UNLICENSED' } },
      servers: [{ url: '/' }],
      components: {
        securitySchemes: {
          token: { type: 'http', scheme: 'bearer', description: 'Where the server has tokens (AUTH_FILE).' },
        },
      },
      tags: [
        { name: 'sessions', description: 'Named optimizer sessions.' },
        { name: 'gradients', description: 'Steps.' },
        { name: 'variables', description: 'Reading, looking up and assigning parameters.' },
        { name: 'slots', description: "Adamax' state of each variable." },
        { name: 'events', description: 'What happens to a session, as it happens.' },
        { name: 'checkpoints', description: 'Sessions on disk.' },
        { name: 'service', description: 'The server itself.' },
      ],
    },
    transform: ({ schema, url, route }) => ({ schema: withAccess(schema, route.config?.access), url }),
    refResolver: { buildLocalReference: (json) => String(json.$id) },
  });
  await app.register(swaggerUi, { routePrefix: '/docs' });
});

/** With what a route takes of who calls it. */
function withAccess(schema: FastifySchema, access: Access | undefined): FastifySchema {
  if (schema.hide || access === undefined) return schema;
  if (access === 'open') return { ...schema, security: [] };
  const needed =
    access === 'any' ? 'any token' : `a token with the role ${roles.slice(roles.indexOf(access)).join(' or ')}`;
  const { description } = schema as { description?: string };
  return {
    ...schema,
    description: [description, `Takes ${needed}.`].filter((text) => text !== undefined).join('\n\n'),
    // Without, too, where the server has no tokens.
    security: [{ token: [] }, {}],
  };
}

/** The document as the file `openapi.yaml` has it. */
export function openapiYaml(app: FastifyInstance): string {
  return stringify(app.swagger(), { aliasDuplicateObjects: false, lineWidth: 120 });
}
