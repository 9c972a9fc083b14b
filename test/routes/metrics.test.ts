/** The figures of `/metrics` about the server's own work: what is counted must be what happened. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { stages } from '../../src/store/figures.ts';
import { type Api, encodeFile, f32, startApi } from '../support/api.ts';
import { create, push, refused, succeeded } from '../support/calls.ts';
import { createSync, pushOf, waiting } from '../support/workers.ts';

const api = await startApi({ after });
const gradients = { w: { values: [1] } };

/** Series by name and labels. */
async function figures(of: Api = api): Promise<Map<string, number>> {
  const lines = succeeded(await of.call('GET', '/metrics'))
    .bytes.toString()
    .split('\n');
  const samples = lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.split(/ (?=[^ ]+$)/));
  return new Map(samples.map(([name, value]) => [name as string, Number(value)]));
}

/** How much each series has grown while `task` ran. */
async function grown(task: () => Promise<unknown>): Promise<(series: string) => number> {
  const before = await figures();
  await task();
  const now = await figures();
  return (series) => (now.get(series) ?? 0) - (before.get(series) ?? 0);
}

const stage = (name: string, what: 'count' | 'sum') => `adamax_push_stage_duration_seconds_${what}{stage="${name}"}`;

test('a push that is applied is counted once in each stage; one that is refused in none', async () => {
  await create(api, 'staged', { w: { values: [1] } });
  const more = await grown(async () => {
    await push(api, 'staged', gradients);
    succeeded(await api.call('POST', '/v1/sessions/staged/gradients', { bytes: encodeFile({ w: f32([1]) }) }));
    refused(
      await api.call('POST', '/v1/sessions/staged/gradients', { json: { gradients: { x: { values: [1] } } } }),
      'unknown_variable',
    );
  });
  for (const name of stages) {
    assert.equal(more(stage(name, 'count')), 2, name);
    const seconds = more(stage(name, 'sum'));
    assert.ok(seconds >= 0 && seconds < 60, `${name}: ${seconds} s`);
  }
  assert.ok(more(stage('journal', 'sum')) > 0, 'to bring a record to the disk takes time');
});

test('what a push waits for is counted where it waits: its body, its turn, other workers', async () => {
  await createSync(api, 'shared', { w: { values: [1] } }, 2);
  const together = await grown(async () => {
    const first = pushOf(api, 'shared', 'a', 0, gradients);
    await waiting(api, 'shared', 'a');
    assert.equal((await figures()).get('adamax_waiting_requests{session="shared",queue="workers"}'), 1);
    await sleep(300);
    succeeded(await pushOf(api, 'shared', 'b', 0, gradients));
    succeeded(await first);
  });
  assert.deepEqual([together(stage('wait', 'count')), together(stage('journal', 'count'))], [2, 1]);
  const waited = together(stage('wait', 'sum'));
  assert.ok(waited > 0.29, `300 ms were waited for the other worker, not ${waited} s`);

  await create(api, 'busy', { w: { values: [1] } });
  const queued = await grown(async () => {
    const { turns } = api.store.session('busy').live;
    const gate = new EventEmitter();
    const held = turns.alone(() => once(gate, 'open'));
    const pushed = push(api, 'busy', gradients);
    while (turns.waiting === 0) await sleep(1);
    assert.equal((await figures()).get('adamax_waiting_requests{session="busy",queue="turn"}'), 1);
    await sleep(300);
    gate.emit('open');
    await held;
    await pushed;
  });
  const turn = queued(stage('wait', 'sum'));
  assert.ok(turn > 0.29, 'the turn was 300 ms away');
  for (const name of ['read', 'check', 'apply', 'reply'])
    assert.ok(queued(stage(name, 'sum')) < turn - 0.2, `${name} has nothing of it`);
});

test('memory is told by who has it', async () => {
  const more = await grown(async () => {
    await create(api, 'large', { w: { shape: [1000, 1000] } });
  });
  assert.equal(more('adamax_memory_bytes{use="sessions"}'), 12_000_000);
  const now = await figures();
  assert.equal(now.get('adamax_session_memory_bytes{session="large"}'), 12_000_000);
  assert.equal(now.get('adamax_memory_max_bytes'), api.store.memory.max);
  const giveBack = api.store.memory.lend(123_456);
  assert.equal((await figures()).get('adamax_memory_bytes{use="requests"}'), 123_456);
  giveBack();
  assert.equal((await figures()).get('adamax_memory_bytes{use="requests"}'), 0);
});

test('fsyncs are counted by part of the journal, and its files by their size', async () => {
  await create(api, 'durable', { w: { values: [1] }, large: { shape: [300_000] } });
  const more = await grown(async () => {
    await push(api, 'durable', gradients);
    await push(api, 'durable', { large: { values: new Array(300_000).fill(1) } });
    await api.store.session('durable').live.log.journal.flush();
  });
  assert.equal(more('adamax_fsync_duration_seconds_count{part="tail"}'), 1);
  assert.equal(more('adamax_fsync_duration_seconds_count{part="data"}'), 1);
  assert.ok(more('adamax_fsync_duration_seconds_count{part="database"}') >= 1, 'the database has taken the records');
  assert.equal(more('adamax_journal_bytes{part="data"}'), 300_000 * 8);
  const now = await figures();
  for (const part of ['database', 'tail'])
    assert.ok((now.get(`adamax_journal_bytes{part="${part}"}`) as number) > 0, `the ${part} is a file`);
  assert.equal(now.get('adamax_session_durable_iterations{session="durable"}'), 2);
});

test('checkpoints: how old, how far behind, how long they took', async () => {
  await create(api, 'saved', { w: { values: [1] } });
  for (let k = 0; k < 3; k++) await push(api, 'saved', gradients);
  assert.equal((await figures()).get('adamax_checkpoint_behind_steps{session="saved"}'), 3);
  const more = await grown(async () => {
    succeeded(await api.call('POST', '/v1/sessions/saved/checkpoints'), 201);
  });
  assert.equal(more('adamax_checkpoint_duration_seconds_count'), 1);
  const now = await figures();
  assert.equal(now.get('adamax_checkpoint_behind_steps{session="saved"}'), 0);
  assert.equal(now.get('adamax_checkpoint_failures_total{session="saved"}'), 0);
});

test('a restart does not make the last checkpoint younger', async (t) => {
  const own = await startApi(t);
  await create(own, 'old', { w: { values: [1] } });
  await sleep(1_100);
  const age = (await figures(await own.restart())).get('adamax_checkpoint_age_seconds{session="old"}') as number;
  assert.ok(age >= 1.1, `it was written more than a second ago, not ${age} s`);
});

test('the server, its disk and its connections', async () => {
  const now = await figures();
  assert.ok((now.get('adamax_connections') as number) >= 1, 'this one at least');
  const [free, size] = [now.get('adamax_disk_free_bytes') as number, now.get('adamax_disk_size_bytes') as number];
  assert.ok(free > 0 && free < size, `${free} of ${size}`);
  assert.deepEqual([now.get('adamax_ready'), now.get('adamax_read_only'), now.get('adamax_damaged_files')], [1, 0, 0]);
  assert.ok(
    [...now.keys()].some((series) => series.startsWith(`adamax_build_info{version="`)),
    'what runs is told',
  );
  assert.ok(now.has('nodejs_eventloop_lag_p99_seconds'), 'the delay of the event loop is told');
});
