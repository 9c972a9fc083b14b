/** What happens to a session, as it happens: a stream of server-sent events. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { eventsKeptMax } from '../src/limits.ts';
import { entityTag, requireAccepted } from '../src/plugins/headers.ts';
import { problems, query, SessionParams } from '../src/schemas/common.ts';
import { eventStream } from '../src/schemas/content.ts';

const description = [
  'Server-sent events (WHATWG), until the client hangs up, the session is deleted or the server shuts down:',
  [
    '- `step`: a step was taken; its `data` is a `StepEvent`.',
    '- `checkpoint`: one is on the disk; its `data` is a `CheckpointEvent`.',
    '- `session`: the session was changed in another way, or is gone; its `data` is a `SessionEvent`.',
  ].join('\n'),
  "They come in the order in which the changes took effect. The id of an event is the revision that it led to or, of a checkpoint, the revision that the session had come to, with the checkpoint's id: `1201+ckpt-000007`.",
  `A client that comes back with \`Last-Event-ID\`, after a restart of the server too, goes on right behind that event; a revision read elsewhere is as good. The latest ${eventsKeptMax} events of a session are kept; where they do not reach back that far, or a crash has lost what the client has heard of, \`events_lost\` comes first. An event that is missed at a crash can only be that of a checkpoint.`,
  'A client that does not read is cut off. Where more happens than can be written to all, `events_lost` comes in between.',
].join('\n\n');

export async function eventRoutes(instance: FastifyInstance): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>();

  app.get(
    '/v1/sessions/:session/events',
    {
      config: { access: 'read', isEndless: true },
      schema: {
        operationId: 'streamEvents',
        summary: 'Follow what happens to a session',
        description,
        tags: ['events'],
        params: SessionParams,
        querystring: query({}),
        headers: Type.Object({
          'last-event-id': Type.Optional(
            Type.String({
              description: 'The id of the last event that the client has. Without it, events come from now on.',
              examples: ['1201', '1201+ckpt-000007'],
            }),
          ),
        }),
        response: {
          200: eventStream('Events, as they come. Comments in between keep the connection alive.'),
          ...problems('session_not_found', 'not_acceptable'),
        },
      },
    },
    async (request, reply) => {
      const { revision, events } = app.store.session(request.params.session);
      requireAccepted(request, 'text/event-stream');
      const last = request.headers['last-event-id'];
      const missed = last === undefined ? [] : events.after(last);
      const headers = {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        // Proxies of nginx' kind would gather it first.
        'x-accel-buffering': 'no',
        etag: entityTag(revision),
      };
      if (request.method === 'HEAD') return reply.headers(headers).send();
      app.eventStreams.requireRoom();
      reply.hijack();
      app.admission.stepAside(reply.raw);
      app.eventStreams.open(reply.raw, headers, events, missed);
      return reply;
    },
  );
}
