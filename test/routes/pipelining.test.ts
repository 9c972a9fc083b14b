/** Requests sent one behind the other on one connection, without waiting for replies. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { encodeFile, f32, safetensors, startApi } from '../support/api.ts';
import { create, getDocument } from '../support/calls.ts';
import { head, jsonRequest, RawConnection } from '../support/raw-connection.ts';

const api = await startApi({ after });
const unhandled: unknown[] = [];
process.on('unhandledRejection', (reason) => unhandled.push(reason));

function pathOf(name: string): string {
  return `/v1/sessions/${name}/gradients`;
}

function pushOf(name: string): string {
  return jsonRequest('POST', pathOf(name), { gradients: { w: { values: [1, 1] } } });
}

async function createPair(name: string): Promise<void> {
  await create(api, name, { w: { values: [1, 2] } });
  await create(api, `${name}-apart`, { w: { values: [1, 2] } });
}

/** The values after so many steps, by another session that takes them one by one. */
async function valuesBySteps(name: string, steps: number): Promise<number[][]> {
  const values = [[1, 2]];
  for (let k = 0; k < steps; k++) {
    const json = { gradients: { w: { values: [1, 1] } } };
    values.push((await api.call('POST', pathOf(`${name}-apart`), { json })).json.variables.w.values);
  }
  return values;
}

describe('pipelined requests', () => {
  test('are answered in order: pushes, reads and what is refused', async () => {
    await createPair('order');
    const expected = await valuesBySteps('order', 30);
    const read = head('GET', '/v1/sessions/order/variables');
    const connection = await RawConnection.open(api);
    const parts: string[] = [];
    for (let k = 0; k < 30; k++) parts.push(pushOf('order'), read, head('GET', '/healthz'), pushOf('nobody'));
    connection.write(...parts);
    for (let k = 1; k <= 30; k++) {
      const pushed = await connection.next();
      assert.deepEqual([pushed.status, pushed.json.iterations], [200, k]);
      assert.deepEqual(pushed.json.variables.w.values, expected[k]);
      const seen = await connection.next();
      assert.equal(seen.status, 200);
      // Whichever steps it has come behind, all of it is of one moment.
      assert.equal(seen.headers.etag, `"${seen.json.revision}"`);
      assert.deepEqual(seen.json.variables.w.values, expected[seen.json.revision]);
      assert.deepEqual((await connection.next()).json, { status: 'alive' });
      assert.equal((await connection.next()).json.code, 'session_not_found');
    }
    assert.ok(connection.isQuiet);
    connection.socket.destroy();
  });

  test('in another format, cut anywhere, are the same', async () => {
    await createPair('cut');
    const expected = await valuesBySteps('cut', 20);
    const file = encodeFile({ w: f32([1, 1]) });
    const headers = { 'content-type': safetensors, accept: 'application/json', 'content-length': file.length };
    const one = Buffer.concat([Buffer.from(head('POST', pathOf('cut'), headers)), file]);
    const all = Buffer.concat(Array.from({ length: 20 }, () => one));
    const connection = await RawConnection.open(api);
    const sending = (async () => {
      for (let at = 0; at < all.length; at += 61) {
        connection.write(all.subarray(at, at + 61));
        if (at % 5 === 0) await setTimeout(1);
      }
    })();
    for (let k = 1; k <= 20; k++) assert.deepEqual((await connection.next()).json.variables.w.values, expected[k]);
    await sending;
    connection.socket.destroy();
  });

  test('that ask before they send their body are told to in their turn', async () => {
    await create(api, 'asking', { w: { values: [1, 2] } });
    const body = JSON.stringify({ gradients: { w: { values: [1, 1] } } });
    const headers = { 'content-type': 'application/json', 'content-length': body.length, expect: '100-continue' };
    const connection = await RawConnection.open(api);
    connection.write(pushOf('asking'), head('POST', pathOf('asking'), headers));
    const statuses = [(await connection.next()).status, (await connection.next()).status];
    assert.deepEqual(statuses, [200, 100]);
    connection.write(body);
    assert.equal((await connection.next()).json.iterations, 2);
    connection.socket.destroy();
  });

  test('behind one that ends the connection are not answered', async () => {
    await create(api, 'closing', { w: { values: [1, 2] } });
    const connection = await RawConnection.open(api);
    connection.write(head('GET', '/healthz', { connection: 'close' }), pushOf('closing'));
    assert.equal((await connection.next()).status, 200);
    await connection.closed();
    assert.ok(connection.isQuiet);
    assert.ok((await getDocument(api, 'closing')).iterations <= 1);
  });
});

describe('what is no HTTP, behind requests that are', () => {
  test('is refused when they have been answered', async () => {
    await create(api, 'garbage', { w: { values: [1, 2] } });
    const connection = await RawConnection.open(api);
    connection.write(pushOf('garbage'), pushOf('garbage'), 'let me in\r\n\r\n');
    for (const step of [1, 2]) assert.equal((await connection.next()).json.iterations, step);
    const refusal = await connection.next();
    assert.deepEqual([refusal.status, refusal.json.code], [400, 'malformed_body']);
    await connection.closed();
  });

  test('ends a stream of events', async () => {
    await create(api, 'garbled', { w: { values: [1, 2] } });
    const connection = await RawConnection.open(api);
    connection.write(head('GET', '/v1/sessions/garbled/events'));
    assert.equal((await connection.next()).status, 200);
    connection.write('let me in\r\n\r\n');
    await connection.closed();
    while (api.app.eventStreams.size > 0) await setTimeout(5);
  });
});

describe('a client that hangs up in the middle', () => {
  for (const end of ['destroy', 'resetAndDestroy', 'end'] as const) {
    test(`leaves the server well, by ${end}`, async () => {
      const name = `gone-${end}`;
      await createPair(name);
      const expected = await valuesBySteps(name, 200);
      for (let round = 0; round < 8; round++) {
        const connection = await RawConnection.open(api);
        const half = pushOf(name).slice(0, 20 * (round + 1));
        const listen = round % 2 === 0 ? head('GET', `/v1/sessions/${name}/events`) : '';
        connection.write(...Array.from({ length: 20 }, () => pushOf(name)), listen, half);
        if (round > 1) await connection.next();
        connection.socket[end]();
        await connection.closed().catch(() => undefined);
      }
      await setTimeout(50);
      const { json } = await api.call('GET', `/v1/sessions/${name}/variables`);
      assert.deepEqual(json.variables.w.values, expected[json.iterations]);
      const connection = await RawConnection.open(api);
      connection.write(pushOf(name), pushOf(name));
      for (const step of [1, 2]) assert.equal((await connection.next()).json.iterations, json.iterations + step);
      connection.socket.destroy();
      while (api.app.eventStreams.size > 0) await setTimeout(5);
      assert.deepEqual(unhandled, []);
    });
  }
});

test('what a client has left behind does not hold up the end of the server', async (t) => {
  const server = await startApi(t);
  await create(server, 'left', { w: { values: [1, 2] } });
  const connection = await RawConnection.open(server);
  const wait = head('GET', '/v1/sessions/left/variables', { 'if-none-match': '"0"', prefer: 'wait=50' });
  connection.write(wait, wait, head('GET', '/v1/sessions/left/events'), pushOf('nobody'));
  while (server.app.eventStreams.size === 0) await setTimeout(1);
  connection.socket.destroy();
  while (server.app.eventStreams.size > 0) await setTimeout(1);
  const begun = performance.now();
  await server.app.close();
  assert.ok(performance.now() - begun < 2_000);
});
