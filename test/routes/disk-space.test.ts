/** A disk that is filling up, as clients meet it: what is refused before it is read, what goes on, and that it ends by itself. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { type Answer, type Api, encodeFile, f32, safetensors, startApi } from '../support/api.ts';
import { create, getDocument, push, refused, stateOf, succeeded } from '../support/calls.ts';
import { head, RawConnection } from '../support/raw-connection.ts';

const min = 1_000_000;
const ample = 100 * min;

interface Watched {
  readonly api: Api;
  /** What the disk has free from now on; it is looked at at once. */
  leave(freeBytes: number): Promise<void>;
  /** As `leave`, without a look. */
  set(freeBytes: number): void;
}

async function startWatched(t: { after(task: () => Promise<void>): void }): Promise<Watched> {
  const disk = { freeBytes: ample };
  const api = await startApi(t, { diskFreeBytesMin: min, measureDisk: async () => disk.freeBytes });
  const set = (freeBytes: number) => {
    disk.freeBytes = freeBytes;
  };
  return {
    api,
    set,
    async leave(freeBytes) {
      set(freeBytes);
      // One may be under way that has seen what was before.
      for (let k = 0; k < 2; k++) await api.store.disk.look();
    },
  };
}

const byHand = { checkpointing: { every_steps: null, every_seconds: null } };
const gradients = { w: { values: [0.5, -0.5] } };
const pathOf = (name: string, what: string) => `/v1/sessions/${name}/${what}`;

function full(answer: Answer): void {
  assert.match(
    refused(answer, 'insufficient_storage').detail,
    /must stay free on the disk .*Received: \d+ bytes, where/,
  );
}

function pushFile(api: Api, name: string, floats: number, headers: Record<string, string> = {}): Promise<Answer> {
  const bytes = encodeFile({ w: f32(Array(floats).fill(0.5)) });
  return api.call('POST', pathOf(name, 'gradients'), { bytes, headers });
}

describe('below twice the bound', () => {
  test('no session is made and none forked, and the others go on', async (t) => {
    const { api, leave } = await startWatched(t);
    await create(api, 's', { w: { values: [1, 2] } });
    await leave(2 * min - 1);
    full(await api.call('PUT', '/v1/sessions/other', { json: { variables: { w: { values: [1] } } } }));
    full(await api.call('PUT', '/v1/sessions/other', { bytes: encodeFile({ w: f32([1]) }) }));
    full(await api.call('POST', pathOf('s', 'fork'), { json: { name: 'other' } }));
    assert.deepEqual(await readdir(`${api.folder}/sessions`), ['s']);
    await push(api, 's', gradients);
    succeeded(await api.call('POST', pathOf('s', 'checkpoints')), 201);
    const ready = succeeded(await api.call('GET', '/readyz')).json;
    assert.deepEqual(ready.disk, { level: 'scarce', free_bytes: api.store.disk.freeBytes });
    await leave(ample);
    succeeded(await api.call('POST', pathOf('s', 'fork'), { json: { name: 'other' } }), 201);
    assert.equal(succeeded(await api.call('GET', '/readyz')).json.disk, undefined);
  });

  test('a session that would bring the disk there is not made, to the byte of its state', async (t) => {
    const { api, leave } = await startWatched(t);
    // w, m and v of 4 bytes an element.
    const bytes = 12 * 100_000;
    const json = { variables: { w: { shape: [100_000] } } };
    await leave(2 * min + bytes - 1);
    full(await api.call('PUT', '/v1/sessions/s', { json }));
    await leave(2 * min + bytes);
    succeeded(await api.call('PUT', '/v1/sessions/s', { json }), 201);
    await leave(2 * min + bytes - 1);
    full(await api.call('POST', pathOf('s', 'fork'), { json: { name: 'twin' } }));
    await leave(ample);
    await leave(2 * min + bytes);
    succeeded(await api.call('POST', pathOf('s', 'fork'), { json: { name: 'twin' } }), 201);
  });
});

