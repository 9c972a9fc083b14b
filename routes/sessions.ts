/** Named sessions: create, list, read, patch, delete. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { Problem } from '../src/errors.ts';
import { listedMax } from '../src/limits.ts';
import { mayKnow, requireReach } from '../src/plugins/authorisation.ts';
import { SafetensorsBody } from '../src/plugins/bodies/bodies.ts';
import { changeRequest, entityTag, idempotencyKey, noteReplay } from '../src/plugins/headers.ts';
import { ChangeHeaders, changeProblems, problems, query, SessionName, SessionParams } from '../src/schemas/common.ts';
import { json, nothing, tensorBody } from '../src/schemas/content.ts';
import { decodeSession, type SessionBody } from '../src/schemas/new-session.ts';
import { encodeSession, type ForkBody, type SessionList, type SessionPatchBody } from '../src/schemas/session.ts';
import { decodeSessionFile } from '../src/schemas/session-file.ts';
import type { SessionPatch } from '../src/session/session.ts';

const tags = ['sessions'];
/** What a new session can meet, wherever its state comes from. */
const creations = [
  'malformed_body',
  'session_exists',
  ...changeProblems,
  'body_too_large',
  'unsupported_media_type',
  'session_quota_exceeded',
  'insufficient_memory',
] as const;

