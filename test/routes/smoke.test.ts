import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeFile, f32, numbers, safetensors, startApi } from '../support/api.ts';

test('a session is created, pushed to and read, in both formats', async (t) => {
  const api = await startApi(t);
  const created = await api.call('PUT', '/v1/sessions/demo', { json: { variables: { w: { values: [1, 2, 3] } } } });
  assert.equal(created.status, 201);
  const pushed = await api.call('POST', '/v1/sessions/demo/gradients', {
    json: { gradients: { w: { values: [0.1, 0.1, 0.1] } } },
  });
  assert.equal(pushed.status, 200);
  const again = await api.call('POST', '/v1/sessions/demo/gradients', {
    bytes: encodeFile({ w: f32([0.1, 0.1, 0.1]) }),
  });
  assert.equal(again.status, 200, again.bytes.toString());
  const read = await api.call('GET', '/v1/sessions/demo/variables', { headers: { accept: safetensors } });
  assert.deepEqual(numbers(read.file.tensors.get('w') as never), numbers(again.file.tensors.get('w') as never));
});
