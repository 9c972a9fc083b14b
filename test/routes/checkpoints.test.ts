/** Checkpoints over HTTP: written on demand and by rule, listed, downloaded, deleted, restored. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { type Json, startApi } from '../support/api.ts';
import { bits, create, getDocument, patch, push, refused, stateOf, succeeded } from '../support/calls.ts';

const api = await startApi({ after });
/** Only on demand. */
const onDemand = { every_steps: null, every_seconds: null, keep: 5 };

async function write(name: string): Promise<Json> {
  return succeeded(await api.call('POST', `/v1/sessions/${name}/checkpoints`), 201).json;
}

/** Once those that a newer one made needless are gone: that goes on behind the reply. */
async function list(name: string): Promise<Json[]> {
  await api.store.session(name).checkpoints.idle();
  return succeeded(await api.call('GET', `/v1/sessions/${name}/checkpoints`)).json.checkpoints;
}

const step = (name: string, value: number) => push(api, name, { w: { values: [value, 1] } });

/** The id of the newest checkpoint, once there is one of this iteration. */
async function checkpointAt(name: string, iterations: number): Promise<string> {
  const deadline = performance.now() + 15_000;
  for (;;) {
    const [newest] = await list(name);
    if (newest.iterations === iterations) return newest.id;
    assert.ok(
      performance.now() < deadline,
      `the newest checkpoint is of iteration ${newest.iterations}, not ${iterations}`,
    );
    await setTimeout(20);
  }
}

test('a checkpoint is on the disk when the reply comes, and is listed, newest first', async () => {
  await create(api, 'written', { w: { values: [1, 2] } }, { checkpointing: onDemand });
  await step('written', 1);
  const answer = succeeded(await api.call('POST', '/v1/sessions/written/checkpoints', { json: {} }), 201);
  const info = answer.json;
  assert.deepEqual([info.id, info.iterations], ['ckpt-000002', 1]);
  assert.equal(answer.headers.location, '/v1/sessions/written/checkpoints/ckpt-000002');
  const file = await readFile(join(api.folder, 'sessions', 'written', 'ckpt-000002.safetensors'));
  assert.equal(info.bytes, file.length);
  assert.equal(info.sha256, createHash('sha256').update(file).digest('hex'));
  assert.ok(Math.abs(Date.parse(info.created_at) - Date.now()) < 60_000);

  const reply = succeeded(await api.call('GET', '/v1/sessions/written/checkpoints')).json;
  assert.deepEqual([reply.session, reply.revision], ['written', 1]);
  assert.deepEqual(
    reply.checkpoints.map(({ id, iterations }: Json) => [id, iterations]),
    [
      ['ckpt-000002', 1],
      ['ckpt-000001', 0],
    ],
  );
  assert.deepEqual(reply.checkpoints[0], info);
  assert.deepEqual((await getDocument(api, 'written')).last_checkpoint, info);
  refused(await api.call('POST', '/v1/sessions/written/checkpoints', { json: { id: 'x' } }), 'invalid_parameter');
});

