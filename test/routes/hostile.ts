/**
 * What the tests of hostile requests share: one honest session, the requests to be refused as a table, and the runner that
 * holds every refusal to its code, its message, and to having changed nothing at all.
 */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { ProblemCode } from '../../src/errors.ts';
import { type Api, type Call, f32, f64 } from '../support/api.ts';
import { bits, create, pushFile, read, refused } from '../support/calls.ts';

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
  const tensors = [];
  for (const part of ['variables', 'slots/m', 'slots/v']) tensors.push(bits(await read(api, 'honest', part)));
  return { list: list.json, tensors };
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
