/**
 * Tokens at work: they are looked at before anything else of a request, guessing and hurrying are slowed down, quotas hold, a
 * file that changes is seen, and who did what is in the log.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rename, writeFile } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { build } from '../../src/app.ts';
import { readConfig } from '../../src/config.ts';
import { guessesBurst } from '../../src/limits.ts';
import { Store } from '../../src/store/store.ts';
import { type Api, type Json, safetensors, startApi } from '../support/api.ts';
import { Http2Client, serverFiles } from '../support/http2-client.ts';
import { RawConnection } from '../support/raw-connection.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { by, tokenFile, tokenFileText } from '../support/tokens.ts';

const variables = { w: { values: [1, 2] } };
const everything = { roles: ['admin'], sessions: ['*'] };
const gradients = { gradients: { w: { values: [1, 1] } } };

function create(api: Api, name: string, token: string, json: object = { variables }) {
  return api.call('PUT', `/v1/sessions/${name}`, { json, headers: by(token) });
}

function head(method: string, path: string, headers: Record<string, string | number>): string {
  const lines = Object.entries({ host: 'localhost', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

test('a token is looked at before the body is', async (t) => {
  const api = await startApi(t, {
    authFile: await tokenFile(t, { reader: { roles: ['read'], sessions: ['a'] }, owner: everything }),
  });
  await create(api, 'a', 'owner');
  const path = '/v1/sessions/a/gradients';
  for (const [headers, status] of [
    [{}, 401],
    [by('unknown'), 401],
    [by('reader'), 403],
  ] as const) {
    // One that would be asked for is not; one of another type, or too large, is not what is wrong.
    for (const more of [
      { expect: '100-continue', 'content-type': safetensors, 'content-length': 5_000_000 },
      { expect: '100-continue', 'content-type': 'text/plain', 'content-length': 5_000_000 },
      { expect: '100-continue', 'content-type': safetensors, 'content-length': 5_000_000_000 },
    ]) {
      const connection = await RawConnection.open(api);
      connection.write(head('POST', path, { ...more, ...headers }));
      assert.equal((await connection.next()).status, status);
      connection.socket.destroy();
    }
    assert.equal((await api.call('POST', path, { json: '{"broken', headers })).status, status);
  }
  assert.equal((await api.call('POST', path, { json: '{"broken', headers: by('owner') })).status, 400);
});

test('Authorization must be Bearer and one token, however the scheme is written', async (t) => {
  const api = await startApi(t, { authFile: await tokenFile(t, { owner: everything }) });
  const status = async (authorization: string) => {
    const { status, headers, json } = await api.call('GET', '/v1/sessions', { headers: { authorization } });
    if (status === 401) {
      assert.equal(headers['www-authenticate'], 'Bearer realm="adamax-server"');
      assert.ok(!JSON.stringify(json).includes('secret'), 'the answer must not repeat what came');
    }
    return status;
  };
  const secret = by('owner').authorization.slice('Bearer '.length);
  for (const good of [`Bearer ${secret}`, `bearer ${secret}`, `BEARER   ${secret}`])
    assert.equal(await status(good), 200, good);
  for (const bad of [
    secret,
    `Basic ${secret}`,
    'Bearer',
    `Bearer ${secret} x`,
    `Bearer ${secret}x`,
    `Bearer ${secret.slice(1)}`,
  ])
    assert.equal(await status(bad), 401, bad);
});

test('an address that guesses is not listened to for a while, but who is known on a connection is', async (t) => {
  const api = await startApi(t, { authFile: await tokenFile(t, { owner: everything }) });
  const known = await RawConnection.open(api);
  const ask = async (connection: RawConnection, name: string) => {
    connection.write(head('GET', '/v1/sessions', by(name)));
    return connection.next();
  };
  assert.equal((await ask(known, 'owner')).status, 200);
  const guessing = await RawConnection.open(api);
  // In one piece, so that no second passes in between.
  const names = [...Array.from({ length: guessesBurst + 1 }, (_, k) => `guess-${k}`), 'owner'];
  guessing.write(...names.map((name) => head('GET', '/v1/sessions', by(name))));
  for (let k = 0; k < guessesBurst; k++) assert.equal((await guessing.next()).status, 401);
  for (const refused of [await guessing.next(), await guessing.next()]) {
    assert.equal(refused.status, 429);
    assert.equal(refused.json.code, 'rate_limited');
    assert.equal(refused.headers['retry-after'], '1');
  }
  assert.equal((await ask(known, 'owner')).status, 200);
  await delay(1100);
  assert.equal((await ask(guessing, 'owner')).status, 200);
  for (const { socket } of [known, guessing]) socket.destroy();
});

test('a token sends as many requests a second as it may, and its bearer is told when to come back', async (t) => {
  const authFile = await tokenFile(t, { hurried: { ...everything, requests_per_second: 0.01 }, other: everything });
  const api = await startApi(t, { authFile });
  const ask = (name: string) => api.call('GET', '/v1/sessions', { headers: by(name) });
  assert.equal((await ask('hurried')).status, 200);
  const refused = await ask('hurried');
  assert.equal(refused.json.code, 'rate_limited');
  const seconds = Number(refused.headers['retry-after']);
  assert.ok(seconds > 50 && seconds <= 100, `another one is due in less than 100 s: ${seconds}`);
  assert.match(refused.json.detail, /^token "hurried" must not send more requests a second than AUTH_FILE says/);
  assert.equal((await ask('other')).status, 200);
});

test('quotas: so many sessions, and so many bytes, among those that a token reaches', async (t) => {
  const authFile = await tokenFile(t, {
    few: { roles: ['admin'], sessions: ['few-*'], sessions_max: 2 },
    // A variable of 2 float32 and its slots: 24 bytes.
    small: { roles: ['admin'], sessions: ['small-*'], bytes_max: 48 },
    owner: everything,
  });
  const api = await startApi(t, { authFile });
  for (const name of ['others', 'few-1', 'small-1']) assert.equal((await create(api, name, 'owner')).status, 201);
  // At once, so that those in the making must be counted.
  const made = await Promise.all(['few-2', 'few-3', 'few-4'].map((name) => create(api, name, 'few')));
  assert.deepEqual(made.map(({ status }) => status).sort(), [201, 429, 429]);
  const refused = made.find(({ status }) => status === 429) as (typeof made)[0];
  assert.equal(refused.json.code, 'session_quota_exceeded');
  assert.equal(refused.json.detail, 'token "few" must have at most 2 sessions. Received: one more beside 2');
  assert.ok(refused.headers['retry-after'], 'a 429 says when to come back');
  const fork = (from: string, into: string, token: string) =>
    api.call('POST', `/v1/sessions/${from}/fork`, { json: { name: into }, headers: by(token) });
  assert.equal((await fork('few-1', 'few-5', 'few')).json.code, 'session_quota_exceeded');
  await api.call('DELETE', '/v1/sessions/few-1', { headers: by('few') });
  assert.equal((await create(api, 'few-5', 'few')).status, 201);

  const larger = { variables: { w: { values: [1, 2, 3] } } };
  const { json } = await create(api, 'small-2', 'small', larger);
  assert.equal(json.code, 'session_quota_exceeded');
  const rule = 'the sessions of token "small" must have at most 48 bytes of variables and slots';
  assert.equal(json.detail, `${rule}. Received: 36 bytes more beside 24`);
  assert.equal((await create(api, 'small-2', 'small')).status, 201);
  assert.equal((await fork('small-2', 'small-3', 'small')).json.code, 'session_quota_exceeded');
  assert.equal((await fork('small-2', 'elsewhere', 'owner')).status, 201);
});

/** Asks again until the answer has this status. */
async function until(api: Api, name: string, status: number): Promise<void> {
  while ((await api.call('GET', '/v1/sessions', { headers: by(name) })).status !== status) await delay(50);
}

