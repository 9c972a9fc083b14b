/**
 * What the tests of hostile requests share: one honest session, the requests to be refused as a table, and the runner that
 * holds every refusal to its code, its message, and to having changed nothing at all.
 */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { ProblemCode } from '../../src/errors.ts';
import { parseSafetensors } from '../../src/tensor/safetensors.ts';
import { type Api, type Call, f32, f64, safetensors } from '../support/api.ts';
import { bits, create, pushFile, refused } from '../support/calls.ts';

export interface Hostile extends Call {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly code: ProblemCode;
  /** What the message says: the rule and what was received instead. */
  readonly detail: RegExp | string;
  /** Of the first item of `errors`. */
  readonly pointer?: string;
}

export const session = '/v1/sessions/honest';

/** A session with variables of both dtypes, a table of four rows and a scalar, and slots that are not zero. */
export async function createHonest(api: Api): Promise<void> {
  await create(api, 'honest', {
    w: { shape: [3, 2], values: [1, 2, 3, 4, 5, 6] },
    d: { dtype: 'F64', values: [1, 2] },
    table: { shape: [4, 2], values: [1, 2, 3, 4, 5, 6, 7, 8] },
    scalar: { values: 5 },
  });
  await pushFile(api, 'honest', {
    w: f32([1, -2, 3, -4, 5, -6], [3, 2]),
    d: f64([0.5, -0.5]),
    table: f32([1, 1, 2, 2, 3, 3, 4, 4], [4, 2]),
    scalar: f32([1], []),
  });
}

/** All that a request could have changed: which sessions there are, their documents, and the honest one's bits. */
export async function snapshot(api: Api): Promise<object> {
  const list = await api.call('GET', '/v1/sessions');
  assert.equal(list.status, 200, list.bytes.toString());
  const tensors = ['variables', 'slots/m', 'slots/v'].map(async (part) => {
    // Not through the network, which would be most of what these tests take.
    const reply = await api.app.inject({ url: `${session}/${part}`, headers: { accept: safetensors } });
    assert.equal(reply.statusCode, 200, reply.body);
    return bits(parseSafetensors(reply.rawPayload).tensors);
  });
  return { list: list.json, tensors: await Promise.all(tensors) };
}

/** A test for each row: it is refused as it says, everything is as before, and the server still answers. */
export function refuseAll(title: string, api: Api, rows: readonly Hostile[]): void {
  describe(title, () => {
    let honest: object;
    before(async () => {
      honest = await snapshot(api);
    });
    for (const row of rows) {
      test(row.name, async () => {
        await refuse(api, row);
        assert.deepEqual(await snapshot(api), honest);
      });
    }
  });
}

/** Sends the request, which must be refused as it says. */
export async function refuse(api: Api, { method, path, code, detail, pointer, ...call }: Hostile): Promise<void> {
  const problem = refused(await api.call(method, path, call), code);
  if (typeof detail === 'string') assert.equal(problem.detail, detail);
  else assert.match(problem.detail, detail);
  if (pointer !== undefined) assert.equal(problem.errors?.[0].pointer, pointer, JSON.stringify(problem));
}

/** A call whose body holds things by variable name under `member`. */
export interface Body {
  readonly method: string;
  readonly path: string;
  readonly member: string;
}

/** What it is, the JSON text of one variable's member, code, message, pointer below the variable. */
export type Row = readonly [name: string, text: string, code: ProblemCode, detail: RegExp, pointer?: string];

/** The rows as the only member of a body, for the variable of that name. */
export function within(body: Body, variable: string, rows: readonly Row[]): Hostile[] {
  return rows.map(([name, text, code, detail, pointer]) => ({
    name,
    method: body.method,
    path: body.path,
    json: `{"${body.member}":{"${variable}":${text}}}`,
    code,
    detail,
    ...(pointer === undefined ? {} : { pointer: `/${body.member}/${variable}${pointer}` }),
  }));
}

/** JSON texts that are nested 100,000 deep. */
export const deepArrays = '['.repeat(100_000) + ']'.repeat(100_000);
export const deepObjects = `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`;
