/** A file that is sent while it is filled: every byte once, in order, and none before it is there. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { FillingFile } from '../../src/schemas/filling-file.ts';

/** What the stream has given so far. */
function collect(file: FillingFile): { chunks: Buffer[]; ended: () => boolean } {
  const chunks: Buffer[] = [];
  let ended = false;
  file
    .stream()
    .on('data', (chunk: Buffer) => chunks.push(chunk))
    .on('end', () => {
      ended = true;
    });
  return { chunks, ended: () => ended };
}

describe('the stream of a file that is being filled', () => {
  test('gives every byte once and in order, in whatever order stretches are filled', async () => {
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 39 }), { maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(cuts, fc.infiniteStream(fc.nat()), fc.nat(10), async (places, keys, begun) => {
        const ends = [...places.sort((a, b) => a - b), 40];
        const stretches = ends.map((end, index) => ({ start: ends[index - 1] ?? 0, end, key: keys.next().value }));
        const bytes = Buffer.alloc(40);
        const file = new FillingFile(bytes);
        let sent: ReturnType<typeof collect> | undefined;
        const inAnyOrder = stretches.toSorted((a, b) => Number(a.key) - Number(b.key));
        for (const [index, { start, end }] of inAnyOrder.entries()) {
          if (index === begun) sent = collect(file);
          for (let k = start; k < end; k++) bytes[k] = k + 1;
          file.fill(start, end);
          await setImmediate();
          // 0 stands for a byte that was not there yet.
          assert.ok(!Buffer.concat(sent?.chunks ?? []).includes(0));
        }
        sent ??= collect(file);
        await setImmediate();
        assert.deepEqual(Buffer.concat(sent.chunks), Buffer.from(Array.from({ length: 40 }, (_, k) => k + 1)));
        assert.ok(sent.ended());
      }),
      { numRuns: 50 },
    );
  });

  test('gives what is there from the start on as soon as it is there, and no byte behind a gap', async () => {
    const file = new FillingFile(Buffer.from('abcdef'));
    const { chunks, ended } = collect(file);
    file.fill(2, 4);
    await setImmediate();
    assert.deepEqual(chunks, []);
    file.fill(0, 2);
    await setImmediate();
    assert.equal(Buffer.concat(chunks).toString(), 'abcd');
    assert.ok(!ended());
    file.finish();
    await setImmediate();
    assert.equal(Buffer.concat(chunks).toString(), 'abcdef');
    assert.ok(ended());
  });

  test('sends views of the file, no copies', async () => {
    const bytes = Buffer.alloc(8);
    const file = new FillingFile(bytes);
    const { chunks } = collect(file);
    file.finish();
    await setImmediate();
    assert.equal(chunks[0]?.buffer, bytes.buffer);
  });

  test('breaks off with the error if the rest will never be there', async () => {
    const file = new FillingFile(Buffer.alloc(8));
    const stream = file.stream().resume();
    const failed = once(stream, 'error');
    file.fill(0, 4);
    file.finish(new Error('a thread is gone'));
    assert.match(String(await failed), /a thread is gone/);
  });
});