test('a file that changes is read again; one with a fault changes nothing, and is logged once', {
  timeout: 20_000,
}, async (t) => {
  const lines: Json[] = [];
  const log = pino({ level: 'warn' }, { write: (line) => void lines.push(JSON.parse(line)) });
  const authFile = await tokenFile(t, { first: everything });
  const api = await startApi(t, { authFile }, undefined, log);
  const known = await RawConnection.open(api);
  const askKnown = async () => {
    known.write(head('GET', '/v1/sessions', by('first')));
    return (await known.next()).status;
  };
  assert.equal(await askKnown(), 200);
  await writeFile(authFile, '{"tokens": [{"name": "secret');
  while (lines.length === 0) await delay(50);
  await delay(1200);
  await until(api, 'first', 200);
  assert.deepEqual(
    lines.map(({ msg }) => msg),
    ['AUTH_FILE has a fault; the tokens stay as they were'],
  );
  assert.ok(!JSON.stringify(lines).includes('secret'), 'the text is not repeated');
  const next = join(await temporaryFolder(t), 'next.json');
  await writeFile(next, tokenFileText({ second: everything }));
  await rename(next, authFile);
  await until(api, 'second', 200);
  await until(api, 'first', 401);
  assert.equal(await askKnown(), 401, 'a connection that was known is not any more');
  known.socket.destroy();
  const reload = lines.find(({ audit }) => audit);
  assert.equal(reload?.action, 'reloadTokens');
  assert.equal(reload?.tokens, 1);
});

test('who follows events with a token that is taken back is cut off', { timeout: 20_000 }, async (t) => {
  const [kept, taken] = [
    { roles: ['read'], sessions: ['*'] },
    { roles: ['read'], sessions: ['*'] },
  ];
  const authFile = await tokenFile(t, { kept, taken, owner: everything });
  const api = await startApi(t, { authFile });
  await create(api, 'a', 'owner');
  const { port } = api.app.server.address() as AddressInfo;
  const closed = (stream: IncomingMessage) => new Promise<void>((resolve) => stream.once('close', resolve));
  const follow = async (name: string): Promise<IncomingMessage> => {
    const request = get({ port, host: '127.0.0.1', path: '/v1/sessions/a/events', headers: by(name), agent: false });
    const [response] = await once(request, 'response');
    response.on('error', () => undefined).resume();
    return response;
  };
  const [stays, goes] = [await follow('kept'), await follow('taken')];
  const gone = closed(goes);
  await writeFile(authFile, tokenFileText({ kept, owner: everything }));
  await gone;
  assert.ok(!stays.closed, 'the other goes on');
  await writeFile(authFile, tokenFileText({ kept: { ...kept, sessions: ['b'] }, owner: everything }));
  await closed(stays);
});

