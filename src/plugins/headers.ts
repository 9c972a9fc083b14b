/** The request headers that the API gives a meaning to, read: preconditions, preferences, and the reply's format. */
import { crc32 } from 'node:zlib';
import type { FastifyReply, FastifyRequest } from 'fastify';
import Negotiator from 'negotiator';
import { Problem } from '../errors.ts';
import { keyLengthMax, waitSecondsMax } from '../limits.ts';
import type { ReplyFormat } from '../schemas/tensor-reply.ts';
import type { RequestKey } from '../store/idempotency.ts';
import type { ChangeRequest, Precondition } from '../store/requests.ts';
import { SafetensorsBody, safetensorsTypes } from './bodies/bodies.ts';
import { mediaType } from './bodies/body-reader.ts';
import { hasGone } from './connections/http2.ts';

const formats: readonly ReplyFormat[] = ['application/json', ...safetensorsTypes];

/** What a request for a change comes with: `If-Match` and `Idempotency-Key`. */
export function changeRequest(request: FastifyRequest): ChangeRequest {
  return { precondition: ifMatch(request), key: idempotencyKey(request), hasRoom: request.hasRoom };
}

/** `Idempotency-Key`, and what tells the request that bears it from others. */
export function idempotencyKey(request: FastifyRequest): RequestKey | undefined {
  const header = request.headers['idempotency-key'];
  if (header === undefined) return undefined;
  const key = String(header);
  if (!/^[\x21-\x7e]+$/.test(key) || key.length > keyLengthMax) {
    const rule = `Idempotency-Key must be 1 to ${keyLengthMax} visible ASCII characters`;
    throw new Problem('invalid_parameter', `${rule}. Received: ${JSON.stringify(key.slice(0, 60))} (${key.length})`);
  }
  // Without the session's name: a fork knows the requests that its past has seen under another one.
  const address = crc32(`${request.method} ${request.url.replace(/^\/v1\/sessions\/[^/?]+/, '')}`);
  return { key, digest: `${address.toString(16)}-${request.bodyDigest ?? '0'}` };
}

/** Says that the answer is that of an earlier request with the same key. */
export function noteReplay(reply: FastifyReply, replayed: boolean): void {
  if (replayed) reply.header('idempotency-replayed', 'true');
}

/** `If-Match`: the revisions at which a change may apply. Weak tags never match (RFC 9110, 13.1.1). */
function ifMatch(request: FastifyRequest): Precondition {
  const header = request.headers['if-match'];
  if (header === undefined || header.trim() === '*') return undefined;
  const tags = entityTags(header, 'If-Match');
  return (revision) => tags.includes(entityTag(revision));
}

/** Whether `If-None-Match` names this revision. It is for GET and HEAD; a lookup always answers. */
export function notModified(request: FastifyRequest, revision: number): boolean {
  const header = request.headers['if-none-match'];
  if (header === undefined || request.method === 'POST') return false;
  if (header.trim() === '*') return true;
  return entityTags(header, 'If-None-Match').some((tag) => tag.replace(/^W\//, '') === entityTag(revision));
}

export function entityTag(revision: number): string {
  return `"${revision}"`;
}

function entityTags(header: string, name: string): string[] {
  const tags = header.split(',').map((tag) => tag.trim());
  const bad = tags.find((tag) => !/^(W\/)?"[^"]*"$/.test(tag));
  if (bad === undefined) return tags;
  throw new Problem(
    'invalid_parameter',
    `${name} must be * or a list of quoted revisions, like "41". Received: ${bad}`,
  );
}

/** `Prefer` (RFC 7240): `return=minimal`, and `wait` in seconds, shortened to what the server does. */
export function preferences(request: FastifyRequest): { minimal: boolean; waitSeconds: number } {
  const { prefer } = request.headers;
  if (prefer === undefined) return { minimal: false, waitSeconds: 0 };
  const given = [prefer]
    .flat()
    .join()
    .split(',')
    .map((each) => each.trim().toLowerCase());
  const wait = given.find((each) => each.startsWith('wait='))?.slice('wait='.length);
  const seconds = Number(wait ?? 0);
  if (!(seconds >= 0))
    throw new Problem('invalid_parameter', `Prefer: wait must be a number of seconds. Received: ${wait}`);
  return { minimal: given.includes('return=minimal'), waitSeconds: Math.min(seconds, waitSecondsMax) };
}

/** The format that `Accept` asks for; the request's own, or JSON, where it leaves the choice. */
export function replyFormat(request: FastifyRequest): ReplyFormat {
  const own =
    request.body instanceof SafetensorsBody
      ? (mediaType(request.headers['content-type'] ?? '') as ReplyFormat)
      : 'application/json';
  if (request.headers.accept === undefined) return own;
  const available = [own, ...formats.filter((format) => format !== own)];
  const chosen = new Negotiator(request.raw).mediaType(available);
  if (chosen !== undefined) return chosen as ReplyFormat;
  throw notAcceptable(request, formats);
}

/** For replies that come in one format only. Throws `not_acceptable`. */
export function requireAccepted(request: FastifyRequest, format: string): void {
  const accepted = request.headers.accept === undefined || new Negotiator(request.raw).mediaType([format]);
  if (!accepted) throw notAcceptable(request, [format]);
}

function notAcceptable({ headers }: FastifyRequest, available: readonly string[]): Problem {
  return new Problem('not_acceptable', `Accept must allow one of ${available.join(', ')}. Received: ${headers.accept}`);
}

/** A signal that is aborted when the client has gone. */
export function clientGone(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  if (hasGone(reply.raw)) controller.abort();
  else reply.raw.once('close', () => controller.abort());
  return controller.signal;
}
