/** Requests sent again with the idempotency key that they first came with, and what is compared of their answers. */
import assert from 'node:assert/strict';
import { type Answer, type Api, type Call, safetensors } from './api.ts';
import { bits, getDocument, stateOf } from './calls.ts';

export interface KeyedCall extends Call {
  readonly method: string;
  readonly path: string;
}

export function send(api: Api, key: string, { method, path, headers, ...call }: KeyedCall): Promise<Answer> {
  return api.call(method, path, { ...call, headers: { ...headers, 'idempotency-key': key } });
}

export function isRepeat({ headers }: Answer): boolean {
  return headers['idempotency-replayed'] === 'true';
}

/** Everything about a session that a change could have changed. */
export async function wholeOf(api: Api, name: string): Promise<object> {
  const document = await getDocument(api, name);
  const { checkpoints } = (await api.call('GET', `/v1/sessions/${name}/checkpoints`)).json;
  return { document, checkpoints, state: await stateOf(api, name) };
}

/** The member of a reply that says so, in either format: `iterations`, `learning_rate`, `revision`. */
export function said(answer: Answer, member: string): unknown {
  if (!answer.headers['content-type']?.startsWith(safetensors)) return answer.json[member];
  const text = answer.file.metadata.get(member);
  return text === undefined ? undefined : Number(text);
}

/** The tensors of a reply in either format, comparable within it. */
export function tensorsOf(answer: Answer): unknown {
  if (!answer.headers['content-type']?.startsWith(safetensors)) return answer.json.variables;
  return bits(new Map(answer.file.tensors));
}

/** A first answer must not say that it is a repeat, and a repeat must. */
export function assertFirstThenRepeat(first: Answer, repeat: Answer): void {
  assert.ok(first.status < 300, `${first.status} ${first.bytes.toString().slice(0, 300)}`);
  assert.equal(repeat.status, first.status, repeat.bytes.toString().slice(0, 300));
  assert.deepEqual([isRepeat(first), isRepeat(repeat)], [false, true]);
}
