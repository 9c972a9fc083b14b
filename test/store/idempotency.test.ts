/** Exactly once: a key's first request is carried out, its repeats are told what came of it, and others are refused. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  decodeEntry,
  encodeEntry,
  IdempotencyKeys,
  type KeyEntry,
  type RequestKey,
} from '../../src/store/idempotency.ts';

const key = (name: string, digest = 'digest'): RequestKey => ({ key: name, digest });
const entry = (name: string, revision = 1, digest = 'digest'): KeyEntry => {
  return { key: name, digest, revision, iterations: revision + 10, learningRate: 0.1 };
};
const reused = { code: 'idempotency_key_reused' };

/** What a request comes to: `first`, remembered, or `again` with the revision that the first had come to. */
function send(keys: IdempotencyKeys, request: RequestKey | undefined, revision = 1): Promise<string> {
  return keys.once(
    request,
    async () => {
      if (request !== undefined) keys.remember(entry(request.key, revision, request.digest));
      return 'first';
    },
    async (known) => `again ${known.revision}`,
  );
}

describe('a request', () => {
  test('without a key is carried out every time', async () => {
    const keys = new IdempotencyKeys(10);
    assert.deepEqual([await send(keys, undefined), await send(keys, undefined)], ['first', 'first']);
    assert.equal(keys.size, 0);
  });

  test('with a key is carried out once, however often it is sent', async () => {
    const keys = new IdempotencyKeys(10);
    assert.equal(await send(keys, key('a'), 7), 'first');
    for (let repeat = 0; repeat < 3; repeat++) assert.equal(await send(keys, key('a'), 8 + repeat), 'again 7');
    assert.equal(await send(keys, key('b'), 9), 'first');
  });

  test('with the key of another is refused, when that is over and while it is under way', async () => {
    const keys = new IdempotencyKeys(10);
    await send(keys, key('a'));
    await assert.rejects(send(keys, key('a', 'other')), reused);
    assert.equal(await send(keys, key('a')), 'again 1');
    let finish = (): void => undefined;
    const first = keys.once(
      key('slow'),
      () => new Promise<void>((resolve) => (finish = resolve)),
      async () => undefined,
    );
    await assert.rejects(send(keys, key('slow', 'other')), reused);
    finish();
    await first;
  });

  test('that comes while the first is under way waits for it, and is a repeat', async () => {
    const keys = new IdempotencyKeys(10);
    const said: string[] = [];
    let finish = (): void => undefined;
    const first = keys
      .once(
        key('a'),
        async () => {
          await new Promise<void>((resolve) => (finish = resolve));
          keys.remember(entry('a', 5));
          return 'first';
        },
        async () => 'again',
      )
      .then((what) => said.push(what));
    const repeats = [1, 2].map(() => send(keys, key('a'), 6).then((what) => said.push(what)));
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(said, [], 'nobody may be answered before the first is over');
    finish();
    await Promise.all([first, ...repeats]);
    assert.deepEqual(said, ['first', 'again 5', 'again 5']);
  });

  test('that failed leaves its key free: of those that wait one is carried out, once', async () => {
    const keys = new IdempotencyKeys(10);
    const failing = keys.once(
      key('a'),
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 10));
        throw new Error('not finite');
      },
      async () => undefined,
    );
    const outcome = assert.rejects(failing, /not finite/);
    const waiting = [2, 3, 4].map((revision) => send(keys, key('a'), revision));
    await outcome;
    const outcomes = await Promise.all(waiting);
    assert.deepEqual(outcomes.sort(), ['again 2', 'again 2', 'first']);
    assert.equal(await send(keys, key('a')), 'again 2');
  });

  test('that failed at once leaves its key to another request, too', async () => {
    const keys = new IdempotencyKeys(10);
    const fail = () => Promise.reject(new Error('no'));
    await assert.rejects(
      keys.once(key('a'), fail, async () => undefined),
      /no/,
    );
    assert.equal(await send(keys, key('a', 'other')), 'first');
  });
});

describe('of many keys', () => {
  test('the last ones are remembered, and of the older ones nothing', async () => {
    const keys = new IdempotencyKeys(3);
    for (const name of ['a', 'b', 'c', 'd']) await send(keys, key(name));
    assert.deepEqual(
      keys.entries.map((each) => each.key),
      ['b', 'c', 'd'],
    );
    assert.equal(await send(keys, key('a'), 9), 'first');
    assert.equal(await send(keys, key('d')), 'again 1');
    assert.equal(await send(keys, key('b'), 9), 'first');
  });

  test('those that are put in place of all are known, and no others', async () => {
    const keys = new IdempotencyKeys(2);
    await send(keys, key('old'));
    keys.replace([entry('a'), entry('b', 4), entry('c', 5)]);
    assert.equal(await send(keys, key('old')), 'first');
    keys.replace([entry('a'), entry('b', 4), entry('c', 5)]);
    assert.equal(await send(keys, key('c')), 'again 5');
    assert.equal(await send(keys, key('b')), 'again 4');
    assert.equal(await send(keys, key('a'), 6), 'first');
  });
});

describe('an entry', () => {
  const given: KeyEntry = {
    ...entry('k~!"\\', 2 ** 40),
    learningRate: Math.fround(0.001),
    made: 'größe',
    sentTo: 'a',
    wrote: { id: 'ckpt-000007', iterations: 3, bytes: 9, sha256: 'ab', created_at: '2026-01-02T03:04:05.678Z' },
  };

  test('reads as it was written', () => {
    assert.deepEqual(decodeEntry(encodeEntry(given)), given);
  });

  test('with any bit flipped, or cut off, is none', () => {
    const bytes = encodeEntry(given);
    for (let at = 0; at < bytes.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const hurt = Buffer.from(bytes);
        hurt[at] = (hurt[at] as number) ^ (1 << bit);
        assert.equal(decodeEntry(hurt), undefined, `byte ${at}, bit ${bit}`);
      }
      assert.equal(decodeEntry(bytes.subarray(0, at)), undefined, `cut to ${at}`);
    }
  });
});
