/** Bytes that are no HTTP, connections that end half way, and a session that is deleted under a push. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { after, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { startApi } from '../support/api.ts';
import { create } from '../support/calls.ts';
import { createHonest, session, snapshot } from './hostile.ts';

const api = await startApi({ after });
await createHonest(api);
const honest = await snapshot(api);
const { port } = api.app.server.address() as AddressInfo;

const path = `${session}/gradients`;
const gradient = '{"gradients":{"d":{"values":[1,2]}}}';

/** What comes back on a connection that these bytes were sent on, until the server ends it. */
async function exchange(...parts: (string | Uint8Array)[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let received = '';
  socket.setEncoding('latin1').on('data', (text) => {
    received += text;
  });
  // A server that has said what it had to say may reset the connection.
  socket.on('error', () => undefined);
  for (const part of parts) socket.write(part);
  await once(socket, 'close');
  return received;
}

describe('what is no HTTP is answered with a problem and the connection is closed', () => {
  const garbage: [string, string | Uint8Array][] = [
    ['words', 'let me in\r\n\r\n'],
    ['a TLS greeting', Buffer.from('16030100a5010000a10303', 'hex')],
    ['zeros', Buffer.alloc(64)],
    ['another protocol', 'GET / SMTP/1.0\r\n\r\n'],
    ['a header without a colon', 'GET /healthz HTTP/1.1\r\nhost a\r\n\r\n'],
    ['a header of 100,000 bytes', `GET /healthz HTTP/1.1\r\nhost: a\r\nx: ${'x'.repeat(100_000)}\r\n\r\n`],
    ['an address of 100,000 bytes', `GET /${'x'.repeat(100_000)} HTTP/1.1\r\nhost: a\r\n\r\n`],
    ['a length that is no number', `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: ten\r\n\r\n`],
    [
      'a length and chunks',
      `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['no host', 'GET /healthz HTTP/1.1\r\n\r\n'],
  ];
  for (const [name, sent] of garbage) {
    test(name, async () => {
      const reply = await exchange(sent);
      const isLarge = /100,000/.test(name);
      assert.match(
        reply,
        isLarge ? /^HTTP\/1\.1 431 Request Header Fields Too Large\r\n/ : /^HTTP\/1\.1 400 Bad Request\r\n/,
      );
      if (name !== 'no host') {
        assert.match(reply, /\r\ncontent-type: application\/problem\+json\r\n/);
        const problem = JSON.parse(reply.slice(reply.indexOf('\r\n\r\n') + 4));
        assert.equal(problem.code, isLarge ? 'headers_too_large' : 'malformed_body');
        assert.match(
          problem.detail,
          /^a (request|header) must (be well-formed HTTP\/1\.1|have at most 16384 bytes)\. Received: ./,
        );
      }
      assert.deepEqual(await snapshot(api), honest);
    });
  }

  test('chunks that are none, within a push', async () => {
    const head = `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`;
    assert.match(await exchange(head, `5\r\n{"gra\r\nxyz\r\n`), /^HTTP\/1\.1 400 |^$/);
    assert.deepEqual(await snapshot(api), honest);
  });
});

describe('dots in an address lead nowhere', () => {
  // Written to the socket, as a client would resolve them itself.
  const addresses = {
    '/v1/sessions/..': 'invalid_parameter',
    '/v1/sessions/.': 'invalid_parameter',
    '/v1/sessions/%2e%2e': 'invalid_parameter',
    '/v1/sessions/..%2f..%2fetc%2fpasswd': 'invalid_parameter',
    '/v1/sessions/../sessions/honest': 'route_not_found',
    '/v1/sessions/honest/checkpoints/..%2f..%2fsession.json': 'checkpoint_not_found',
    '/v1/sessions/honest/checkpoints/..': 'checkpoint_not_found',
    '/docs/static/../../package.json': 'route_not_found',
    '/docs/static/..%2f..%2fpackage.json': 'route_not_found',
  };
  for (const [address, code] of Object.entries(addresses)) {
    test(address, async () => {
      const reply = await exchange(`GET ${address} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`);
      assert.match(reply, /^HTTP\/1\.1 40[034] /);
      assert.equal(JSON.parse(reply.slice(reply.indexOf('\r\n\r\n') + 4)).code, code);
      assert.deepEqual(await snapshot(api), honest);
    });
  }
});

describe('an upload that ends half way changes nothing', () => {
  const heads = {
    'of a length': `content-length: ${gradient.length}\r\n\r\n${gradient.slice(0, -1)}`,
    'in chunks': `transfer-encoding: chunked\r\n\r\n${gradient.length.toString(16)}\r\n${gradient}\r\n`,
    'in chunks, compressed': `content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5\r\n`,
  };
  for (const [name, rest] of Object.entries(heads)) {
    for (const end of ['destroy', 'end', 'resetAndDestroy'] as const) {
      test(`${name}, by ${end}`, async () => {
        const socket = connect(port, '127.0.0.1');
        socket.on('error', () => undefined).resume();
        await once(socket, 'connect');
        socket.write(`POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n${rest}`);
        await setTimeout(20);
        socket[end]();
        await once(socket, 'close');
        await setTimeout(20);
        assert.deepEqual(await snapshot(api), honest);
      });
    }
  }
});

test('pushes to a session that is deleted meanwhile apply whole or find no session', async () => {
  for (let round = 0; round < 5; round++) {
    await create(api, 'short-lived', { w: { values: [1, 2] } });
    const target = '/v1/sessions/short-lived';
    const json = { gradients: { w: { values: [1, 1] } } };
    const before = Array.from({ length: 4 }, () => api.call('POST', `${target}/gradients`, { json }));
    const deletion = api.call('DELETE', target);
    const after = Array.from({ length: 4 }, () => api.call('POST', `${target}/gradients`, { json }));
    assert.equal((await deletion).status, 204);
    for (const { status, json: reply } of await Promise.all([...before, ...after])) {
      if (status === 200) assert.equal(reply.session, 'short-lived');
      else assert.deepEqual([status, reply.code, reply.applied], [404, 'session_not_found', false]);
    }
    assert.deepEqual(await snapshot(api), honest);
  }
});
