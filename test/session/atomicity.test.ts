/**
 * Atomicity: a request that is refused has changed nothing, not even what came first in it and was right. (TensorFlow has by
 * then changed earlier variables.)
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Problem } from '../../src/errors.ts';
import type { Slices } from '../../src/session/gradient.ts';
import type { Session } from '../../src/session/session.ts';
import { applyStep, assign, dense, everything, patch, read, sampleSession, sparse } from '../support/sessions.ts';

const good: Record<string, Slices> = { w: dense([1, 1, 1, 1, 1, 1], [3, 2]) };
const huge = 1e39;

/** Code, rule and what came, of each request that must be refused. */
const refusals: readonly [what: string, act: (session: Session) => unknown, code: string, message: RegExp][] = [
  [
    'a gradient for no variable',
    (s) => applyStep(s, { ...good, x: good.w as Slices }),
    'unknown_variable',
    /"w", "b", "s"\. Received: "x"/,
  ],
  [
    'a gradient of another shape',
    (s) => applyStep(s, { ...good, b: dense([1], [1]) }),
    'shape_mismatch',
    /gradient for "b" must have shape \[2\]\. Received: \[1\]/,
  ],
  [
    'a gradient of as many elements in another shape',
    (s) => applyStep(s, { w: dense([1, 1, 1, 1, 1, 1], [2, 3]) }),
    'shape_mismatch',
    /must have shape \[3,2\]\. Received: \[2,3\]/,
  ],
  [
    'rows to be broadcast',
    (s) => applyStep(s, { b: dense([1, 1], [2]), w: sparse([0], [1], [1, 1]) }),
    'shape_mismatch',
    /must have shape \[1,2\]\. Received: \[1,1\]/,
  ],
  [
    'more rows than indices',
    (s) => applyStep(s, { w: sparse([0], [1, 1, 1, 1], [2, 2]) }),
    'shape_mismatch',
    /Received: \[2,2\]/,
  ],
  [
    'rows of a scalar',
    (s) => applyStep(s, { ...good, s: sparse([0], [1], [1]) }),
    'shape_mismatch',
    /"s" must have rank 1 or more/,
  ],
  [
    'a negative index',
    (s) => applyStep(s, { ...good, b: sparse([-1], [1], [1]) }),
    'index_out_of_range',
    /less than 2\. Received: -1 \(number 0\)/,
  ],
  [
    'an index past the end',
    (s) => applyStep(s, { ...good, b: sparse([0, 2], [1, 1], [2]) }),
    'index_out_of_range',
    /Received: 2 \(number 1\)/,
  ],
  [
    'an index of 2^40',
    (s) => applyStep(s, { w: sparse([2 ** 40], [1, 1], [1, 2]) }),
    'index_out_of_range',
    /Received: 1099511627776/,
  ],
  [
    'a NaN',
    (s) => applyStep(s, { ...good, b: dense([1, Number.NaN], [2], 'F64') }),
    'gradient_not_finite',
    /"b" must be finite in F64/,
  ],
  [
    'an infinity in F16',
    (s) => applyStep(s, { ...good, b: dense([1, -70_000], [2], 'F16') }),
    'gradient_not_finite',
    /"b"/,
  ],
  [
    '1e39 for F32',
    (s) => applyStep(s, { b: dense([1, 1], [2]), s: dense([huge], [], 'F64') }),
    'gradient_not_finite',
    /"s" must be finite in F32/,
  ],
  ['a NaN in a row', (s) => applyStep(s, { ...good, b: sparse([1], [Number.NaN], [1]) }), 'gradient_not_finite', /"b"/],
  [
    'an assignment to no variable',
    (s) =>
      assign(
        s,
        'w',
        new Map([
          ['b', dense([0, 0], [2])],
          ['x', dense([], [0])],
        ]),
      ),
    'unknown_variable',
    /Received: "x"/,
  ],
  [
    'an assignment of another shape',
    (s) =>
      assign(
        s,
        'm',
        new Map([
          ['b', dense([0, 0], [2])],
          ['s', dense([0], [1])],
        ]),
      ),
    'shape_mismatch',
    /the values for "s" must have shape \[\]\. Received: \[1\]/,
  ],
  [
    'rows assigned twice',
    (s) =>
      assign(
        s,
        'w',
        new Map([
          ['b', dense([0, 0], [2])],
          ['w', sparse([1, 1], [0, 0, 0, 0], [2, 2])],
        ]),
      ),
    'invalid_argument',
    /must be named once each/,
  ],
  [
    'rows assigned past the end',
    (s) =>
      assign(
        s,
        'v',
        new Map([
          ['b', dense([0, 0], [2])],
          ['w', sparse([3], [0, 0], [1, 2])],
        ]),
      ),
    'index_out_of_range',
    /Received: 3/,
  ],
  [
    '1e39 assigned to F32',
    (s) =>
      assign(
        s,
        'w',
        new Map([
          ['b', dense([0, 0], [2])],
          ['s', dense([huge], [], 'F64')],
        ]),
      ),
    'invalid_argument',
    /range of F32/,
  ],
  [
    '1e39 beside an infinity assigned to F32',
    (s) => assign(s, 'w', new Map([['w', dense([Number.POSITIVE_INFINITY, huge, 0, 0, 0, 0], [3, 2], 'F64')]])),
    'invalid_argument',
    /range of F32/,
  ],
  [
    'a patch that no Adamax can have',
    (s) => patch(s, { iterations: 9, metadata: { a: 1 }, optimizer: { config: { beta_1: 1 } } }),
    'invalid_argument',
    /beta_1/,
  ],
  ['a read of no variable', (s) => read(s, 'w', [{ variable: 'x' }]), 'unknown_variable', /Received: "x"/],
  [
    'a read of a row past the end',
    (s) => read(s, 'w', [{ variable: 'w', rows: [0, 3] }]),
    'index_out_of_range',
    /Received: 3/,
  ],
];

describe('a request that is refused leaves every bit, the revision and the counter as they were', () => {
  for (const [what, act, code, message] of refusals) {
    test(`for ${what}`, async () => {
      const session = await sampleSession();
      const before = everything(session);
      await assert.rejects(async () => act(session), { code, message, applied: false });
      assert.deepEqual(everything(session), before);
    });
  }

  test('for a receiver that fails', async () => {
    const session = await sampleSession();
    const before = everything(session);
    const checked = await session.check(new Map(Object.entries(good)));
    assert.throws(() => session.prepare(checked, () => assert.fail('no room')), /no room/);
    assert.deepEqual(everything(session), before);
  });

  test('for several things that are wrong, each named with its place', async () => {
    const session = await sampleSession();
    const before = everything(session);
    const gradients = {
      'a/b~c': dense([1], [1]),
      w: dense([1], [1]),
      b: dense([1, 1], [2]),
      s: dense([Number.NaN], []),
    };
    await assert.rejects(applyStep(session, gradients), (problem: Problem) => {
      assert.equal(problem.code, 'unknown_variable');
      assert.match(problem.message, /\(and 2 more\)$/);
      assert.deepEqual(
        problem.errors?.map(({ pointer }) => pointer),
        ['/gradients/a~1b~0c', '/gradients/w', '/gradients/s'],
      );
      return true;
    });
    assert.deepEqual(everything(session), before);
  });
});

test('checking changes nothing', async () => {
  const session = await sampleSession();
  const before = everything(session);
  await session.check(new Map(Object.entries(good)));
  assert.deepEqual(everything(session), before);
});
