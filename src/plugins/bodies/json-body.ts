/**
 * JSON bodies, from bytes to values. What `JSON.parse` takes its time for, all of it in one go, is less the bytes than the
 * lists, objects and members, up to 2 µs each; so they are counted first. What the values mean is left to schemas/.
 */
import { Problem } from '../../errors.ts';
import { jsonPartsMax } from '../../limits.ts';

const [list, object, member] = [...Buffer.from('[{:')];

/** Throws `body_too_large` for too many parts, whatever its bytes, and `malformed_body`. */
export function parseJson(bytes: Uint8Array): unknown {
  requireFewParts(bytes);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Problem('malformed_body', 'a JSON body must be UTF-8. Received: other bytes', { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? cause.message : 'it is nested too deep';
    throw new Problem('malformed_body', `a JSON body must be well-formed. Received: ${reason}`, { cause });
  }
}

/** By the characters that begin them; to know those within texts from others would take longer than it is worth. */
function requireFewParts(bytes: Uint8Array): void {
  if (bytes.length <= jsonPartsMax) return;
  let parts = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === list || byte === object || byte === member) parts++;
  }
  if (parts <= jsonPartsMax) return;
  const rule = `a JSON body must have at most ${jsonPartsMax} of "[", "{" and ":", as many lists, objects and members`;
  const advice = 'values may come flat, and as application/vnd.safetensors';
  throw new Problem('body_too_large', `${rule}; ${advice}. Received: ${parts}`);
}