export async function sessionRoutes(instance: FastifyInstance): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>();

  app.put(
    '/v1/sessions/:session',
    {
      config: { access: 'admin', creates: true, takesRoom: 'session' },
      schema: {
        operationId: 'createSession',
        summary: 'Create a session',
        description:
          'From JSON, from a safetensors model file (every tensor becomes a variable), or from a downloaded checkpoint, with which the session goes on exactly there. It is on the disk when the reply comes.',
        tags,
        params: SessionParams,
        querystring: query({}),
        headers: ChangeHeaders,
        body: tensorBody('NewSession', 'A model file or a checkpoint. Options stand in `__metadata__` as JSON texts.'),
        response: {
          201: json('Session', 'Created.'),
          ...problems(...creations, 'invalid_argument', 'shape_mismatch', 'dtype_mismatch'),
        },
      },
    },
    async (request, reply) => {
      const { session } = request.params;
      const { body } = request;
      if (request.headers['if-match'] !== undefined) {
        throw new Problem(
          'precondition_failed',
          'If-Match must not be sent with a creation, which finds no revision. Received: it',
        );
      }
      const wanted =
        body instanceof SafetensorsBody ? decodeSessionFile(body.file) : decodeSession(body as SessionBody);
      const { result, replayed } = await app.store.create(session, wanted, idempotencyKey(request), request.token);
      const { view } = result;
      noteReplay(reply, replayed);
      reply.status(201).header('etag', entityTag(view.head.revision));
      return reply.header('location', `/v1/sessions/${session}`).send(encodeSession(view));
    },
  );

  app.get(
    '/v1/sessions',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'listSessions',
        summary: 'List the sessions, by name',
        tags,
        querystring: query({
          limit: Type.Integer({ minimum: 1, maximum: listedMax, default: 100 }),
          after: Type.Optional(Type.Intersect([SessionName], { description: 'The `next` of the page before.' })),
        }),
        response: { 200: json('SessionList', 'A page of them.'), ...problems() },
      },
    },
    async (request): Promise<SessionList> => {
      const { limit, after = '' } = request.query;
      const all = app.store.list().filter(({ name }) => name > after && mayKnow(request, name));
      const page = all.slice(0, limit);
      return {
        sessions: page.map(({ view }) => encodeSession(view)),
        next: all.length > limit ? (page.at(-1)?.name ?? null) : null,
      };
    },
  );

  app.get(
    '/v1/sessions/:session',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'getSession',
        summary: 'Read a session document',
        tags,
        params: SessionParams,
        querystring: query({}),
        response: { 200: json('Session', 'The document.'), ...problems('session_not_found') },
      },
    },
    async (request, reply) => {
      const { view } = app.store.session(request.params.session);
      return reply.header('etag', entityTag(view.head.revision)).send(encodeSession(view));
    },
  );

  app.get(
    '/v1/sessions/:session/fingerprint',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'getFingerprint',
        summary: 'Read the fingerprint of the state',
        description:
          'Equal fingerprints mean equal bits of all variables and slots, whatever the machine, the number of threads and the way there. It takes about as long as hashing the state; the changes of the session wait meanwhile.',
        tags,
        params: SessionParams,
        querystring: query({}),
        response: {
          200: json('Fingerprint', 'Of the state right now.'),
          ...problems('session_not_found'),
        },
      },
    },
    async (request, reply) => {
      const { head, sha256 } = await app.store.session(request.params.session).fingerprint();
      return reply.header('etag', entityTag(head.revision)).send({ iterations: head.iterations, sha256 });
    },
  );

  app.patch(
    '/v1/sessions/:session',
    {
      config: { access: 'admin' },
      schema: {
        operationId: 'patchSession',
        summary: 'Change configuration, counter or settings',
        description: 'Takes effect between two steps.',
        tags,
        params: SessionParams,
        querystring: query({}),
        headers: ChangeHeaders,
        body: {
          content: {
            'application/merge-patch+json': { schema: Type.Ref('SessionPatch') },
            'application/json': { schema: Type.Ref('SessionPatch') },
          },
        },
        response: {
          200: json('Session', 'The new document.'),
          ...problems(
            'malformed_body',
            'session_not_found',
            ...changeProblems,
            'body_too_large',
            'unsupported_media_type',
            'invalid_argument',
            'insufficient_memory',
          ),
        },
      },
    },
    async (request, reply) => {
      const patch = request.body as SessionPatchBody as SessionPatch;
      request.logged = { members: Object.keys(patch) };
      const held = app.store.session(request.params.session);
      const { result: view, replayed } = await held.patch(patch, changeRequest(request));
      noteReplay(reply, replayed);
      return reply.header('etag', entityTag(view.head.revision)).send(encodeSession(view));
    },
  );

  app.post(
    '/v1/sessions/:session/fork',
    {
      config: { access: 'admin', takesRoom: 'session' },
      schema: {
        operationId: 'forkSession',
        summary: 'Create a session with the state of this one',
        description:
          "Bit-identical, with its configuration, counter and settings; the two go their own ways from then on. With `iterations`, as it last stood at that counter, as far as checkpoints and journal reach. The new session is on the disk when the reply comes; `If-Match` is about this one's revision, and its changes wait meanwhile.",
        tags,
        params: SessionParams,
        querystring: query({}),
        headers: ChangeHeaders,
        body: { content: { 'application/json': { schema: Type.Ref('Fork') } } },
        response: {
          201: json('Session', 'The new session.'),
          ...problems(...creations, 'session_not_found', 'iteration_unavailable'),
        },
      },
    },
    async (request, reply) => {
      const { name, iterations } = request.body as ForkBody;
      const { session } = request.params;
      request.logged = { into: name };
      requireReach(request, name);
      const outcome = await app.store.fork(session, name, iterations, changeRequest(request), request.token);
      const { view } = outcome.result;
      noteReplay(reply, outcome.replayed);
      reply.status(201).header('etag', entityTag(view.head.revision));
      return reply.header('location', `/v1/sessions/${name}`).send(encodeSession(view));
    },
  );

  app.delete(
    '/v1/sessions/:session',
    {
      config: { access: 'admin' },
      schema: {
        operationId: 'deleteSession',
        summary: 'Delete a session and its checkpoints',
        tags,
        params: SessionParams,
        querystring: query({
          keep_checkpoints: Type.Boolean({
            default: false,
            description: 'Leave the checkpoints; a later session of the same name lists them and can restore them.',
          }),
        }),
        headers: ChangeHeaders,
        response: {
          204: nothing('Gone.'),
          ...problems('session_not_found', 'session_exists', ...changeProblems),
        },
      },
    },
    async (request, reply) => {
      const { session } = request.params;
      const { replayed } = await app.store.delete(session, request.query.keep_checkpoints, changeRequest(request));
      noteReplay(reply, replayed);
      return reply.status(204).send(null);
    },
  );
}
