/** `GET /v1/info`: what it says must be so, section by section. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { readConfig } from '../../src/config.ts';
import { type Api, type Json, startApi, unrecovered } from '../support/api.ts';
import { create, getDocument, push, refused, succeeded } from '../support/calls.ts';
import { EventClient } from '../support/event-client.ts';
import { createSync, pushOf, waiting } from '../support/workers.ts';

const api = await startApi({ after });

async function infoOf(of: Api, query = ''): Promise<Json> {
  return succeeded(await of.call('GET', `/v1/info${query}`)).json;
}

/** A session's entry in one of the two lists. */
function entry(list: Json[], name: string): Json {
  return list.find((each) => each.name === name);
}

test('it has all sections, or the one that is asked for', async () => {
  const all = ['server', 'memory', 'persistence', 'clients', 'stats', 'sessions'];
  assert.deepEqual(Object.keys(await infoOf(api)), all);
  for (const section of all) assert.deepEqual(Object.keys(await infoOf(api, `?section=${section}`)), [section]);
  for (const query of ['?section=secrets', '?section=', '?all=1', '?section=server&section=memory'])
    refused(await api.call('GET', `/v1/info${query}`), 'invalid_parameter');
});

test('the server says what it is and how it is set, and nothing that is anybody else’s business', async () => {
  const { server } = await infoOf(api, '?section=server');
  const { version } = (await api.call('GET', '/openapi.json')).json.info;
  assert.deepEqual(
    [server.version, server.node, server.pid, server.ready],
    [version, process.version, process.pid, true],
  );
  assert.ok(
    Math.abs(Date.parse(server.started_at) + server.uptime_seconds * 1000 - Date.now()) < 5_000,
    'it must be up since its start',
  );
  assert.equal(server.config.idempotency_keys, readConfig({}).keysMax);
  const text = JSON.stringify(await infoOf(api));
  assert.ok(!text.includes(api.folder), 'no path may be told');
});

test('memory counts what sessions have', async () => {
  const before = (await infoOf(api, '?section=memory')).memory;
  await create(api, 'large', { w: { shape: [1000, 1000] } });
  const { budget, rss_bytes, heap_used_bytes } = (await infoOf(api, '?section=memory')).memory;
  assert.equal(budget.sessions_bytes - before.budget.sessions_bytes, 12_000_000);
  assert.equal(entry((await infoOf(api)).sessions, 'large').memory_bytes, 12_000_000);
  assert.equal(budget.max_bytes, readConfig({}).memoryBytesMax);
  assert.ok(rss_bytes > heap_used_bytes && heap_used_bytes > 1_000_000, `${rss_bytes} and ${heap_used_bytes}`);
  succeeded(await api.call('DELETE', '/v1/sessions/large'), 204);
  assert.equal((await infoOf(api)).memory.budget.sessions_bytes, before.budget.sessions_bytes);
});

test('sessions and counts are those of their requests', async () => {
  await create(api, 'counted', { w: { values: [1, 2] }, e: { shape: [4, 2] } });
  const before = (await infoOf(api, '?section=stats')).stats;
  await push(api, 'counted', { w: { values: [1, 1] }, e: { indices: [1, 3], values: [1, 2, 3, 4] } });
  const wrong = { json: { gradients: { x: { values: [1] } } } };
  refused(await api.call('POST', '/v1/sessions/counted/gradients?worker=a', wrong), 'unknown_variable');
  const { stats, sessions } = await infoOf(api);
  assert.deepEqual([stats.steps - before.steps, stats.rows - before.rows], [1, 2]);
  assert.equal(stats.gradient_bytes - before.gradient_bytes, 6 * 8);
  assert.equal(stats.requests - before.requests, 3);
  assert.equal(stats.problems.unknown_variable - (before.problems.unknown_variable ?? 0), 1);
  const { revision, created_at } = await getDocument(api, 'counted');
  assert.deepEqual(entry(sessions, 'counted'), {
    name: 'counted',
    revision,
    iterations: 1,
    created_at,
    variables: 2,
    memory_bytes: 10 * 3 * 4,
    steps: 1,
    rows: 2,
    gradient_bytes: 48,
    waiting_for_turn: 0,
    waiting_for_workers: 0,
    workers: 1,
    workers_quarantined: 0,
  });
});