describe('a download', () => {
  const path = '/v1/sessions/down/checkpoints';

  test('is the file as it lies on the disk: variables, slots, and all settings in __metadata__', async () => {
    const optimizer = { class_name: 'Adamax', config: { learning_rate: 0.5, clipvalue: 2 } };
    const others = { optimizer, checkpointing: onDemand, metadata: { owner: 'team-a' } };
    await create(api, 'down', { w: { values: [1, 2] }, e: { dtype: 'F64', shape: [3, 1] } }, others);
    await step('down', -3);
    const info = await write('down');
    const answer = succeeded(await api.call('GET', `${path}/${info.id}`));
    const file = await readFile(join(api.folder, 'sessions', 'down', `${info.id}.safetensors`));
    assert.deepEqual(answer.bytes, file);
    assert.equal(answer.headers['content-length'], String(file.length));
    assert.equal(answer.headers.etag, `"${info.sha256}"`);
    assert.equal(answer.headers['accept-ranges'], 'bytes');
    assert.match(answer.headers['content-disposition'] ?? '', /"down-ckpt-000002\.safetensors"/);
    assert.deepEqual((await api.call('GET', `${path}/latest`)).bytes, file);

    const { metadata, tensors } = answer.file;
    assert.deepEqual([...tensors.keys()].sort(), ['e', 'e:m', 'e:v', 'w', 'w:m', 'w:v']);
    const state = (await stateOf(api, 'down')) as { tensors: Json[] };
    for (const [k, part] of ['', ':m', ':v'].entries()) {
      const own = new Map(['w', 'e'].map((name) => [name, tensors.get(`${name}${part}`) as never]));
      assert.deepEqual(bits(own), state.tensors[k]);
    }
    const document = await getDocument(api, 'down');
    assert.equal(metadata.get('session'), 'down');
    assert.equal(metadata.get('iterations'), '1');
    assert.match(metadata.get('format') ?? '', /^adamax-server\/\d+$/);
    for (const member of ['optimizer', 'checkpointing', 'aggregation', 'metadata']) {
      assert.deepEqual(JSON.parse(metadata.get(member) ?? 'null'), document[member], member);
    }
  });

  test('may be of a range; one beyond the end is 416, one that cannot be read is ignored', async () => {
    const whole = succeeded(await api.call('GET', `${path}/latest`)).bytes;
    const size = whole.length;
    const ranges: [string, number, number][] = [
      ['bytes=0-7', 0, 7],
      [`bytes=8-${size + 100}`, 8, size - 1],
      ['bytes=100-', 100, size - 1],
      ['bytes=-5', size - 5, size - 1],
    ];
    for (const [range, start, end] of ranges) {
      const answer = succeeded(await api.call('GET', `${path}/latest`, { headers: { range } }), 206);
      assert.equal(answer.headers['content-range'], `bytes ${start}-${end}/${size}`);
      assert.deepEqual(answer.bytes, whole.subarray(start, end + 1), range);
    }
    const beyond = await api.call('GET', `${path}/latest`, { headers: { range: `bytes=${size}-` } });
    refused(beyond, 'range_not_satisfiable');
    assert.equal(beyond.headers['content-range'], `bytes */${size}`);
    for (const range of ['bytes=0-1,4-5', 'lines=0-1', 'bytes']) {
      assert.deepEqual(succeeded(await api.call('GET', `${path}/latest`, { headers: { range } })).bytes, whole, range);
    }
  });

  test('of what is not there is 404', async () => {
    const problem = refused(await api.call('GET', `${path}/ckpt-000099`), 'checkpoint_not_found');
    assert.match(problem.detail, /ckpt-000002/);
    refused(await api.call('GET', `${path}/..%2Fckpt-000001`), 'checkpoint_not_found');
    refused(await api.call('GET', '/v1/sessions/nobody/checkpoints/latest'), 'session_not_found');
  });
});

test('a deletion removes the file; the newest stays, and is 409', async () => {
  await create(api, 'deleted', { w: { values: [1, 2] } }, { checkpointing: onDemand });
  await write('deleted');
  await write('deleted');
  const path = '/v1/sessions/deleted/checkpoints';
  for (const newest of ['ckpt-000003', 'latest'])
    refused(await api.call('DELETE', `${path}/${newest}`), 'checkpoint_in_use');
  const unmatched = { headers: { 'if-match': '"1"' } };
  refused(await api.call('DELETE', `${path}/ckpt-000001`, unmatched), 'precondition_failed');
  succeeded(await api.call('DELETE', `${path}/ckpt-000001`), 204);
  refused(await api.call('DELETE', `${path}/ckpt-000001`), 'checkpoint_not_found');
  assert.deepEqual(
    (await list('deleted')).map(({ id }) => id),
    ['ckpt-000003', 'ckpt-000002'],
  );
  const files = await readdir(join(api.folder, 'sessions', 'deleted'));
  assert.deepEqual(
    files.filter((file) => file.includes('000001')),
    [],
  );
  assert.equal((await getDocument(api, 'deleted')).revision, 0);
});

test('a restore puts everything back but the revision, and what follows gives the same bits again', async () => {
  const others = { checkpointing: onDemand, metadata: { note: 1 } };
  await create(api, 'restored', { w: { values: [1, 2] } }, others);
  await step('restored', 1);
  const { id } = await write('restored');
  const before = await getDocument(api, 'restored');
  const state = await stateOf(api, 'restored');
  const replies = [await step('restored', -5), await step('restored', 7)];
  await patch(api, 'restored', { metadata: { note: 2 }, optimizer: { config: { learning_rate: 0.5 } } });

  const path = `/v1/sessions/restored/checkpoints/${id}/restore`;
  refused(await api.call('POST', path, { headers: { 'if-match': '"1"' } }), 'precondition_failed');
  const document = succeeded(await api.call('POST', path)).json;
  assert.deepEqual(document, { ...before, revision: 5 });
  assert.deepEqual(await stateOf(api, 'restored'), state);
  for (const reply of replies) {
    const again = await step('restored', reply.iterations === 2 ? -5 : 7);
    assert.deepEqual({ ...again, revision: 0 }, { ...reply, revision: 0 });
  }
  refused(await api.call('POST', '/v1/sessions/restored/checkpoints/ckpt-000009/restore'), 'checkpoint_not_found');
});

