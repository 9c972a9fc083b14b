/**
 * Refusals where the server has as many requests under way as it takes (admission.ts): `503 overloaded`, written before
 * Fastify hears of the request. They are counted, and the log sums them up. The body of one is not wanted: a small one is
 * read and forgotten, so that the connection can go on; a large one is left unread, since a client that looks stops sending
 * it, and read later for one that looks only when it has sent everything.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../errors.ts';
import { drainedBytesMax } from '../limits.ts';
import { Admission } from './admission.ts';
import { http2Stream, leaveBody } from './connections/http2.ts';
import { newFigure } from './figures/figure.ts';
import { problemText } from './problems.ts';

const lookEveryMs = 1_000;
const unreadMs = 1_000;
/** An address may come with its host before it (RFC 9112, 3.2.2). */
const isOfApi = /^(https?:\/\/[^/]*)?\/v1\//i;

export const overload = fp(async (app: FastifyInstance, { requestsMax }: { requestsMax: number }) => {
  const admission = new Admission(requestsMax);
  const refusal = new Refusal(requestsMax, app.replyHeaders);
  let refused = 0;
  app.decorate('admission', admission);
  app.connections.onServer((server) => {
    const [handle] = server.listeners('request') as [RequestListener];
    server.removeListener('request', handle);
    server.on('request', (request: IncomingMessage, reply: ServerResponse) => {
      // Probes and documents are answered always.
      if (!isOfApi.test(request.url as string) || admission.admit(request, reply)) return handle(request, reply);
      refused++;
      app.refusals.note();
      refusal.send(request, reply);
    });
  });
  const timer = setInterval(() => admission.lookForSlow(), lookEveryMs).unref();
  app.addHook('onClose', async () => clearInterval(timer));
  figures(app, admission, () => refused);
});

class Refusal {
  readonly #before: string;
  readonly #after: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(requestsMax: number, headers: Readonly<Record<string, string>>) {
    this.#headers = { ...headers, 'content-type': 'application/problem+json', 'retry-after': '1' };
    const rule = `at most ${requestsMax} requests can be under way (REQUESTS_MAX)`;
    const text = problemText(new Problem('overloaded', `${rule}. Received: one more`), '*');
    [this.#before, this.#after] = text.split('"*"') as [string, string];
  }

  send(request: IncomingMessage, reply: ServerResponse): void {
    const path = JSON.stringify((request.url as string).split('?', 1)[0]);
    // As text it goes out in one piece with the header.
    const body = this.#before + path + this.#after;
    const length = Buffer.byteLength(body);
    const headers = { ...this.#headers, 'content-length': length };
    const stream = http2Stream(reply);
    if (stream !== undefined) leaveBody(request, stream);
    if (stream !== undefined || !isLong(request)) {
      reply.writeHead(503, headers).end(body);
      return;
    }
    reply.writeHead(503, { ...headers, connection: 'close' }).write(body);
    const timer = setTimeout(() => {
      request.once('close', () => reply.end()).resume();
    }, unreadMs).unref();
    reply.once('close', () => clearTimeout(timer));
  }
}

/** Whether a body comes unasked that takes longer to read than a new connection takes. */
function isLong({ headers }: IncomingMessage): boolean {
  if (headers.expect !== undefined) return false;
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > drainedBytesMax;
}

function figures(app: FastifyInstance, admission: Admission, refused: () => number): void {
  const { registry } = app.metrics;
  newFigure(
    registry,
    'gauge',
    'adamax_requests_under_way',
    'API requests that are worked on, those that wait or have a slow client not counted; REQUESTS_MAX is the most.',
    () => [[{}, admission.counted]],
  );
  newFigure(
    registry,
    'counter',
    'adamax_requests_refused_total',
    'API requests refused since REQUESTS_MAX were under way; in none of the other figures.',
    () => [[{}, refused()]],
  );
}

declare module 'fastify' {
  interface FastifyInstance {
    admission: Admission;
  }
}
