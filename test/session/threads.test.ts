/**
 * Sessions whose work is done by threads: several at once, dense and sparse gradients, clipping by norms, replies and reads.
 * They have the bits of sessions that do it all in the calling thread.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type Executor, here, Threads } from '../../src/kernel/threads.ts';
import type { Slices } from '../../src/session/gradient.ts';
import { type Outgoing, type Receive, Session } from '../../src/session/session.ts';
import { elementCount } from '../../src/tensor/tensor.ts';
import { randomUnits } from '../support/floats.ts';
import { dense, everything, sessionOf, sparse } from '../support/sessions.ts';
import { handingOver, sharedRoom } from '../support/work-cases.ts';

const threads = new Threads(2);
after(() => threads.close());

/** So many variables that the threads share their blocks out. */
const variables = Object.fromEntries(
  Array.from({ length: 120 }, (_, k) => {
    const shape = k % 5 === 0 ? [7] : [k % 9, 3 + (k % 4)];
    return [`v${k}`, { shape, dtype: k % 3 === 0 ? ('F64' as const) : ('F32' as const) }];
  }),
);

const configs = [{ clipvalue: 0.5 }, { clipnorm: 2 }, { global_clipnorm: 3, decay: 0.1 }];

function gradientsOf(seed: number): Map<string, Slices> {
  const next = randomUnits(seed);
  const numbers = (count: number) => Array.from({ length: count }, () => Math.fround(next() * 4 - 2));
  return new Map(
    Object.entries(variables).map(([name, { shape }]) => {
      const [rows = 0, ...row] = shape;
      if (rows === 0 || next() < 0.5) return [name, dense(numbers(elementCount(shape)), shape)];
      const indices = Array.from({ length: 5 }, () => Math.floor(next() * rows));
      return [name, sparse(indices, numbers(elementCount([5, ...row])), [5, ...row])];
    }),
  );
}

/** Three steps, each with its reply, and a read of everything; all that came, and the session's bits. */
async function train(executor: Executor, number: number): Promise<unknown[]> {
  const { contents, createdAt } = sessionOf(variables, { config: configs[number] as object });
  const session = new Session('s', createdAt, contents, 1, executor);
  const told: unknown[] = [];
  let last: readonly Buffer[] = [];
  const receive: Receive = (head, tensors: readonly Outgoing[]) => {
    const places = tensors.map(({ shape, dtype }) => sharedRoom(elementCount(shape), dtype));
    last = places.map(({ bytes }) => Buffer.from(bytes.buffer));
    told.push(head);
    return places;
  };
  for (let step = 0; step < 3; step++) {
    await session.apply(session.prepare(await session.check(gradientsOf(10 * number + step)), receive));
    told.push(last.map((bytes) => bytes.toString('hex')));
  }
  await session.read('m', undefined, receive);
  told.push(last.map((bytes) => bytes.toString('hex')));
  const all = everything(session);
  session.release();
  return [...told, all];
}

test('several sessions at once on the same threads have the bits that each has in the calling thread', async () => {
  const numbers = configs.map((_, number) => number);
  const expected = await Promise.all(numbers.map((number) => train(here, number)));
  for (let round = 0; round < 2; round++) {
    assert.deepEqual(await Promise.all(numbers.map((number) => train(threads, number))), expected);
  }
});

test('all that a large request asks for is left to the threads, however many variables share it', async () => {
  assert.deepEqual(await train(handingOver(threads), 1), await train(here, 1));
});

test('a gradient that is refused leaves every bit as it was', async () => {
  const { contents, createdAt } = sessionOf(variables);
  const session = new Session('s', createdAt, contents, 1, threads);
  await session.apply(session.prepare(await session.check(gradientsOf(1)), () => []));
  const before = everything(session);
  const wrong = new Map([...gradientsOf(2), ['v5', dense([0, 0, Number.NaN, 0, 0, 0, 0], [7])]]);
  await assert.rejects(session.check(wrong), { code: 'gradient_not_finite', message: /"v5"/ });
  assert.deepEqual(everything(session), before);
});