describe('below the bound', () => {
  test('nothing is changed that needs room; reads, settings and what makes room go on', async (t) => {
    const { api, leave } = await startWatched(t);
    await create(api, 's', { w: { values: [1, 2] } }, byHand);
    await create(api, 'gone', { w: { values: [1, 2] } }, byHand);
    await push(api, 's', gradients);
    for (let k = 0; k < 3; k++) succeeded(await api.call('POST', pathOf('s', 'checkpoints')), 201);
    const state = await stateOf(api, 's');
    const values = { variables: gradients };
    await leave(min - 1);

    full(await api.call('POST', pathOf('s', 'gradients'), { json: { gradients } }));
    full(await pushFile(api, 's', 2));
    full(await api.call('PUT', pathOf('s', 'variables'), { json: values }));
    full(await api.call('PUT', pathOf('s', 'slots/m'), { json: values }));
    full(await api.call('POST', pathOf('s', 'checkpoints')));
    full(await api.call('POST', pathOf('s', 'checkpoints/latest/restore')));
    assert.deepEqual(await stateOf(api, 's'), state);
    assert.equal(succeeded(await api.call('GET', '/readyz')).json.disk.level, 'short');

    // Two of the four go, though no checkpoint comes that would make them needless.
    succeeded(await api.call('PATCH', pathOf('s', '').slice(0, -1), { json: { checkpointing: { keep: 2 } } }));
    const list = async () => succeeded(await api.call('GET', pathOf('s', 'checkpoints'))).json.checkpoints;
    while ((await list()).length > 2) await setTimeout(10);
    const [, older] = await list();
    succeeded(await api.call('DELETE', pathOf('s', `checkpoints/${older.id}`)), 204);
    succeeded(await api.call('DELETE', '/v1/sessions/gone'), 204);
    assert.deepEqual(await stateOf(api, 's'), state);
  });

  test('it ends by itself when there is room again', async (t) => {
    const { api, leave, set } = await startWatched(t);
    await create(api, 's', { w: { values: [1, 2] } });
    await leave(min - 1);
    full(await pushFile(api, 's', 2));
    set(ample);
    for (let attempt = 0; ; attempt++) {
      assert.ok(attempt < 100, 'the disk must be looked at now and then');
      if ((await pushFile(api, 's', 2)).status === 200) break;
      await setTimeout(100);
    }
    assert.equal((await getDocument(api, 's')).iterations, 1);
  });

  test('a push that would bring the disk there is refused, to the byte of its body, before it is sent', async (t) => {
    const { api, leave } = await startWatched(t);
    await create(api, 's', { w: { shape: [50_000] } });
    const { length } = encodeFile({ w: f32(Array(50_000).fill(0.5)) });
    await leave(min + length - 1);
    const connection = await RawConnection.open(api);
    const headers = { 'content-type': safetensors, 'content-length': length, expect: '100-continue' };
    connection.write(head('POST', pathOf('s', 'gradients'), headers));
    const reply = await connection.next();
    assert.equal(reply.status, 507);
    assert.equal(reply.json.code, 'insufficient_storage');
    connection.socket.destroy();
    await leave(min + length);
    succeeded(await pushFile(api, 's', 50_000));
  });

  test('a body of unknown length is refused when it is known', async (t) => {
    const { api, leave } = await startWatched(t);
    await create(api, 's', { w: { shape: [50_000] } });
    const bytes = gzipSync(encodeFile({ w: f32(Array(50_000).fill(0.5)) }));
    const call = { bytes, headers: { 'content-encoding': 'gzip' } };
    await leave(min + 200_000 - 1);
    full(await api.call('POST', pathOf('s', 'gradients'), call));
    assert.equal((await getDocument(api, 's')).iterations, 0);
    await leave(min + 200_000);
    succeeded(await api.call('POST', pathOf('s', 'gradients'), call));
  });

  test('a repeat is told what came of the first, and what failed for want of room is a first one again', async (t) => {
    const { api, leave } = await startWatched(t);
    await create(api, 's', { w: { values: [1, 2] } });
    succeeded(await pushFile(api, 's', 2, { 'idempotency-key': 'one' }));
    await leave(min - 1);
    const again = succeeded(await pushFile(api, 's', 2, { 'idempotency-key': 'one' }));
    assert.equal(again.headers['idempotency-replayed'], 'true');
    full(await pushFile(api, 's', 2, { 'idempotency-key': 'two' }));
    await leave(ample);
    assert.equal(
      succeeded(await pushFile(api, 's', 2, { 'idempotency-key': 'two' })).headers['idempotency-replayed'],
      undefined,
    );
    assert.equal((await getDocument(api, 's')).iterations, 2);
  });

  test('a session that is not journaled takes pushes on, and one that is not there is not found', async (t) => {
    const { api, leave } = await startWatched(t);
    await create(api, 's', { w: { values: [1, 2] } }, { durability: 'checkpoint', ...byHand });
    await leave(0);
    await push(api, 's', gradients);
    refused(await pushFile(api, 'nobody', 2), 'session_not_found');
  });
});

describe('checkpoints by rule', () => {
  test('may take half of what is kept free, to the byte, and no more', async (t) => {
    const { api, leave } = await startWatched(t);
    const bytes = 12 * 10_000;
    const rules = { every_steps: 1, every_seconds: null };
    await create(api, 's', { w: { shape: [10_000] } }, { durability: 'checkpoint', checkpointing: rules });
    const { checkpoints } = api.store.session('s');
    await leave(min / 2 + bytes - 1);
    succeeded(await pushFile(api, 's', 10_000));
    await checkpoints.idle();
    assert.equal(checkpoints.list.length, 1);
    await leave(min / 2 + bytes);
    succeeded(await pushFile(api, 's', 10_000));
    await checkpoints.idle();
    assert.equal(checkpoints.list.length, 2);
  });

  test('the last one is left out where the journal has it all, and written where nothing else has', async (t) => {
    const { api, leave } = await startWatched(t);
    await create(api, 'journaled', { w: { values: [1, 2] } }, byHand);
    await create(api, 'not', { w: { values: [1, 2] } }, { durability: 'checkpoint', ...byHand });
    const names = ['journaled', 'not'];
    for (const name of names) await push(api, name, gradients);
    const states = await Promise.all(names.map((name) => stateOf(api, name)));
    await leave(0);
    const again = await api.restart();
    assert.deepEqual(await Promise.all(names.map((name) => stateOf(again, name))), states);
    const counts = names.map((name) => again.store.session(name).checkpoints.list.length);
    assert.deepEqual(counts, [1, 2]);
  });
});
