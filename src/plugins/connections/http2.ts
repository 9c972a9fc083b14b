/**
 * What HTTP/2 does otherwise than HTTP/1. Fastify and Node give both the same faces, and this is the one place that looks
 * behind them: a reply over HTTP/2 is a stream of a session that others share, and is never destroyed with its socket.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { constants, type Http2ServerResponse, type ServerHttp2Stream } from 'node:http2';
import type { FastifyReply } from 'fastify';

/** The stream of a reply over HTTP/2. */
export function http2Stream(raw: ServerResponse): ServerHttp2Stream | undefined {
  return (raw as unknown as Partial<Http2ServerResponse>).stream;
}

/** Whether nobody will get the reply any more. */
export function hasGone(raw: ServerResponse): boolean {
  const stream = http2Stream(raw);
  return stream === undefined ? raw.destroyed : stream.destroyed;
}

/** Ends a reply half way, so that its client knows. */
export function cutOff(raw: ServerResponse): void {
  const stream = http2Stream(raw);
  if (stream === undefined) {
    raw.destroy();
    return;
  }
  stream.close(constants.NGHTTP2_CANCEL);
  // Else it would wait for its client to take what was written.
  stream.destroy();
}

/** No request is to come on the reply's connection after this one: `Connection: close`, or a GOAWAY. */
export function endConnection(reply: FastifyReply): void {
  const stream = http2Stream(reply.raw);
  if (stream !== undefined) stream.session?.close();
  else if (!reply.raw.headersSent) reply.header('connection', 'close');
}

/** What is still to come of a body is not waited for; its client is told to stop, since others may use the connection. */
export function leaveBody(request: IncomingMessage, stream: ServerHttp2Stream): void {
  if (request.readableEnded || stream.endAfterHeaders) return;
  stream.once('finish', () => stream.close(constants.NGHTTP2_NO_ERROR));
}