test('as many are kept as `keep` says, the newest', async () => {
  await create(api, 'trimmed', { w: { values: [1, 2] } }, { checkpointing: { ...onDemand, keep: 2 } });
  for (let k = 0; k < 3; k++) await write('trimmed');
  assert.deepEqual(
    (await list('trimmed')).map(({ id }) => id),
    ['ckpt-000004', 'ckpt-000003'],
  );
  const files = await readdir(join(api.folder, 'sessions', 'trimmed'));
  assert.equal(files.filter((file) => file.endsWith('.safetensors')).length, 2);
  await patch(api, 'trimmed', { checkpointing: { keep: 3 } });
  await write('trimmed');
  await write('trimmed');
  assert.deepEqual(
    (await list('trimmed')).map(({ id }) => id),
    ['ckpt-000006', 'ckpt-000005', 'ckpt-000004'],
  );
});

describe('by rule', { concurrency: true }, () => {
  test('one is written after every so many steps', async () => {
    await create(
      api,
      'by-steps',
      { w: { values: [1, 2] } },
      { checkpointing: { every_steps: 3, every_seconds: null } },
    );
    for (let k = 0; k < 3; k++) await step('by-steps', k);
    await checkpointAt('by-steps', 3);
    for (let k = 3; k < 6; k++) await step('by-steps', k);
    await checkpointAt('by-steps', 6);
    await step('by-steps', 6);
    assert.deepEqual(
      (await list('by-steps')).map(({ iterations }) => iterations),
      [6, 3, 0],
    );
  });

  test('one is written so many seconds after the last, if there was a change', async () => {
    const checkpointing = { every_steps: null, every_seconds: 1 };
    await create(api, 'idle', { w: { values: [1, 2] } }, { checkpointing });
    await create(api, 'by-seconds', { w: { values: [1, 2] } }, { checkpointing });
    await create(api, 'neither', { w: { values: [1, 2] } }, { checkpointing: onDemand });
    for (const name of ['by-seconds', 'neither']) await step(name, 1);
    const id = await checkpointAt('by-seconds', 1);
    const file = succeeded(await api.call('GET', `/v1/sessions/by-seconds/checkpoints/${id}`)).file;
    assert.equal(file.metadata.get('iterations'), '1');
    for (const name of ['idle', 'neither']) assert.equal((await list(name)).length, 1);
  });
});

test('pushes go on while a checkpoint is written, and leave no trace in it', async () => {
  const shape = [12_000, 64];
  const embedding = { e: { shape, initializer: { class_name: 'RandomNormal', config: { seed: 1 } } } };
  const row = Array.from({ length: 64 }, (_, k) => Math.sin(k));
  const pushRows = (name: string, k: number) => {
    // First, middle and last rows, and one that moves: blocks that are written early, late, and in between.
    const indices = [0, 6000, 11_999, (k * 389) % 12_000];
    return push(api, name, { e: { indices, values: indices.map(() => row) } });
  };
  await create(api, 'busy', embedding, { checkpointing: onDemand });
  for (let k = 0; k < 3; k++) await pushRows('busy', k);
  let info: Json;
  const writing = write('busy').then((written) => {
    info = written;
  });
  let pushes = 3;
  const during: Json[] = [];
  for (; info === undefined; pushes++) during.push(await pushRows('busy', pushes));
  await writing;
  assert.ok(
    during.some(({ iterations }) => iterations > info.iterations),
    'no push came while the checkpoint was written',
  );

  await create(api, 'quiet', embedding, { checkpointing: onDemand });
  for (let k = 0; k < info.iterations; k++) await pushRows('quiet', k);
  await write('quiet');
  const [busy, quiet] = await Promise.all(
    ['busy', 'quiet'].map(async (name) => {
      const { file } = succeeded(await api.call('GET', `/v1/sessions/${name}/checkpoints/latest`));
      return [...file.tensors].map(([tensor, { bytes }]) => [tensor, createHash('sha256').update(bytes).digest('hex')]);
    }),
  );
  assert.deepEqual(busy, quiet);
  for (let k = info.iterations; k < pushes; k++) {
    const reply = await pushRows('quiet', k);
    if (k >= 3) assert.deepEqual(reply.variables, during[k - 3].variables);
  }
});
