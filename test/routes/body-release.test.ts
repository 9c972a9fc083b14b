/** What becomes of a body's pooled memory when its handler is done with it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SafetensorsBody } from '../../src/plugins/bodies/bodies.ts';
import { bodyPool } from '../../src/tensor/buffer-pool.ts';
import { encodeFile, f32 } from '../support/api.ts';

const file = encodeFile({ w: f32(new Array(1_000_000).fill(1)) });

function pooledBody(): { body: SafetensorsBody; memory: ArrayBufferLike } {
  const bytes = bodyPool.take(file.length);
  bytes.set(file);
  return { body: new SafetensorsBody(bytes, undefined), memory: bytes.buffer };
}

test('a body that is released twice, as when sending its reply fails, is not given to two', () => {
  const { body, memory } = pooledBody();
  body.release();
  const next = bodyPool.take(file.length);
  assert.equal(next.buffer, memory, 'it must be used again');
  body.release();
  assert.notEqual(bodyPool.take(file.length).buffer, memory, 'the next who has it must not lose it');
});

test('a body in use is given back when that is over, even if it fails', async () => {
  const { body, memory } = pooledBody();
  let end: (error: Error) => void = assert.fail;
  const use = new Promise((_, reject) => {
    end = reject;
  });
  body.useUntil(use);
  body.release();
  assert.notEqual(bodyPool.take(file.length).buffer, memory);
  end(new Error('over'));
  await assert.rejects(use);
  assert.equal(bodyPool.take(file.length).buffer, memory);
});
