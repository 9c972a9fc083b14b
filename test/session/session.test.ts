/**
 * A session as a state machine: what a step, a read, an assignment, a patch and a replacement do, what the counters count
 * and, over any sequence of requests, the reference's numbers. TensorFlow's are in vectors.test.ts, refusals in
 * atomicity.test.ts.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Slices } from '../../src/session/gradient.ts';
import type { Session } from '../../src/session/session.ts';
import { defaultSettings } from '../../src/session/settings.ts';
import { assertSameBits, encode, randomFloats, randomUnits } from '../support/floats.ts';
import { referenceDense, referenceScalars, referenceSparse, type State } from '../support/reference-adamax.ts';
import {
  applyStep,
  assign,
  dense,
  everything,
  patch,
  read,
  sampleSession,
  sessionOf,
  sparse,
  valuesOf,
} from '../support/sessions.ts';

const good: Record<string, Slices> = { w: dense([1, 1, 1, 1, 1, 1], [3, 2]) };

describe('a step', () => {
  test('tells where it leads before it is taken, and gives the values right after it in the order asked', async () => {
    const session = await sampleSession();
    const { head, tensors } = await applyStep(session, {
      s: dense([2], []),
      w: sparse([2, 0, 2], [1, 1, 1, 1, 1, 1], [3, 2]),
    });
    assert.deepEqual(
      tensors.map(({ variable, shape, dtype, rows }) => [variable, shape, dtype, rows && [...Array.from(rows)]]),
      [
        ['s', [], 'F32', undefined],
        ['w', [2, 2], 'F32', [0, 2]],
      ],
    );
    const { w, s } = (await valuesOf(session, 'w')) as { w: number[]; s: number[] };
    assert.deepEqual(tensors[0]?.values, s);
    assert.deepEqual(tensors[1]?.values, [...w.slice(0, 2), ...w.slice(4)]);
    assert.deepEqual(head, { session: 's', revision: 43, iterations: 6, learningRate: head.learningRate });
  });

  test('tells the rate that it used; the session tells the one that the next step will use', async () => {
    const session = await sampleSession();
    // 0.1 / (1 + 0.5 * iterations) in float32, with iterations = 5 and then 6.
    const rate = (iterations: number) => Math.fround(Math.fround(0.1) / Math.fround(1 + 0.5 * iterations));
    assert.equal(session.head.learningRate, rate(5));
    assert.equal((await applyStep(session, good)).head.learningRate, rate(5));
    assert.equal(session.head.learningRate, rate(6));
  });

  test('changes no variable that it does not name, and no row', async () => {
    const session = await sampleSession();
    const [before, slots] = [await valuesOf(session, 'w'), await valuesOf(session, 'v')];
    await applyStep(session, { w: sparse([1], [1, 1], [1, 2]) });
    const after = await valuesOf(session, 'w');
    assert.deepEqual([after.b, after.s], [before.b, before.s]);
    assert.deepEqual([after.w?.slice(0, 2), after.w?.slice(4)], [before.w?.slice(0, 2), before.w?.slice(4)]);
    assert.deepEqual((await valuesOf(session, 'v')).w?.slice(0, 2), slots.w?.slice(0, 2));
    assert.notDeepEqual(after.w, before.w);
  });

  test('moves the counter by one, even if it names no row or no variable', async () => {
    const session = await sampleSession();
    const before = [await valuesOf(session, 'w'), await valuesOf(session, 'm'), await valuesOf(session, 'v')];
    assert.deepEqual((await applyStep(session, { w: sparse([], [], [0, 2]) })).tensors[0]?.values, []);
    await applyStep(session, {});
    assert.deepEqual(
      [await valuesOf(session, 'w'), await valuesOf(session, 'm'), await valuesOf(session, 'v')],
      before,
    );
    assert.deepEqual([session.revision, session.contents.iterations], [44, 7]);
  });

  test('gives nothing to who gives no places', async () => {
    const [asked, silent] = [await sampleSession(), await sampleSession()];
    await applyStep(asked, good);
    await silent.apply(silent.prepare(await silent.check(new Map(Object.entries(good))), () => []));
    assert.deepEqual(everything(silent), everything(asked));
  });
});

describe('reading', () => {
  test('gives rows in the order asked for, repeats too, of any part, and everything by default', async () => {
    const session = sessionOf({
      w: { shape: [3, 2], values: [1, 2, 3, 4, 5, 6] },
      b: { shape: [2], dtype: 'F64', values: [7, 8] },
    });
    const { head, tensors } = await read(session, 'w', [
      { variable: 'b', rows: [1, 0, 1] },
      { variable: 'w', rows: [2] },
      { variable: 'b' },
    ]);
    assert.deepEqual(
      tensors.map(({ variable, shape, values }) => [variable, shape, values]),
      [
        ['b', [3], [8, 7, 8]],
        ['w', [1, 2], [5, 6]],
        ['b', [2], [7, 8]],
      ],
    );
    assert.deepEqual(head, session.head);
    assert.deepEqual(await valuesOf(session, 'w'), { w: [1, 2, 3, 4, 5, 6], b: [7, 8] });
    assert.deepEqual(await valuesOf(session, 'm'), { w: [0, 0, 0, 0, 0, 0], b: [0, 0] });
  });
});

describe('an assignment', () => {
  test('overwrites a part, whole or by rows, raises the revision by one and leaves the counter', async () => {
    const session = await sampleSession();
    const slots = await valuesOf(session, 'v');
    const { revision, iterations } = assign(
      session,
      'm',
      new Map([
        ['w', sparse([2, 0], [1, 2, 3, 4], [2, 2], 'BF16')],
        ['b', dense([0.1, -0], [2], 'F64')],
      ]),
    );
    const m = await valuesOf(session, 'm');
    assert.deepEqual(
      [m.w?.slice(4), m.w?.slice(0, 2), m.b],
      [
        [1, 2],
        [3, 4],
        [0.1, -0],
      ],
    );
    assert.deepEqual(await valuesOf(session, 'v'), slots);
    assert.deepEqual([revision, iterations], [43, 5]);
  });

  test('takes infinities and NaN as they are, from F64 too', async () => {
    const session = await sampleSession();
    const values = [Number.POSITIVE_INFINITY, Number.NaN, 1, 2, 3, Number.NEGATIVE_INFINITY];
    assign(session, 'w', new Map([['w', dense(values, [3, 2], 'F64')]]));
    assert.deepEqual((await valuesOf(session, 'w')).w, values);
  });
});

describe('a patch', () => {
  test('merges, takes effect at the next step and raises the revision by one', async () => {
    const session = await sampleSession();
    const head = patch(session, {
      iterations: 7,
      optimizer: { config: { learning_rate: 0.25, decay: null } },
      metadata: { a: { b: 1, c: 2 } },
    });
    assert.deepEqual(head, { session: 's', revision: 43, iterations: 7, learningRate: 0.25 });
    patch(session, { metadata: { a: { b: null }, d: [1] }, checkpointing: { keep: 2 } });
    const { optimizer, settings } = session.contents;
    assert.deepEqual([optimizer.learning_rate, optimizer.decay, optimizer.beta_1], [0.25, 0, 0.9]);
    assert.deepEqual(settings.metadata, { a: { c: 2 }, d: [1] });
    assert.deepEqual(settings.checkpointing, { ...defaultSettings.checkpointing, keep: 2 });
    patch(session, { metadata: null, checkpointing: null });
    assert.deepEqual(session.contents.settings, defaultSettings);
    assert.equal((await applyStep(session, good)).head.iterations, 8);
  });
});

describe('a replacement', () => {
  test('puts all contents in place of the old ones, while the revision goes on', async () => {
    const [session, other] = [
      await sampleSession(),
      sessionOf({ x: { shape: [1], values: [3] } }, { iterations: 77, revision: 5 }),
    ];
    const { revision, iterations } = session.replace(other.contents);
    assert.deepEqual([revision, iterations], [43, 77]);
    assert.deepEqual(await valuesOf(session, 'w'), { x: [3] });
    await assert.rejects(applyStep(session, good), { code: 'unknown_variable' });
  });
});

describe('any sequence of requests', () => {
  const config = { learning_rate: 0.05, beta_1: 0.9, beta_2: 0.99, epsilon: 1e-7, decay: 0.01 };
  const shapes = { a: [4, 3], b: [5] } as const;
  const dtypes = { a: 'F32', b: 'F64' } as const;

  /** One random request: to either variable or both, dense or sparse. */
  async function step(session: Session, states: Record<'a' | 'b', State>, seed: number): Promise<void> {
    const next = randomUnits(seed);
    const gradients: Record<string, Slices> = {};
    const { iterations } = session.contents;
    for (const name of ['a', 'b'] as const) {
      if (next() < 0.3) continue;
      const [[rows, width = 1], dtype, state] = [
        shapes[name] as readonly number[] as [number, number?],
        dtypes[name],
        states[name],
      ];
      const indices = next() < 0.5 ? undefined : Array.from({ length: 3 }, () => Math.floor(next() * rows));
      const values = [...randomFloats(seed + 1, (indices?.length ?? rows) * width, 'F32')];
      const scalars = referenceScalars(config, iterations, dtype);
      if (indices === undefined) {
        gradients[name] = dense(values, shapes[name]);
        referenceDense(state, values, scalars, dtype);
      } else {
        gradients[name] = sparse(indices, values, [3, ...shapes[name].slice(1)], 'F32', 'I32');
        referenceSparse(state, width, indices, values, scalars, dtype);
      }
    }
    await applyStep(session, gradients);
  }

  test('with refused ones among them gives the reference’s bits of those that were taken', async () => {
    const requests = fc.array(fc.record({ seed: fc.nat(), refused: fc.boolean() }), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(requests, async (given) => {
        const session = sessionOf({ a: { shape: shapes.a }, b: { shape: shapes.b, dtype: 'F64' } }, { config });
        const zeros = (count: number): State => ({
          w: new Float64Array(count),
          m: new Float64Array(count),
          v: new Float64Array(count),
        });
        const states = { a: zeros(12), b: zeros(5) };
        for (const { seed, refused } of given) {
          if (refused)
            await assert.rejects(applyStep(session, { a: dense(Array(12).fill(1), [4, 3]), b: dense([1], [1]) }));
          else await step(session, states, seed);
        }
        for (const part of ['w', 'm', 'v'] as const) {
          const held = await valuesOf(session, part);
          for (const name of ['a', 'b'] as const) {
            assertSameBits(
              encode(held[name] as number[], 'F64'),
              encode(states[name][part], 'F64'),
              `${part} of ${name}, element`,
            );
          }
        }
        assert.equal(session.contents.iterations, given.filter(({ refused }) => !refused).length);
      }),
      { numRuns: 60 },
    );
  });
});
