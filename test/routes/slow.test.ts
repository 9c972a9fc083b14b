/** Who is slow, and who comes in numbers: cut off at a bound, served just within it, over both versions of HTTP. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { constants } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { after, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { ConnectionBounds } from '../../src/config.ts';
import { connectionTimes } from '../../src/limits.ts';
import { type Api, encodeFile, f32, safetensors, startApi } from '../support/api.ts';
import { create, getDocument, lentBytes } from '../support/calls.ts';
import { closed, Http2Client, replyTo, serverFiles } from '../support/http2-client.ts';
import { head, RawConnection } from '../support/raw-connection.ts';

/** Twelve looks each; 3,000 bytes in the time of a body. */
const quick: ConnectionBounds = {
  ...connectionTimes,
  headerMs: 600,
  bodyMs: 600,
  lingerMs: 600,
  keepAliveMs: 600,
  checkMs: 50,
  max: 1_000,
  bytesPerSecondMin: 5_000,
};
/** A piece of a reply must be taken within a second. */
const eager: ConnectionBounds = { ...quick, bytesPerSecondMin: 1_048_576 };

const api = await startApi({ after }, { connections: quick });
const secure = await startApi({ after }, { connections: quick, tls: serverFiles });
const file = encodeFile({ w: f32(new Array(100_000).fill(1)) });
await create(api, 'slow', { w: { shape: [100_000] } });
const json = { variables: { w: { shape: [100_000] } } };
await (await Http2Client.open({ after }, secure)).call('PUT', '/v1/sessions/slow', { json });
const path = '/v1/sessions/slow/gradients';
const pushHeaders = { 'content-type': safetensors, 'content-length': file.length };
const line = 'GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n';

/** The body in parts, one each 50 ms, the rest at once at the end. */
async function trickle(write: (part: Uint8Array) => void, bytes: number, parts: number): Promise<void> {
  let at = 0;
  for (; at < bytes * parts; at += bytes) {
    write(file.subarray(at, at + bytes));
    await pause(50);
  }
  write(file.subarray(at));
}

function assertTimedOut(reply: { status: number; json: { code: string; applied: unknown } }): void {
  assert.deepEqual([reply.status, reply.json.code, reply.json.applied], [408, 'request_timeout', false]);
}

describe('a header', () => {
  test('that does not end in time is answered 408, and one that sends nothing is cut off', async () => {
    for (const sent of [line.slice(0, 10), '']) {
      const connection = await RawConnection.open(api);
      connection.write(sent);
      assertTimedOut(await connection.next());
      await connection.closed();
    }
  });

  test('that comes slowly, but in time, is good', async () => {
    const connection = await RawConnection.open(api);
    for (const letter of line.match(/.{1,12}/gs) ?? []) {
      connection.write(letter);
      await pause(50);
    }
    assert.equal((await connection.next()).status, 200);
    connection.socket.destroy();
  });

  test('over TLS has as long, and a handshake too', async () => {
    const { port } = secure.app.server.address() as { port: number };
    const socket = connect(port, '127.0.0.1').resume();
    socket.on('error', () => undefined);
    await once(socket, 'close');
  });

  const fields = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, k) => [`x-${k}`, 'y']));

  test('has at most 100 fields', async () => {
    for (const [count, status] of [
      [99, 200],
      [100, 431],
    ] as const) {
      const connection = await RawConnection.open(api);
      connection.write(head('GET', '/healthz', fields(count)));
      const reply = await connection.next();
      assert.equal(reply.status, status);
      if (status === 431) {
        assert.equal(reply.json.code, 'headers_too_large');
        assert.match(reply.json.detail, /at most 100 fields\. Received: 101/);
      }
      connection.socket.destroy();
    }
  });

  test('has at most 16 KiB', async () => {
    const fixed = '/healthz'.length + 'host'.length + 'a'.length + 'x'.length;
    for (const [bytes, status] of [
      [16_384, 200],
      [16_385, 431],
    ] as const) {
      const connection = await RawConnection.open(api);
      connection.write(head('GET', '/healthz', { x: 'y'.repeat(bytes - fixed) }));
      const reply = await connection.next();
      assert.equal(reply.status, status);
      connection.socket.destroy();
    }
  });

  test('has as many fields over HTTP/2, where more end the stream', async (t) => {
    const http2 = await Http2Client.open(t, secure);
    assert.equal((await replyTo(http2.stream('GET', '/healthz', fields(100)))).status, 200);
    await assert.rejects(replyTo(http2.stream('GET', '/healthz', fields(101))), /closed with/);
    assert.equal((await http2.call('GET', '/healthz')).status, 200);
  });
});