test('clients: connections, listeners, and those who wait for other workers', async () => {
  await createSync(api, 'shared', { w: { values: [1] } }, 2);
  const before = (await infoOf(api)).clients;
  const { port } = api.app.server.address() as { port: number };
  const listener = await EventClient.open(port, '/v1/sessions/shared/events');
  const first = pushOf(api, 'shared', 'a', 0, { w: { values: [1] } });
  await waiting(api, 'shared', 'a');
  const { clients, sessions } = await infoOf(api);
  assert.deepEqual([clients.listeners - before.listeners, clients.waiting_for_workers], [1, 1]);
  assert.ok(clients.connections >= 3, `the listener, the push and this one: ${clients.connections}`);
  assert.equal(entry(sessions, 'shared').waiting_for_workers, 1);
  succeeded(await pushOf(api, 'shared', 'b', 0, { w: { values: [1] } }));
  succeeded(await first);
  assert.equal(entry((await infoOf(api)).sessions, 'shared').waiting_for_workers, 0);
  listener.response.destroy();
});

test('persistence: which step is durable and where, the newest checkpoint, the journal and its disk', async () => {
  await create(api, 'kept', { w: { values: [1] } });
  await push(api, 'kept', { w: { values: [1] } });
  const { persistence } = await infoOf(api);
  const { durable, durable_iterations, written_iterations, iterations, durability, last_checkpoint } = entry(
    persistence.sessions,
    'kept',
  );
  assert.deepEqual(
    [durability, durable, iterations, durable_iterations, written_iterations],
    ['always', true, 1, 1, 1],
  );
  assert.deepEqual([last_checkpoint.id, last_checkpoint.iterations], ['ckpt-000001', 0]);
  assert.ok(last_checkpoint.age_seconds < 60, `${last_checkpoint.age_seconds} s`);
  succeeded(await api.call('POST', '/v1/sessions/kept/checkpoints'), 201);
  const again = entry((await infoOf(api)).persistence.sessions, 'kept');
  assert.deepEqual(
    [again.in, again.last_checkpoint.id, again.last_checkpoint.iterations],
    ['checkpoint', 'ckpt-000002', 1],
  );
  assert.equal(persistence.read_only, null);
  const { journal, disk } = persistence;
  assert.ok(journal.database_bytes > 0 && journal.tail_bytes > 0, JSON.stringify(journal));
  assert.ok(journal.last_fsync_seconds.tail > 0 && journal.last_fsync_seconds.tail < 60, JSON.stringify(journal));
  assert.ok(disk.free_bytes > 0 && disk.free_bytes < disk.size_bytes, JSON.stringify(disk));
});

test('large records are counted while the journal has them, after a restart too', async (t) => {
  const own = await startApi(t);
  const rules = { checkpointing: { every_steps: null, every_seconds: null, keep: 1, keep_journal_steps: 0 } };
  await create(own, 'a', { w: { shape: [300_000] } }, rules);
  const values = new Array(300_000).fill(1);
  for (let k = 0; k < 2; k++) await push(own, 'a', { w: { values } });
  const dataBytes = async (of: Api) => (await infoOf(of)).persistence.journal.data_bytes;
  assert.equal(await dataBytes(own), 2 * 300_000 * 8);
  await own.store.session('a').checkpoints.write();
  await own.store.session('a').checkpoints.idle();
  assert.equal(await dataBytes(own), 0);
  await push(own, 'a', { w: { values } });
  await own.store.session('a').live.log.journal.flush();
  assert.equal(await dataBytes(await own.restart()), 0, 'the shutdown has written a checkpoint');
});

test('only those sessions are told whose names are seen', async () => {
  await create(api, 'mine', { w: { values: [1] } });
  await create(api, 'theirs', { w: { values: [1] } });
  await push(api, 'theirs', { w: { values: [1] } });
  const info = await api.app.info(undefined, (name) => name === 'mine');
  assert.deepEqual(
    info.sessions?.map(({ name }) => name),
    ['mine'],
  );
  assert.deepEqual(
    info.persistence?.sessions.map(({ name }) => name),
    ['mine'],
  );
  assert.equal(info.stats?.steps, 0);
  assert.ok(!JSON.stringify(info).includes('theirs'), 'a name that is not seen must not be told');
});

test('while the sessions are being recovered it says what there is', async (t) => {
  const { app } = await unrecovered(t, api);
  const answer = await app.inject('/v1/info');
  assert.equal(answer.statusCode, 200, answer.body);
  const { server, persistence, sessions } = answer.json();
  assert.deepEqual([server.ready, persistence.journal, sessions], [false, null, []]);
});
