/** The bytes of a JSON body as the value that they say; what is wrong with them is the client's to know. */
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
