/** Applying gradients: a gradient's path begins and ends here. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { lendMemory, pooledReply, SafetensorsBody, streamedReply } from '../src/plugins/bodies/bodies.ts';
import { changeRequest, clientGone, entityTag, noteReplay, preferences, replyFormat } from '../src/plugins/headers.ts';
import { isLogged } from '../src/plugins/request-log.ts';
import {
  ChangeHeaders,
  changeProblems,
  problems,
  query,
  ReplyDtype,
  SessionParams,
  WorkerName,
} from '../src/schemas/common.ts';
import { tensorBody, tensorReply } from '../src/schemas/content.ts';
import { decodeSlices, decodeSlicesFile, type GradientsBody } from '../src/schemas/slices.ts';
import { TensorReply } from '../src/schemas/tensor-reply.ts';
import { extentOf, type Slices } from '../src/session/gradient.ts';

/** From so many bytes of gradients on, the reply's beginning is sent while its end is worked out. */
const streamedBytesMin = 4 * 1024 * 1024;

export async function gradientRoutes(instance: FastifyInstance): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>();

  app.post(
    '/v1/sessions/:session/gradients',
    {
      config: { access: 'push', isJournaled: true, takesRoom: 'change' },
      schema: {
        operationId: 'applyGradients',
        summary: 'Apply gradients: one step over the variables named',
        description:
          "Keras' `apply_gradients`. Repeated indices of a sparse gradient are summed in the order given. The reply has the values right after this step, dense variables whole, of sparse ones the rows touched, ascending. `Prefer: return=minimal` leaves them out.",
        tags: ['gradients'],
        params: SessionParams,
        querystring: query({
          dtype: ReplyDtype,
          worker: Type.Optional(WorkerName),
          base: Type.Optional(
            Type.Integer({
              minimum: 0,
              description:
                'The `iterations` of the variables that the gradient was computed from, from which its staleness follows. Needed in mode `sync`, and where the session looks at staleness.',
            }),
          ),
        }),
        headers: Type.Object({
          ...ChangeHeaders.properties,
          prefer: Type.Optional(Type.String({ description: '`return=minimal` leaves the tensors out.' })),
        }),
        body: tensorBody(
          'Gradients',
          'A dense gradient as the tensor `w`, a sparse one as the pair `w:indices`, `w:values`.',
        ),
        response: {
          200: tensorReply(
            'Tensors',
            'Applied; without `variables` if the reply is minimal.',
            'The updated values, as the request names them.',
          ),
          ...problems(
            'malformed_body',
            'session_not_found',
            'not_acceptable',
            ...changeProblems,
            'body_too_large',
            'unsupported_media_type',
            'invalid_argument',
            'unknown_variable',
            'shape_mismatch',
            'dtype_mismatch',
            'index_out_of_range',
            'gradient_not_finite',
            'gradient_stale',
            'aggregation_timeout',
            'worker_quarantined',
            'insufficient_memory',
          ),
        },
      },
    },
    async (request, reply) => {
      const { session } = request.params;
      const { dtype, worker, base } = request.query;
      const { minimal } = preferences(request);
      const format = replyFormat(request);
      const held = app.store.session(session);
      const gradients = decode(request.body, session);
      const body = request.body instanceof SafetensorsBody ? request.body : undefined;
      // Of JSON the tensors are a copy, which alone is to be there while the push waits.
      if (body === undefined) request.body = undefined;
      const lend = (bytes: number): void => lendMemory(reply, bytes);
      const tensors = new TensorReply(format, dtype, lend);
      const isTogether = held.contents.settings.aggregation.mode === 'sync';
      const streamed =
        format !== 'application/json' &&
        !minimal &&
        !isTogether &&
        extentOf(gradients.values()).bytes >= streamedBytesMin;
      const begun = streamed ? tensors.begun() : undefined;
      const own = {
        tensors,
        kind: streamed ? undefined : `${format} ${dtype ?? ''} ${minimal}`,
        lend,
        receive: minimal ? tensors.receiveNothing : tensors.receive,
        begin(durability: string, replayed: boolean): void {
          reply.header('durability', durability);
          noteReplay(reply, replayed);
          tensors.begin();
        },
        progress: streamed ? tensors.progress : undefined,
      };
      const hold = (until: Promise<unknown>): void => body?.useUntil(until);
      const { precondition, key, hasRoom } = changeRequest(request);
      let gone: AbortSignal | undefined;
      const applied = held.applyGradients(
        gradients,
        {
          precondition,
          key,
          hasRoom,
          worker,
          base,
          hold,
          arrived: body?.arrived,
          aside: (until) => app.admission.stepAside(reply.raw, until),
          receivedAt: request.bodyAt,
          gone: () => {
            gone ??= clientGone(reply);
            return gone;
          },
        },
        own,
      );
      hold(applied);
      const answered = await (begun === undefined ? applied : Promise.race([applied, begun]));
      request.answeredAt = performance.now();
      const answer = answered === undefined ? tensors : answered.reply.tensors;
      const { head } = answer;
      if (isLogged(request)) {
        request.logged = {
          variables: [...gradients.keys()].slice(0, 8),
          iterations: head.iterations,
          ...(worker === undefined ? {} : { worker }),
          ...(base === undefined ? {} : { staleness: head.iterations - 1 - base }),
        };
      }
      reply.header('etag', entityTag(head.revision)).type(format);
      return streamed
        ? streamedReply(reply, tensors.stream(applied), applied)
        : pooledReply(reply, answer.payload(true));
    },
  );

  function decode(body: unknown, session: string): Map<string, Slices> {
    if (body instanceof SafetensorsBody) return decodeSlicesFile(body.file);
    return decodeSlices((body as GradientsBody).gradients, app.store.session(session).contents.variables, '/gradients');
  }
}
