/** JSON as it stands in a body: UTF-8 and well-formed, or a problem that says what is not. */
import { Problem } from '../errors.ts';

export function parseJson(bytes: Uint8Array): unknown {
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
