/** Checkpoints: write one now, list, download, delete, restore. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import parseRange from 'range-parser';
import { Type } from 'typebox';
import { Problem } from '../src/errors.ts';
import { changeRequest, entityTag, noteReplay, refuseBody } from '../src/plugins/headers.ts';
import {
  ChangeHeaders,
  CheckpointParams,
  changeProblems,
  problems,
  query,
  SessionParams,
} from '../src/schemas/common.ts';
import { json, nothing } from '../src/schemas/content.ts';
import { encodeSession } from '../src/schemas/session.ts';

const tags = ['checkpoints'];
const file = {
  content: {
    'application/vnd.safetensors': {
      schema: Type.Unsafe<unknown>({ contentMediaType: 'application/vnd.safetensors' }),
    },
  },
};

export async function checkpointRoutes(instance: FastifyInstance): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>();

  app.post(
    '/v1/sessions/:session/checkpoints',
    {
      config: { access: 'admin' },
      schema: {
        operationId: 'writeCheckpoint',
        summary: 'Write a checkpoint now',
        description: 'Of the session as it stands; pushes go on meanwhile. It is on the disk when the reply comes.',
        tags,
        params: SessionParams,
        querystring: query({}),
        headers: ChangeHeaders,
        response: {
          201: json('Checkpoint', 'Written.'),
          ...problems('session_not_found', ...changeProblems),
        },
      },
    },
    async (request, reply) => {
      refuseBody(request);
      const { session } = request.params;
      const { result, replayed } = await app.store.session(session).checkpoints.write(changeRequest(request));
      const { info, revision } = result;
      noteReplay(reply, replayed);
      reply.status(201).header('etag', entityTag(revision));
      return reply.header('location', `/v1/sessions/${session}/checkpoints/${info.id}`).send(info);
    },
  );

  app.get(
    '/v1/sessions/:session/checkpoints',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'listCheckpoints',
        summary: 'List the checkpoints, newest first',
        tags,
        params: SessionParams,
        querystring: query({}),
        response: { 200: json('CheckpointList', 'All of them.'), ...problems('session_not_found') },
      },
    },
    async (request, reply) => {
      const { session } = request.params;
      const { revision, checkpoints } = app.store.session(session);
      return reply.header('etag', entityTag(revision)).send({ session, revision, checkpoints: checkpoints.list });
    },
  );

  app.get(
    '/v1/sessions/:session/checkpoints/:id',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'getCheckpoint',
        summary: 'Download a checkpoint',
        description:
          'One safetensors file: `w`, `w:m` and `w:v` for every variable, and the rest of the session in `__metadata__`.',
        tags,
        params: CheckpointParams,
        querystring: query({}),
        headers: Type.Object({
          range: Type.Optional(Type.String({ description: 'One range of bytes.', examples: ['bytes=0-1023'] })),
        }),
        response: {
          200: { description: 'The file. Its ETag is its SHA-256.', ...file },
          206: { description: 'The range asked for.', ...file },
          ...problems('session_not_found', 'checkpoint_not_found', 'range_not_satisfiable', 'storage_failed'),
        },
      },
    },
    async (request, reply) => {
      const { session, id } = request.params;
      const held = app.store.session(session);
      const info = held.checkpoints.find(id);
      const range = byteRange(request.headers.range, info.bytes);
      reply.header('accept-ranges', 'bytes').header('etag', `"${info.sha256}"`).type('application/vnd.safetensors');
      reply.header('content-disposition', `attachment; filename="${session}-${info.id}.safetensors"`);
      if (range !== undefined) {
        reply.status(206).header('content-range', `bytes ${range.start}-${range.end}/${info.bytes}`);
      }
      const { start, end } = range ?? { start: 0, end: info.bytes - 1 };
      reply.header('content-length', end - start + 1);
      return reply.send(await held.checkpoints.read(info.id, { start, end }));
    },
  );

  app.delete(
    '/v1/sessions/:session/checkpoints/:id',
    {
      config: { access: 'admin' },
      schema: {
        operationId: 'deleteCheckpoint',
        summary: 'Delete a checkpoint',
        description:
          'One that a restart needs must stay: the newest, and the one that the session was restored to until there is a newer one.',
        tags,
        params: CheckpointParams,
        querystring: query({}),
        headers: ChangeHeaders,
        response: {
          204: nothing('Gone.'),
          ...problems('session_not_found', 'checkpoint_not_found', 'checkpoint_in_use', ...changeProblems),
        },
      },
    },
    async (request, reply) => {
      const { session, id } = request.params;
      const { replayed } = await app.store.session(session).checkpoints.delete(id, changeRequest(request));
      noteReplay(reply, replayed);
      return reply.status(204).send(null);
    },
  );

  app.post(
    '/v1/sessions/:session/checkpoints/:id/restore',
    {
      config: { access: 'admin' },
      schema: {
        operationId: 'restoreCheckpoint',
        summary: 'Put the session back to a checkpoint',
        description: 'Variables, slots, optimizer, counter and settings. The revision goes on.',
        tags,
        params: CheckpointParams,
        querystring: query({}),
        headers: ChangeHeaders,
        response: {
          200: json('Session', 'The document after it.'),
          ...problems('session_not_found', 'checkpoint_not_found', ...changeProblems, 'insufficient_memory'),
        },
      },
    },
    async (request, reply) => {
      refuseBody(request);
      const { session, id } = request.params;
      const { result: view, replayed } = await app.store
        .session(session)
        .checkpoints.restore(id, changeRequest(request));
      noteReplay(reply, replayed);
      return reply.header('etag', entityTag(view.head.revision)).send(encodeSession(view));
    },
  );
}

/** The one range of a `Range` header; the whole file for several, or for none that can be read (RFC 9110, 14.2). */
function byteRange(header: string | undefined, bytes: number): { start: number; end: number } | undefined {
  if (header === undefined) return undefined;
  const ranges = parseRange(bytes, header);
  if (ranges === -1) {
    throw new Problem(
      'range_not_satisfiable',
      `a range must begin within the file's ${bytes} bytes. Received: ${header}`,
      {
        headers: { 'content-range': `bytes */${bytes}` },
      },
    );
  }
  return ranges === -2 || ranges.type !== 'bytes' || ranges.length !== 1 ? undefined : ranges[0];
}