describe('a body', () => {
  test('that stalls is answered 408: its memory is given back, nothing applied, the connection ended', async () => {
    const connection = await RawConnection.open(api);
    connection.write(head('POST', path, pushHeaders), file.subarray(0, 100_000));
    while (lentBytes(api) === 0) await pause(2);
    const reply = await connection.next();
    assertTimedOut(reply);
    assert.match(reply.json.detail, /at least 3000 bytes every 0\.6 s/);
    assert.equal(reply.headers.connection, 'close');
    await connection.closed();
    while (lentBytes(api) > 0) await pause(2);
    assert.equal((await getDocument(api, 'slow')).iterations, 0);
  });

  test('that trickles is answered 408, though some of it comes all the time', async () => {
    const connection = await RawConnection.open(api);
    connection.write(head('POST', path, pushHeaders));
    let isOver = false;
    void connection.closed().then(() => {
      isOver = true;
    });
    const trickling = (async () => {
      for (let at = 0; !isOver; at += 50) {
        connection.write(file.subarray(at, at + 50));
        await pause(50);
      }
    })();
    assertTimedOut(await connection.next());
    await trickling;
  });

  test('that comes slowly, but as fast as it must, is taken however long it needs', async () => {
    const connection = await RawConnection.open(api);
    connection.write(head('POST', path, pushHeaders));
    await trickle((part) => connection.write(part), 2_000, 40);
    assert.equal((await connection.next()).status, 200);
    connection.socket.destroy();
  });

  test('over HTTP/2 alike, and the connection goes on', async (t) => {
    const http2 = await Http2Client.open(t, secure);
    const stalled = http2.stream('POST', path, pushHeaders);
    stalled.write(file.subarray(0, 100_000));
    assertTimedOut(await replyTo(stalled));
    await closed(stalled);
    const steady = http2.stream('POST', path, pushHeaders);
    const reply = replyTo(steady);
    await trickle((part) => steady.write(part), 2_000, 40);
    steady.end();
    assert.equal((await reply).status, 200);
    while (lentBytes(secure) > 0) await pause(2);
  });

  test('that nobody wants is read for a while, and then cut off', async () => {
    const connection = await RawConnection.open(api);
    connection.write(head('POST', path, { 'content-type': 'text/plain', 'content-length': 1_000_000 }));
    assert.equal((await connection.next()).status, 415);
    const begun = performance.now();
    let isOver = false;
    void connection.closed().then(() => {
      isOver = true;
    });
    while (!isOver) {
      connection.write('x');
      await pause(50);
    }
    assert.ok(performance.now() - begun > 500, 'not at once');
  });
});

