/** Reading and assigning variables and their slots, whole or by rows. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import { Problem } from '../src/errors.ts';
import type { Part } from '../src/kernel/extent.ts';
import { SafetensorsBody } from '../src/plugins/bodies/bodies.ts';
import { changeRequest, entityTag, noteReplay } from '../src/plugins/headers.ts';
import { answerTensors } from '../src/plugins/tensor-answer.ts';
import {
  ChangeHeaders,
  changeProblems,
  problems,
  query,
  ReplyDtype,
  SessionParams,
  SlotParams,
  VariableName,
  VariableParams,
} from '../src/schemas/common.ts';
import { json, nothing, tensorBody, tensorReply } from '../src/schemas/content.ts';
import { decodeLookup, decodeLookupFile, type LookupBody } from '../src/schemas/lookup.ts';
import { type AssignmentsBody, decodeSlices, decodeSlicesFile, requireFinite } from '../src/schemas/slices.ts';
import { headJson } from '../src/schemas/tensor-reply.ts';
import type { Selection } from '../src/session/session.ts';

const readProblems = ['session_not_found', 'variable_not_found', 'not_acceptable', 'insufficient_memory'] as const;
const reads = problems(...readProblems);
const readsRows = problems(...readProblems, 'index_out_of_range', 'shape_mismatch');
const bodyProblems = [
  'malformed_body',
  'session_not_found',
  'body_too_large',
  'unsupported_media_type',
  'unknown_variable',
  'shape_mismatch',
  'dtype_mismatch',
  'index_out_of_range',
  'insufficient_memory',
] as const;
const assigns = problems(...bodyProblems, ...changeProblems, 'invalid_argument');

const ReadQuery = query({
  name: Type.Optional(Type.Array(VariableName, { description: 'Only these; may be repeated. All by default.' })),
  dtype: ReplyDtype,
});

const ReadHeaders = Type.Object({
  'if-none-match': Type.Optional(
    Type.String({ description: 'Answer `304` if the session is still at this revision.', examples: ['"41"'] }),
  ),
  prefer: Type.Optional(
    Type.String({ description: '`wait=30`: with `If-None-Match`, wait up to so many seconds for a change first.' }),
  ),
});

const tensorsOk = tensorReply(
  'Tensors',
  'The tensors.',
  'The tensors under their names; of rows, the pair `w:indices`, `w:values`.',
);
const unchanged = { 304: nothing('Still at the revision that `If-None-Match` names.') };

export async function variableRoutes(instance: FastifyInstance): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>();

  app.get(
    '/v1/sessions/:session/variables',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'getVariables',
        summary: 'Read variables',
        tags: ['variables'],
        params: SessionParams,
        querystring: query({
          ...ReadQuery.properties,
          since: Type.Optional(
            Type.Integer({
              minimum: 0,
              description:
                'A revision: only what has changed after it, dense variables whole, of sparse ones the rows as `indices` and `values`. `complete` says whether the server could not tell any more, and has sent everything.',
              examples: [1200],
            }),
          ),
        }),
        headers: ReadHeaders,
        response: { 200: tensorsOk, ...unchanged, ...reads },
      },
    },
    (request, reply) => {
      const { session } = request.params;
      const { since, dtype } = request.query;
      const names = onceEach(request.query.name);
      const selection = select(session, names);
      const held = app.store.session(session);
      return answerTensors(request, reply, held, dtype, names, (receive) => {
        return since === undefined ? held.read('w', selection, receive) : held.readSince(since, names, receive);
      });
    },
  );

  app.put(
    '/v1/sessions/:session/variables',
    {
      config: { access: 'admin', takesRoom: 'change' },
      schema: {
        operationId: 'assignVariables',
        summary: "Assign variables (Keras' `assign`)",
        description: 'Whole, or by rows; all or nothing. `iterations` and the slots stay.',
        tags: ['variables'],
        params: SessionParams,
        querystring: query({}),
        headers: ChangeHeaders,
        body: tensorBody('Assignments', 'Tensors under their names, or rows as pairs.'),
        response: { 200: json('Head', 'Assigned.'), ...assigns },
      },
    },
    (request, reply) => assign(request, reply, request.params.session, 'w'),
  );

  app.get(
    '/v1/sessions/:session/variables/:variable',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'getVariable',
        summary: 'Read one variable, or some rows of it',
        tags: ['variables'],
        params: VariableParams,
        querystring: query({
          dtype: ReplyDtype,
          rows: Type.Optional(
            Type.String({
              pattern: '^[0-9]{1,15}(,[0-9]{1,15})*$',
              description: 'Rows, in the order that they are to come.',
              examples: ['4,17'],
            }),
          ),
        }),
        headers: ReadHeaders,
        response: { 200: tensorsOk, ...unchanged, ...readsRows },
      },
    },
    async (request, reply) => {
      const { session, variable } = request.params;
      requireVariables(session, [variable]);
      const { rows } = request.query;
      const selection = rows === undefined ? { variable } : { variable, rows: rows.split(',').map(Number) };
      return read(request, reply, session, 'w', [selection], request.query);
    },
  );

  app.post(
    '/v1/sessions/:session/lookup',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'lookup',
        summary: 'Read rows (sparse pull)',
        description: 'Rows come in the order asked for, repeats included.',
        tags: ['variables'],
        params: SessionParams,
        querystring: query({ dtype: ReplyDtype }),
        body: tensorBody('Lookup', 'The rows of `w` as `w:indices`, I64, I32 or U32.'),
        response: { 200: tensorsOk, ...problems(...bodyProblems, 'not_acceptable') },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const selection =
        body instanceof SafetensorsBody ? decodeLookupFile(body.file) : decodeLookup(body as LookupBody);
      return read(request, reply, request.params.session, 'w', selection, request.query);
    },
  );

  app.get(
    '/v1/sessions/:session/slots/:slot',
    {
      config: { access: 'read' },
      schema: {
        operationId: 'getSlots',
        summary: 'Read a slot of the variables',
        description: 'The tensors bear the plain variable names.',
        tags: ['slots'],
        params: SlotParams,
        querystring: ReadQuery,
        headers: ReadHeaders,
        response: { 200: tensorsOk, ...unchanged, ...reads },
      },
    },
    (request, reply) => {
      const { session, slot } = request.params;
      return read(request, reply, session, slot, select(session, onceEach(request.query.name)), request.query);
    },
  );

  app.put(
    '/v1/sessions/:session/slots/:slot',
    {
      config: { access: 'admin', takesRoom: 'change' },
      schema: {
        operationId: 'assignSlots',
        summary: 'Assign a slot of variables',
        tags: ['slots'],
        params: SlotParams,
        querystring: query({}),
        headers: ChangeHeaders,
        body: tensorBody('Assignments', 'Tensors under the plain variable names, or rows as pairs.'),
        response: { 200: json('Head', 'Assigned.'), ...assigns },
      },
    },
    (request, reply) => assign(request, reply, request.params.session, request.params.slot),
  );

  function read(
    request: FastifyRequest,
    reply: FastifyReply,
    session: string,
    part: Part,
    selection: readonly Selection[] | undefined,
    { dtype }: { dtype?: Dtype },
  ): Promise<FastifyReply | Buffer | string> {
    const held = app.store.session(session);
    const names = selection?.map(({ variable }) => variable);
    return answerTensors(request, reply, held, dtype, names, (receive) => held.read(part, selection, receive));
  }

  async function assign(
    request: FastifyRequest,
    reply: FastifyReply,
    session: string,
    part: Part,
  ): Promise<FastifyReply> {
    const { body } = request;
    let assignments: ReturnType<typeof decodeSlices>;
    if (body instanceof SafetensorsBody) assignments = decodeSlicesFile(body.file);
    else {
      assignments = decodeSlices(
        (body as AssignmentsBody).variables,
        app.store.session(session).contents.variables,
        '/variables',
      );
      requireFinite(assignments);
    }
    const change = changeRequest(request);
    const { result: head, replayed } = await app.store.session(session).assign(part, assignments, change);
    noteReplay(reply, replayed);
    request.logged = { variables: [...assignments.keys()].slice(0, 8) };
    return reply.header('etag', entityTag(head.revision)).send(headJson(head));
  }

  function select(session: string, names: readonly string[] | undefined): Selection[] | undefined {
    requireVariables(session, names ?? []);
    return names?.map((variable) => ({ variable }));
  }

  /** Variables named in the address: there is nothing at it if they are not there. */
  function requireVariables(session: string, names: readonly string[]): void {
    const known = app.store.session(session).contents.variables;
    const missing = names.find((name) => !known.has(name));
    if (missing === undefined) return;
    throw new Problem(
      'variable_not_found',
      `a variable must be one of the session's. Received: ${JSON.stringify(missing)}`,
    );
  }
}

type Dtype = Static<typeof ReplyDtype>;

/** A reply has each variable once, however often it is named. */
function onceEach(names: readonly string[] | undefined): readonly string[] | undefined {
  return names && [...new Set(names)];
}
