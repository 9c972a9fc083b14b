/** What answers say about a change, whether they are JSON or safetensors, first answers or repeats. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Answer, Json } from './api.ts';
import type { Request } from './crash-line.ts';

export interface Head {
  readonly iterations: number;
  readonly rate: number;
  readonly revision: number;
}

/** The answer, which must have this status. */
export function succeeded(request: Request, answer: Answer, status = 200): Answer {
  const { method, path, key } = request;
  const text = answer.bytes.toString('utf8', 0, 500);
  assert.equal(answer.status, status, `${method} ${path}, key ${key}, was answered ${answer.status} ${text}`);
  return answer;
}

export function document(request: Request, answer: Answer, status = 200): Json {
  return succeeded(request, answer, status).json;
}

/** Of a step's answer. */
export function headOf(request: Request, answer: Answer): Head {
  succeeded(request, answer);
  const json = isJson(answer) ? answer.json : Object.fromEntries(answer.file.metadata);
  return { iterations: Number(json.iterations), rate: Number(json.learning_rate), revision: Number(json.revision) };
}

/** Of the tensors in a step's answer: equal for the same request exactly if all their bits are. */
export function digestOf(answer: Answer): string {
  const hash = createHash('sha1');
  if (isJson(answer)) hash.update(JSON.stringify(answer.json.variables ?? {}));
  else for (const [name, { bytes }] of answer.file.tensors) hash.update(name).update(bytes);
  return hash.digest('hex');
}

function isJson(answer: Answer): boolean {
  return answer.headers['content-type']?.startsWith('application/json') === true;
}
