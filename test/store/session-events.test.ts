import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventsKeptMax } from '../../src/limits.ts';
import { changeEvent, type SessionEvent, SessionEvents, type Told } from '../../src/store/session-events.ts';

function step(revision: number): SessionEvent {
  const report = { gradientNorm: 1, updateNorm: 1, worker: null, staleness: null };
  return { kind: 'step', revision, iterations: revision, learningRate: 0.1, ...report };
}

function checkpoint(number: number, revision: number): SessionEvent {
  const id = `ckpt-${String(number).padStart(6, '0')}`;
  return { kind: 'checkpoint', revision, info: { id, iterations: revision, bytes: 1, sha256: '', created_at: '' } };
}

function idsOf(told: readonly Told[]): (string | undefined)[] {
  return told.map(({ id, event }) => id ?? (event.kind === 'session' ? event.change : undefined));
}

/** Five steps from revision 10, with a checkpoint that was begun at 12 and finished at 13. */
function example(): SessionEvents {
  const events = new SessionEvents({ revision: 10, iterations: 10 });
  for (const revision of [11, 12, 13]) events.publish(step(revision));
  events.publish(checkpoint(7, 12));
  for (const revision of [14, 15]) events.publish(step(revision));
  return events;
}

const all = ['11', '12', '13', '13+ckpt-000007', '14', '15'];

describe('what comes behind an id', () => {
  test('every event is gone on from, without a gap or a double', () => {
    const events = example();
    assert.deepEqual(idsOf(events.after('10')), all);
    for (const [index, id] of all.entries()) assert.deepEqual(idsOf(events.after(id)), all.slice(index + 1), id);
  });

  test('a checkpoint whose event the log does not have any more is a place between revisions', () => {
    assert.deepEqual(idsOf(example().after('13+ckpt-000006')), all.slice(3));
    assert.deepEqual(idsOf(example().after('12+ckpt-000009')), all.slice(2));
    assert.deepEqual(idsOf(example().after('10+ckpt-000001')), all);
  });

  test('of what is not in the log all is told, after that events are lost', () => {
    for (const id of ['9', '0', '16', '9007199254740991', '9+ckpt-000001', '16+ckpt-000007']) {
      const told = example().after(id);
      assert.deepEqual(idsOf(told), ['events_lost', ...all], id);
      assert.deepEqual(told[0]?.event, { kind: 'session', revision: 10, iterations: 10, change: 'events_lost' });
    }
  });

  test('what a crash has lost is not in the log, and where the session went on is', () => {
    const events = example();
    events.move(1_000_000, undefined);
    events.publish(step(1_000_001));
    assert.deepEqual(idsOf(events.after('15')), ['1000001']);
    assert.deepEqual(idsOf(events.after('1000000')), ['1000001']);
    for (const id of ['16', '999999']) assert.deepEqual(idsOf(events.after(id))[0], 'events_lost', id);
  });

  test('the latest are kept, and the log knows where it begins', () => {
    const events = new SessionEvents({ revision: 0, iterations: 100 });
    events.publish(checkpoint(1, 0));
    for (let revision = 1; revision < eventsKeptMax; revision++) events.publish(step(revision));
    assert.equal(events.after('0').length, eventsKeptMax);
    events.publish(step(eventsKeptMax));
    assert.equal(idsOf(events.after('0'))[0], 'events_lost');
    assert.deepEqual(idsOf(events.after('0+ckpt-000001')).slice(0, 2), ['1', '2']);
    events.publish(step(eventsKeptMax + 1));
    assert.deepEqual(idsOf(events.after('1')).slice(0, 2), ['2', '3']);
    const [lost, first] = events.after('0+ckpt-000001');
    assert.deepEqual(lost?.event, { kind: 'session', revision: 1, iterations: 1, change: 'events_lost' });
    assert.equal(first?.id, '2');
    assert.equal(events.after('0').length, eventsKeptMax + 1);
  });

  test('what cannot be an id is refused', () => {
    const bad = ['', ' 1', '1 ', '-1', '+1', '01', '1.5', '1e3', 'one', '1+', '1+ckpt-1', '1+ckpt-0000007 ', '1,2'];
    for (const id of [...bad, '9007199254740993', '1'.repeat(1000), '1+ckpt-000001+ckpt-000002']) {
      assert.throws(() => example().after(id), /^Problem: Last-Event-ID must be the id of an event, like 1201/, id);
    }
  });
});

describe('listeners', () => {
  test('hear every event once, in order, until they stop', () => {
    const events = example();
    const heard: (string | undefined)[] = [];
    const stop = events.listen((told) => heard.push(told?.id));
    events.publish(step(16));
    events.publish(checkpoint(8, 16));
    const change = changeEvent(
      { kind: 'assign', part: 'w', assignments: new Map() },
      { revision: 17, iterations: 16 },
    ) as SessionEvent;
    events.publish(change);
    events.publish({ kind: 'session', revision: 17, iterations: 16, change: 'deleted' });
    stop();
    events.publish(step(18));
    assert.deepEqual(heard, ['16', '16+ckpt-000008', '17', undefined]);
  });

  test('hear nothing after the end, and that it has come', () => {
    const events = example();
    const heard: unknown[] = [];
    events.listen((told) => heard.push(told));
    events.end();
    events.publish(step(16));
    assert.deepEqual(heard, [undefined]);
    assert.ok(events.isOver);
  });

  test('a wait is over with what it waits for, with its time, or with its signal', async () => {
    const events = example();
    const never = new AbortController();
    let isOver = false;
    const waiting = events.until(() => isOver, 60_000, never.signal);
    events.publish(step(16));
    isOver = true;
    events.wake();
    await waiting;
    await events.until(() => true, 60_000, never.signal);
    await events.until(() => false, 1, never.signal);
    const aborted = events.until(() => false, 60_000, never.signal);
    never.abort();
    await aborted;
    await events.until(() => false, 60_000, never.signal);
  });
});
