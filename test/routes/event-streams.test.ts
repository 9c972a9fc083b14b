/** Many listeners at once, slow ones, silence, and the end: how events are written, without sessions. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Server, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { eventsKeptMax, listenerBufferBytesMax } from '../../src/limits.ts';
import { EventStreams, type EventStreamsOptions } from '../../src/plugins/event-stream.ts';
import { SessionEvents, stepEvent } from '../../src/store/session-events.ts';
import { EventClient, idsOf } from '../support/event-client.ts';

interface Stage {
  readonly server: Server;
  readonly streams: EventStreams;
  readonly events: SessionEvents;
  /** In the order in which they were begun. */
  readonly responses: ServerResponse[];
  /** Publishes so many steps. */
  step(count: number, worker?: string): void;
}

async function startStage(t: TestContext, options: EventStreamsOptions = {}): Promise<Stage> {
  const streams = new EventStreams(options);
  const events = new SessionEvents({ revision: 0, iterations: 0 });
  const responses: ServerResponse[] = [];
  const server = createServer((request, response) => {
    responses.push(response);
    const last = request.headers['last-event-id'] as string | undefined;
    const headers = { 'content-type': 'text/event-stream' };
    streams.open(response, headers, events, last === undefined ? [] : events.after(last));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    streams.close();
    server.closeAllConnections();
    server.close();
  });
  let revision = 0;
  return {
    server,
    streams,
    events,
    responses,
    step(count, worker = 'w') {
      for (let k = 0; k < count; k++) {
        revision++;
        const head = { session: 's', revision, iterations: revision, learningRate: 0.1 };
        events.publish(stepEvent(head, { gradientNorm: 1, updateNorm: 1, worker, staleness: 0 }));
      }
    },
  };
}

function open(stage: Stage, last?: string): Promise<EventClient> {
  return EventClient.open(
    (stage.server.address() as AddressInfo).port,
    '/',
    last === undefined ? {} : { 'last-event-id': last },
  );
}

/** A client that sends its request and reads nothing. */
async function openDeaf(stage: Stage): Promise<Socket> {
  const before = stage.streams.size;
  const socket = connect((stage.server.address() as AddressInfo).port, '127.0.0.1').pause();
  socket.on('error', () => undefined).write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  while (stage.streams.size === before) await setTimeout(1);
  return socket;
}

function ids(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, k) => String(from + k));
}

test('silence is broken by comments, of which no event comes', async (t) => {
  const stage = await startStage(t, { heartbeatMs: 10 });
  const client = await open(stage);
  while (client.text.split(':\n\n').length < 4) await setTimeout(5);
  stage.step(1);
  assert.deepEqual(idsOf(await client.take(1)), ['1']);
  assert.match(client.text, /^retry: 1000\n\n(:\n\n)+id: 1\n/);
});

test('a listener too many is refused, and there is room again when one has gone', async (t) => {
  const stage = await startStage(t, { listenersMax: 2 });
  const [first] = [await open(stage), await open(stage)];
  assert.throws(() => stage.streams.requireRoom(), {
    code: 'overloaded',
    status: 503,
    message: 'at most 2 clients can listen to events. Received: one more',
    headers: { 'retry-after': '5' },
  });
  first.close();
  while (stage.streams.size === 2) await setTimeout(1);
  stage.streams.requireRoom();
});

test('a thousand listeners, some of whom come in between, hear everything once and in order', async (t) => {
  const stage = await startStage(t);
  const clients: { last: number; client: EventClient }[] = [];
  for (let wave = 0; wave < 20; wave++) {
    stage.step(3);
    const last = wave * 5 + 1;
    const opening = Array.from({ length: 50 }, () => open(stage, String(last)));
    stage.step(2);
    for (const client of await Promise.all(opening)) clients.push({ last, client });
  }
  stage.step(50);
  for (const { last, client } of clients) assert.deepEqual(idsOf(await client.take(150 - last)), ids(last + 1, 150));
  assert.equal(stage.streams.size, 1000);
  stage.events.end();
  for (const { last, client } of clients) {
    assert.equal(await client.ended, 'whole');
    assert.equal(client.received.length, 150 - last);
  }
  assert.equal(stage.streams.size, 0);
});