test('over HTTP/2 too, and what else there is on the connection goes on', { timeout: 20_000 }, async (t) => {
  const authFile = await tokenFile(t, { taken: { roles: ['read'], sessions: ['*'] }, owner: everything });
  const api = await startApi(t, { authFile, tls: serverFiles });
  const client = await Http2Client.open({ after: (task) => t.after(async () => task()) }, api);
  const headers = by('owner');
  assert.equal((await client.call('PUT', '/v1/sessions/a', { json: { variables }, headers })).status, 201);
  const stream = client.stream('GET', '/v1/sessions/a/events', by('taken'));
  await once(stream, 'response');
  const closed = new Promise<void>((resolve) => stream.resume().once('close', resolve));
  await writeFile(authFile, tokenFileText({ owner: everything }));
  await closed;
  assert.equal((await client.call('GET', '/v1/sessions', { headers })).status, 200);
});

test('what takes the role admin is in the audit log, carried out or refused, whatever LOG_LEVEL says', async (t) => {
  const lines: Json[] = [];
  const log = pino({ level: 'fatal' }, { write: (line) => void lines.push(JSON.parse(line)) });
  const authFile = await tokenFile(t, { reader: { roles: ['read'], sessions: ['*'] }, owner: everything });
  const api = await startApi(t, { authFile }, undefined, log);
  await create(api, 'a', 'owner');
  const ask = (method: string, path: string, name: string, json?: object) =>
    api.call(method, `/v1/sessions/a${path}`, json === undefined ? { headers: by(name) } : { json, headers: by(name) });
  await ask('GET', '', 'reader');
  await ask('POST', '/gradients', 'owner', gradients);
  await ask('PATCH', '', 'owner', { metadata: { owner: 'secret' } });
  await ask('POST', '/checkpoints', 'owner');
  await ask('POST', '/checkpoints/latest/restore', 'owner');
  await ask('POST', '/fork', 'owner', { name: 'b' });
  await ask('DELETE', '', 'reader');
  await ask('DELETE', '', 'stranger');
  await ask('DELETE', '', 'owner');
  await ask('DELETE', '', 'owner');
  const told = lines.map(({ action, by: whom, session, id, into, members, status, code }) => {
    return [action, whom, session, status, id ?? into ?? members ?? code].filter((each) => each !== undefined);
  });
  assert.deepEqual(told, [
    ['createSession', 'owner', 'a', 201],
    ['patchSession', 'owner', 'a', 200, ['metadata']],
    ['writeCheckpoint', 'owner', 'a', 201],
    ['restoreCheckpoint', 'owner', 'a', 200, 'latest'],
    ['forkSession', 'owner', 'a', 201, 'b'],
    ['deleteSession', 'reader', 'a', 403, 'forbidden'],
    ['deleteSession', null, 'a', 401, 'unauthenticated'],
    ['deleteSession', 'owner', 'a', 204],
    ['deleteSession', 'owner', 'a', 404, 'session_not_found'],
  ]);
  for (const line of lines) {
    assert.equal(line.audit, true);
    assert.equal(line.address, '127.0.0.1');
    assert.ok(line.time > 0 && line.reqId !== undefined, 'when, and in which request');
  }
  assert.ok(!JSON.stringify(lines).includes('secret'), 'neither tokens nor payloads');
});

test('a browser asks without a token whether it may ask, and reads from a refusal that it needs one', async (t) => {
  const origin = 'https://board.example';
  const authFile = await tokenFile(t, { owner: everything });
  const { app } = await startApi(t, { authFile, corsOrigins: [origin] });
  const url = '/v1/sessions';
  const asking = { origin, 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' };
  assert.equal((await app.inject({ method: 'OPTIONS', url, headers: asking })).statusCode, 204);
  const refused = await app.inject({ url, headers: { origin } });
  assert.equal(refused.statusCode, 401);
  assert.equal(refused.headers['access-control-allow-origin'], origin);
  assert.equal((await app.inject({ url, headers: { origin, ...by('owner') } })).statusCode, 200);
});

test('a file of tokens that cannot be used keeps the server from starting, and is named', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'tokens.json');
  const config = { ...readConfig({ DATA_DIR: folder }), authFile: path };
  const log = pino({ level: 'silent' });
  const store = await Store.open(config, log);
  t.after(() => store.close());
  const rule = 'AUTH_FILE must be a file of tokens, {"tokens": [...]}. Received: ';
  await assert.rejects(build(config, store, log), ({ message }: Error) => message.startsWith(`${rule}${path} (ENOENT`));
  await writeFile(path, '{}');
  await assert.rejects(build(config, store, log), ({ message }: Error) =>
    message.startsWith(`${rule}${path} (the body must have`),
  );
});