describe('a connection without a request', () => {
  test('is closed after a while', async () => {
    const connection = await RawConnection.open(api);
    connection.write(line);
    assert.equal((await connection.next()).headers.connection, 'keep-alive');
    await pause(200);
    connection.write(line);
    assert.equal((await connection.next()).status, 200);
    await connection.closed();
  });

  test('is closed over HTTP/2 too, pings or not, and not while a request waits', async (t) => {
    const idle = await Http2Client.open(t, secure);
    const busy = await Http2Client.open(t, secure);
    const ping = setInterval(() => idle.session.destroyed || idle.session.ping(() => undefined), 20);
    t.after(() => clearInterval(ping));
    const { etag = '' } = (await busy.call('GET', '/v1/sessions/slow')).headers;
    const waiting = busy.call('GET', '/v1/sessions/slow/variables', {
      headers: {
        'if-none-match': etag,
        prefer: 'wait=2',
      },
    });
    if (!idle.session.closed) await once(idle.session, 'close');
    assert.equal(busy.session.closed, false);
    assert.equal((await waiting).status, 304);
  });
});

describe('a reply', () => {
  const large = 8_000_000;
  const target = '/v1/sessions/large/variables';

  async function startLarge(t: { after(task: () => Promise<void>): void }, isSecure: boolean): Promise<Api> {
    const server = await startApi(t, { connections: eager, tls: isSecure ? serverFiles : undefined });
    await server.app.inject({
      method: 'PUT',
      url: '/v1/sessions/large',
      payload: { variables: { w: { shape: [large] } } },
    });
    return server;
  }

  test('that is not read is cut off, and its memory given back', async (t) => {
    const server = await startLarge(t, false);
    const connection = await RawConnection.open(server);
    connection.socket.pause();
    connection.write(head('GET', target, { accept: safetensors }));
    while (lentBytes(server) === 0) await pause(2);
    while (lentBytes(server) > 0) await pause(10);
    assert.deepEqual([...server.app.replies], []);
    connection.socket.destroy();
  });

  test('that is read slowly, but as fast as it must, comes whole', async (t) => {
    const server = await startLarge(t, false);
    const { port } = server.app.server.address() as { port: number };
    const socket = connect(port, '127.0.0.1');
    socket.write(head('GET', target, { accept: safetensors, connection: 'close' }));
    const begun = performance.now();
    assert.ok((await readSlowly(socket)) > 4 * large, 'all of it must come');
    assert.ok(performance.now() - begun > 2_000, 'it must have taken longer than a piece may');
  });

  test('over HTTP/2 alike, and the connection goes on', async (t) => {
    const server = await startLarge(t, true);
    const client = await Http2Client.open(t, server);
    const stream = client.stream('GET', target, { accept: safetensors });
    await once(stream, 'response');
    while (lentBytes(server) > 0) await pause(10);
    stream.resume();
    assert.equal(await closed(stream), constants.NGHTTP2_CANCEL);
    assert.equal((await client.call('GET', '/healthz')).status, 200);
  });

  /** A megabyte and a rest, until the end; the bytes. */
  async function readSlowly(socket: Socket): Promise<number> {
    let bytes = 0;
    let sinceRest = 0;
    for await (const chunk of socket) {
      bytes += chunk.length;
      sinceRest += chunk.length;
      if (sinceRest < 1_500_000) continue;
      sinceRest = 0;
      await pause(150);
    }
    return bytes;
  }
});

test('as many connections as there can be are served, one more is dropped, and counted', async (t) => {
  const server = await startApi(t, { connections: { ...connectionTimes, max: 3, bytesPerSecondMin: 8_192 } });
  const { connections } = server.app;
  const three: RawConnection[] = [];
  for (let k = 0; k < 3; k++) {
    const connection = await RawConnection.open(server);
    three.push(connection);
    connection.write(line);
    assert.equal((await connection.next()).status, 200);
  }
  assert.deepEqual([connections.open, connections.dropped], [3, 0]);
  await (await RawConnection.open(server)).closed();
  assert.deepEqual([connections.open, connections.dropped], [3, 1]);
  three[0]?.socket.destroy();
  while (connections.open > 2) await pause(2);
  const next = await RawConnection.open(server);
  next.write(line);
  assert.equal((await next.next()).status, 200);
  for (const { socket } of [...three, next]) socket.destroy();
});