test('who does not read is cut off, and costs the others nothing and the server little', async (t) => {
  let cut = 0;
  const stage = await startStage(t, { onCut: () => cut++ });
  const reader = await open(stage);
  const deaf = await openDeaf(stage);
  const [response] = stage.responses.slice(-1);
  const worker = 'w'.repeat(128);
  let count = 0;
  let mostWaiting = 0;
  while (cut === 0) {
    assert.ok(count < 1_000_000, 'nobody is cut off');
    stage.step(500, worker);
    assert.deepEqual(idsOf(await reader.take(500)), ids(count + 1, count + 500));
    count += 500;
    mostWaiting = Math.max(mostWaiting, response?.writableLength ?? 0);
  }
  stage.step(10, worker);
  assert.deepEqual(idsOf(await reader.take(10)), ids(count + 1, count + 10));
  count += 10;
  while (stage.streams.size > 1) await setTimeout(1);
  assert.equal(cut, 1);
  // Beyond the bound by what goes out at once, which is what happens while the writing rests.
  assert.ok(mostWaiting > listenerBufferBytesMax / 2 && mostWaiting < 2 * listenerBufferBytesMax, `${mostWaiting}`);
  const back = await open(stage, String(count - 3));
  assert.deepEqual(idsOf(await back.take(3)), ids(count - 2, count));
  deaf.destroy();
});

test('who does not read does not hold the end up', async (t) => {
  const stage = await startStage(t);
  const reader = await open(stage);
  const deaf = await openDeaf(stage);
  const begun = performance.now();
  const [response] = stage.responses.slice(-1);
  // Until the kernel takes no more, so that the end cannot come through.
  while (response?.writableLength === 0) {
    stage.step(500, 'w'.repeat(128));
    await reader.take(500);
  }
  stage.step(1);
  stage.events.end();
  assert.equal((await reader.take(1)).length, 1);
  assert.equal(await reader.ended, 'whole');
  while (stage.streams.size > 0) await setTimeout(10);
  assert.ok(performance.now() - begun < 20_000);
  deaf.destroy();
});

test('who comes when there is nothing more to be told is told so', async (t) => {
  const stage = await startStage(t);
  stage.step(3);
  stage.events.end();
  const client = await open(stage, '1');
  assert.deepEqual(idsOf(await client.take(2)), ['2', '3']);
  assert.equal(await client.ended, 'whole');
});

test('who comes when nobody listened finds what happened meanwhile', async (t) => {
  const stage = await startStage(t);
  const client = await open(stage);
  stage.step(1);
  await client.take(1);
  client.close();
  while (stage.streams.size > 0) await setTimeout(1);
  stage.step(10);
  const again = await open(stage, '0');
  assert.deepEqual(idsOf(await again.take(11)), ids(1, 11));
});

test('where more happens than can be written, it is told that events are lost, and what is kept goes on', async (t) => {
  const stage = await startStage(t);
  const client = await open(stage);
  const worker = 'w'.repeat(128);
  stage.step(10, worker);
  await client.take(10);
  // In one turn of the thread, so that nothing is written in between.
  stage.step(5000, worker);
  const kept = Math.min(eventsKeptMax, 5010);
  const [lost, ...events] = await client.take(1 + kept);
  assert.equal(lost?.data.change, 'events_lost');
  const more = 5010 - Number(events.at(-1)?.id);
  const ids = idsOf([...events, ...(await client.take(more))]).map(Number);
  for (const [index, id] of ids.entries()) assert.equal(id, (ids[0] as number) + index);
  assert.equal(lost?.data.revision, (ids[0] as number) - 1);
  assert.equal(ids.at(-1), 5010);
});
