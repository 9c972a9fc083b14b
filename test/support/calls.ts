/** The calls that most route tests begin with, each held to have succeeded, and what they compare. */
import assert from 'node:assert/strict';
import type { ProblemCode } from '../../src/errors.ts';
import { catalogue } from '../../src/errors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { type Answer, type Api, encodeFile, type Json, numbers, safetensors } from './api.ts';

/** A session of these variables (as JSON), with other members of the creation beside them; the document. */
export async function create(api: Api, name: string, variables: object = {}, others: object = {}): Promise<Json> {
  const answer = await api.call('PUT', `/v1/sessions/${name}`, { json: { variables, ...others } });
  return succeeded(answer, 201).json;
}

/** One step by gradients as JSON; the reply. `query` begins with `?`. */
export async function push(api: Api, name: string, gradients: object, query = ''): Promise<Json> {
  return succeeded(await api.call('POST', `/v1/sessions/${name}/gradients${query}`, { json: { gradients } })).json;
}

/** One step by tensors; the reply's. */
export async function pushFile(api: Api, name: string, tensors: Record<string, Tensor>): Promise<Answer['file']> {
  const bytes = encodeFile(tensors);
  return succeeded(await api.call('POST', `/v1/sessions/${name}/gradients`, { bytes })).file;
}

export async function patch(api: Api, name: string, json: object): Promise<Json> {
  return succeeded(await api.call('PATCH', `/v1/sessions/${name}`, { json })).json;
}

export async function getDocument(api: Api, name: string): Promise<Json> {
  return succeeded(await api.call('GET', `/v1/sessions/${name}`)).json;
}

/** A session's tensors by name, read as safetensors: values, infinities too, come as they are. */
export async function read(api: Api, name: string, what = 'variables'): Promise<Map<string, Tensor>> {
  const answer = await api.call('GET', `/v1/sessions/${name}/${what}`, { headers: { accept: safetensors } });
  return new Map(succeeded(answer).file.tensors);
}

export async function readNumbers(api: Api, name: string, variable: string, what = 'variables'): Promise<number[]> {
  return numbers((await read(api, name, what)).get(variable) as Tensor);
}

/** A tensor of a JSON reply with the numbers that its digits stand for: all but F64 are written so that F32 reads them. */
export function fromJson(tensor: Json): Json {
  return tensor.dtype === 'F64' ? tensor : { ...tensor, values: tensor.values.map(Math.fround) };
}

/** All bits of a session: w, m and v, names and shapes, and the counter. Equal states are deeply equal. */
export async function stateOf(api: Api, name: string): Promise<object> {
  const { iterations } = await getDocument(api, name);
  const parts = ['variables', 'slots/m', 'slots/v'];
  const tensors = await Promise.all(parts.map((part) => read(api, name, part)));
  return { iterations, tensors: tensors.map((each) => bits(each)) };
}

/** Tensors by name as dtype, shape and hexadecimal bytes. */
export function bits(tensors: ReadonlyMap<string, Tensor>): object {
  const entries = [...tensors].map(([name, { dtype, shape, bytes }]) => {
    return [name, `${dtype} [${shape}] ${Buffer.from(bytes).toString('hex')}`];
  });
  return Object.fromEntries(entries);
}

export function succeeded(answer: Answer, status = 200): Answer {
  assert.equal(answer.status, status, answer.bytes.toString().slice(0, 500));
  return answer;
}

/** The reply must be the problem of this code, with its status; the problem. */
export function refused(answer: Answer, code: ProblemCode, applied = false): Json {
  assert.equal(answer.headers['content-type']?.split(';')[0], 'application/problem+json', answer.bytes.toString());
  const problem = answer.json;
  assert.equal(problem.code, code, problem.detail);
  assert.equal(answer.status, catalogue[code].status);
  assert.equal(problem.applied, applied);
  return problem;
}

/** Memory that is lent to requests under way. */
export function lentBytes({ store }: Api): number {
  return store.memory.lent;
}
