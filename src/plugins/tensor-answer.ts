/** A reply with tensors, or that nothing has changed, for whoever reads: conditions, format and memory are seen to here. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { TensorReply } from '../schemas/tensor-reply.ts';
import type { Head, Receive } from '../session/session.ts';
import type { HeldSession } from '../store/held-session.ts';
import type { FloatDtype } from '../tensor/dtype.ts';
import { lendMemory, pooledReply } from './bodies/bodies.ts';
import { clientGone, entityTag, notModified, preferences, replyFormat } from './headers.ts';

/** Answers with tensors, or that nothing has changed; waits for a change first if the client prefers to. `names`: those read. */
export async function answerTensors(
  request: FastifyRequest,
  reply: FastifyReply,
  held: HeldSession,
  dtype: FloatDtype | undefined,
  names: readonly string[] | undefined,
  readTo: (receive: Receive) => Promise<Head>,
): Promise<FastifyReply | Buffer | string> {
  const { waitSeconds } = preferences(request);
  if (waitSeconds > 0 && notModified(request, held.revision)) {
    reply.header('preference-applied', `wait=${waitSeconds}`);
    const change = held.waitForChange(held.revision, waitSeconds * 1000, clientGone(reply));
    reply.server.admission.stepAside(reply.raw, change);
    await change;
  }
  if (notModified(request, held.revision)) return reply.status(304).header('etag', entityTag(held.revision)).send();
  const format = replyFormat(request);
  const tensors = new TensorReply(format, dtype, (bytes) => lendMemory(reply, bytes));
  const head = await readTo(tensors.receive);
  request.logged = { variables: (names ?? [...held.contents.variables.keys()]).slice(0, 8) };
  return pooledReply(reply.header('etag', entityTag(head.revision)).type(format), tensors.payload(false));
}
