/** How bodies stand in a route's schema: by name, in one format or in both. */
import { Type } from 'typebox';

export type BodyName = 'NewSession' | 'Gradients' | 'Assignments' | 'Lookup';
export type ReplyName =
  | 'Head'
  | 'Session'
  | 'SessionList'
  | 'Fingerprint'
  | 'Tensors'
  | 'Checkpoint'
  | 'CheckpointList'
  | 'WorkerList';

const binary = (description: string) =>
  Type.Unsafe<unknown>({ contentMediaType: 'application/vnd.safetensors', description });

/** A request body in JSON or, with the same meaning, in safetensors. */
export function tensorBody(name: BodyName, safetensors: string) {
  return {
    content: {
      'application/json': { schema: Type.Ref(name) },
      'application/vnd.safetensors': { schema: binary(safetensors) },
      'application/octet-stream': { schema: binary('The same under another name.') },
    },
  };
}

/** Replies about one session say at which revision it is. */
const headers = { etag: { type: 'string', description: 'The revision, quoted.', example: '"41"' } };

/** A reply without a body. */
export function nothing(description: string) {
  return Type.Null({ description });
}

/** A JSON reply. */
export function json(name: ReplyName, description: string) {
  const about = name === 'SessionList' ? {} : { headers };
  return { description, ...about, content: { 'application/json': { schema: Type.Unsafe<never>(Type.Ref(name)) } } };
}

/** A reply of server-sent events. */
export function eventStream(description: string) {
  return { description, headers, content: { 'text/event-stream': { schema: Type.Unsafe<void>(Type.String()) } } };
}

/** A reply in JSON or in safetensors, as `Accept` asks. `safetensors`: what the file holds. */
export function tensorReply(name: 'Tensors', description: string, safetensors: string) {
  return {
    description,
    headers,
    content: {
      'application/json': { schema: Type.Unsafe<Buffer | string>(Type.Ref(name)) },
      'application/vnd.safetensors': { schema: binary(safetensors) },
      'application/octet-stream': { schema: binary('The same under another name.') },
    },
  };
}
