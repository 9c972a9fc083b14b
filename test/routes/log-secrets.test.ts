/** What must not get into the log, however much is logged and whatever goes wrong: payloads, credentials, and query strings. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { build } from '../../src/app.ts';
import { readConfig } from '../../src/config.ts';
import { Store } from '../../src/store/store.ts';
import { encodeFile, f32, safetensors } from '../support/api.ts';
import { temporaryFolder } from '../support/server-process.ts';

const secret = 'hush-5f1c';
const values = [0.123456789, 987654.25];
const authorization = `Bearer ${secret}`;

interface Logged {
  readonly lines: string[];
  readonly port: number;
  /** Its status. */
  send(method: string, path: string, headers?: Record<string, string>, body?: string | Buffer): Promise<number>;
}

/** A server that logs all that there is to log. */
async function start(t: TestContext): Promise<Logged> {
  const lines: string[] = [];
  const log = pino({ level: 'trace' }, { write: (line) => lines.push(line) });
  const config = readConfig({ DATA_DIR: await temporaryFolder(t), LOG_LEVEL: 'trace' });
  const store = await Store.open(config, log);
  await store.recover();
  const app = await build(config, store, log);
  t.after(async () => {
    await app.close();
    await store.close();
  });
  const port = Number(new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port);
  const send: Logged['send'] = async (method, path, headers = {}, body = '') => {
    const call = request({ host: '127.0.0.1', port, method, path, headers, agent: false });
    call.end(body);
    const [response] = await once(call, 'response');
    response.resume();
    await once(response, 'end');
    return response.statusCode;
  };
  return { lines, port, send };
}

function assertClean({ lines }: Logged): void {
  const text = lines.join('');
  for (const hidden of [
    secret,
    'Bearer',
    '0.1234567',
    '987654',
    Buffer.from(new Float32Array(values).buffer).toString('base64'),
  ])
    assert.ok(!text.includes(hidden), `${hidden} is in the log: ${lines.find((line) => line.includes(hidden))}`);
}

const json = { 'content-type': 'application/json' };
const file = { 'content-type': safetensors };

test('good and bad requests leave neither tensors nor credentials nor query strings behind', async (t) => {
  const server = await start(t);
  const creation = JSON.stringify({ variables: { w: { values } }, metadata: { note: secret } });
  const gradients = JSON.stringify({ gradients: { w: { values } } });
  const bytes = encodeFile({ w: f32(values) }, { note: secret });
  const path = '/v1/sessions/a';
  const sent: [method: string, path: string, headers?: Record<string, string>, body?: string | Buffer][] = [
    ['PUT', path, json, creation],
    ['POST', `${path}/gradients`, json, gradients],
    ['POST', `${path}/gradients?token=${secret}`, json, gradients],
    ['POST', `${path}/gradients?access_token=${secret}`, file, bytes],
    ['POST', `${path}/gradients`, { ...file, cookie: secret }, bytes],
    ['POST', `${path}/gradients`, file, bytes.subarray(0, bytes.length - 3)],
    ['POST', `${path}/gradients`, json, gradients.slice(0, -2)],
    ['POST', `${path}/gradients`, json, JSON.stringify({ gradients: { w: { values: [...values, 1] } } })],
    ['POST', `${path}/gradients`, json, JSON.stringify({ gradients: { w: { values: [values[0], secret] } } })],
    ['POST', `${path}/gradients`, { ...json, 'content-encoding': 'gzip' }, gradients],
    ['POST', `${path}/gradients`, { 'content-type': 'text/plain' }, gradients],
    ['PATCH', path, { 'content-type': 'application/merge-patch+json' }, JSON.stringify({ metadata: { secret } })],
    ['GET', `${path}/variables?since=${secret}`],
    ['GET', `/nowhere?key=${secret}`],
    ['GET', `/v1/sessions/%ZZ?key=${secret}`],
    ['TRACE', `${path}?key=${secret}`],
    ['GET', `/v1/info?section=${secret}`],
    ['DELETE', `${path}?key=${secret}`],
  ];
  const statuses: number[] = [];
  for (const [method, at, headers, body] of sent) {
    statuses.push(await server.send(method, at, headers, body));
    await server.send(method, at, { ...headers, authorization }, body);
  }
  assert.deepEqual(statuses.slice(0, 5), [201, 200, 400, 400, 200], 'the good ones were taken');
  assert.ok(server.lines.length >= sent.length, `all is logged: ${server.lines.length} lines`);
  assertClean(server);
});

test('clients that break off, and what is not HTTP, leave nothing behind either', async (t) => {
  const server = await start(t);
  const creation = JSON.stringify({ variables: { w: { shape: [2_000_000] } } });
  assert.equal(await server.send('PUT', '/v1/sessions/a', json, creation), 201);
  const head = `Host: a\r\nX-Secret: ${secret}\r\n`;
  const broken = [
    `POST /v1/sessions/a/gradients?key=${secret} HTTP/1.1\r\n${head}Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"gradients":{"w":{"values":[${values}`,
    `GET /v1/sessions/a/checkpoints/latest?key=${secret} HTTP/1.1\r\n${head}\r\n`,
    `GET /v1/sessions/a/checkpoints/latest HTTP/1.1\r\n${head}\r\n`,
    `${secret} is no HTTP\r\n\r\n`,
    `GET / HTTP/1.1\r\n${head}${secret}\r\n\r\n`,
  ];
  for (const text of broken) {
    const socket = connect(server.port, '127.0.0.1').on('error', () => undefined);
    socket.write(text);
    if (text.includes('HTTP/1.1') && !text.startsWith('POST')) await once(socket, 'data');
    socket.destroy();
    await once(socket, 'close');
  }
  // A request of its own, behind whatever those before have left to be logged.
  await server.send('GET', '/healthz');
  while (!server.lines.some((line) => line.includes('checkpoints/latest"'))) await new Promise(setImmediate);
  assertClean(server);
});
