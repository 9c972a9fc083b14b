/** Around the API: health, figures, the document and its page, addresses and methods that are none, and what is not built. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { pino } from 'pino';
import { parse } from 'yaml';
import { build } from '../../src/app.ts';
import { readConfig } from '../../src/config.ts';
import { catalogue } from '../../src/errors.ts';
import { Store } from '../../src/store/store.ts';
import { encodeFile, f32, startApi, unrecovered } from '../support/api.ts';
import { create, push, refused, succeeded } from '../support/calls.ts';

const api = await startApi({ after });

test('/healthz and /readyz say that all is well', async () => {
  await create(api, 'ready');
  assert.deepEqual(succeeded(await api.call('GET', '/healthz')).json, { status: 'alive' });
  const ready = succeeded(await api.call('GET', '/readyz')).json;
  assert.deepEqual([ready.status, ready.damaged], ['ready', []]);
  assert.equal(ready.sessions, succeeded(await api.call('GET', '/v1/sessions')).json.sessions.length);
});

test('until the sessions are back the server is alive, not ready, and refuses with 503', async (t) => {
  const { app, store } = await unrecovered(t, api);
  assert.equal((await app.inject('/healthz')).statusCode, 200);
  for (const url of ['/readyz', '/v1/sessions/a']) {
    const { statusCode, headers, json } = await app.inject(url);
    assert.deepEqual([statusCode, json().code, headers['retry-after']], [503, 'recovering', '1'], url);
  }
  await store.recover();
  assert.equal((await app.inject('/readyz')).statusCode, 200);
  assert.equal((await app.inject('/v1/sessions/a')).json().code, 'session_not_found');
});

test('/metrics counts requests, problems, steps, rows, bytes and checkpoints', async () => {
  await create(api, 'counted', { w: { values: [1, 2] }, e: { shape: [4, 2] } });
  await push(api, 'counted', { w: { values: [1, 1] }, e: { indices: [1, 1, 3], values: [1, 2, 3, 4, 5, 6] } });
  const file = { bytes: encodeFile({ w: f32([1, 1]) }) };
  succeeded(await api.call('POST', '/v1/sessions/counted/gradients', file));
  refused(
    await api.call('POST', '/v1/sessions/counted/gradients', { json: { gradients: { x: { values: [1] } } } }),
    'unknown_variable',
  );
  const before = await metrics();
  succeeded(await api.call('POST', '/v1/sessions/counted/checkpoints'), 201);
  const now = await metrics();

  const pushes = 'route="/v1/sessions/:session/gradients",method="POST"';
  assert.equal(now.get(`adamax_http_request_duration_seconds_count{${pushes},status="200"}`), 2);
  assert.equal(now.get(`adamax_http_request_duration_seconds_count{${pushes},status="422"}`), 1);
  assert.equal(now.get(`adamax_http_request_duration_seconds_bucket{${pushes},status="200",le="+Inf"}`), 2);
  assert.equal(now.get('adamax_problems_total{code="unknown_variable"}'), 1);
  assert.equal(now.get('adamax_steps_total{session="counted"}'), 2);
  assert.equal(now.get('adamax_rows_total{session="counted"}'), 3);
  // JSON's values are float64: 8 of them; the file's 2 are float32.
  assert.equal(now.get('adamax_gradient_bytes_total{session="counted"}'), 8 * 8 + 2 * 4);
  assert.equal(now.get('adamax_session_iterations{session="counted"}'), 2);
  assert.ok((now.get('adamax_checkpoint_age_seconds{session="counted"}') as number) < 60);
  const checkpoints = 'adamax_checkpoint_duration_seconds_count';
  assert.equal((now.get(checkpoints) as number) - (before.get(checkpoints) ?? 0), 1);
  assert.equal(now.get('adamax_sessions'), api.store.list().length);
  assert.ok(now.has('process_resident_memory_bytes'));
  succeeded(await api.call('DELETE', '/v1/sessions/counted'), 204);
  const left = [...(await metrics()).keys()].filter((series) => series.includes('session="counted"'));
  assert.deepEqual(left, [], 'nothing is said of a session that is gone');
});

async function metrics(): Promise<Map<string, number>> {
  const { bytes, headers } = succeeded(await api.call('GET', '/metrics'));
  assert.match(headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/);
  const lines = bytes.toString().split('\n');
  const samples = lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.split(/ (?=[^ ]+$)/));
  return new Map(samples.map(([name, value]) => [name as string, Number(value)]));
}

describe('the document', () => {
  test('is the same in JSON and in YAML', async () => {
    const document = succeeded(await api.call('GET', '/openapi.json')).json;
    assert.equal(document.openapi, '3.1.0');
    const { bytes } = succeeded(await api.call('GET', '/openapi.yaml'));
    assert.deepEqual(parse(bytes.toString()), document);
  });

  test('is shown at /docs, all of whose assets are local', async () => {
    const page = await api.app.inject('/docs/');
    assert.equal(page.statusCode, 200);
    const assets = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, address]) => address as string);
    assert.ok(assets.length >= 5);
    for (const asset of [...assets, './json']) {
      const url = new URL(asset, 'http://local/docs/');
      assert.equal(url.host, 'local', `${asset} must be local`);
      const { statusCode, body } = await api.app.inject(url.pathname);
      assert.equal(statusCode, 200, asset);
      if (!asset.endsWith('.css')) continue;
      for (const [, target] of body.matchAll(/(?:url\(|@import )["']?([^"')]+)/g))
        assert.match(target as string, /^data:/);
    }
    // Swagger UI shows a badge from a public validator, unless it is told not to.
    const initializer = await api.app.inject('/docs/static/swagger-initializer.js');
    assert.match(initializer.body, /validatorUrl: null/);
    assert.doesNotMatch(initializer.body, /https?:\/\/(?!stackoverflow\.com)/);
  });

  test('has every error on the page that the type of a problem points to', async () => {
    const { bytes } = succeeded(await api.call('GET', '/docs/errors'));
    for (const [code, { status }] of Object.entries(catalogue)) {
      assert.match(bytes.toString(), new RegExp(`id="${code}"><td>${status}<`));
    }
    assert.equal(refused(await api.call('GET', '/nowhere'), 'route_not_found').type, '/docs/errors#route_not_found');
  });
});

test('an address that is none is 404, a method that is none is 405 with those that are', async () => {
  for (const path of ['/', '/v1', '/v1/session', '/v1/sessions/a/b', '/v2/sessions']) {
    refused(await api.call('GET', path), 'route_not_found');
  }
  const allowed: [path: string, method: string, allow: string][] = [
    ['/v1/sessions', 'POST', 'GET, HEAD'],
    ['/v1/sessions/a', 'POST', 'DELETE, GET, HEAD, PATCH, PUT'],
    ['/v1/sessions/a/gradients', 'GET', 'POST'],
    ['/v1/sessions/a/variables', 'DELETE', 'GET, HEAD, PUT'],
    ['/v1/sessions/a/variables/w', 'PUT', 'GET, HEAD'],
    ['/v1/sessions/a/lookup', 'GET', 'POST'],
    ['/v1/sessions/a/slots/m', 'PATCH', 'GET, HEAD, PUT'],
    ['/v1/sessions/a/checkpoints', 'OPTIONS', 'GET, HEAD, POST'],
    ['/v1/sessions/a/checkpoints/latest', 'PUT', 'DELETE, GET, HEAD'],
    ['/v1/sessions/a/checkpoints/latest/restore', 'DELETE', 'POST'],
    ['/healthz', 'PUT', 'GET, HEAD'],
    ['/metrics', 'POST', 'GET, HEAD'],
  ];
  for (const [path, method, allow] of allowed) {
    const answer = await api.call(method, path);
    const { detail, instance } = refused(answer, 'method_not_allowed');
    assert.equal(answer.headers.allow, allow, path);
    assert.equal(detail, `this address takes ${allow}. Received: ${method}`);
    assert.equal(instance, path);
  }
});

test('HEAD answers as GET does, without the body', async () => {
  await create(api, 'head', { w: { values: [1, 2] } });
  const paths = ['', '/variables', '/variables/w', '/slots/v', '/checkpoints', '/checkpoints/latest'];
  for (const path of [
    '/v1/sessions?after=hea&limit=1',
    '/healthz',
    '/readyz',
    ...paths.map((each) => `/v1/sessions/head${each}`),
  ]) {
    const [got, head] = [await api.call('GET', path), succeeded(await api.call('HEAD', path))];
    assert.equal(head.bytes.length, 0);
    for (const header of ['etag', 'content-type', 'content-length']) {
      assert.equal(head.headers[header], got.headers[header], `${header} of ${path}`);
    }
  }
  const missing = await api.call('HEAD', '/v1/sessions/nobody');
  assert.deepEqual([missing.status, missing.bytes.length], [404, 0]);
});

test('the log has one line for each request: who, what, how large, how long, with which result; no payload', async (t) => {
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line) => lines.push(line) });
  const store = await Store.open(readConfig({ DATA_DIR: `${api.folder}/logged` }), log);
  await store.recover();
  const app = await build(readConfig({}), store, log);
  t.after(async () => {
    await app.close();
    await store.close();
  });
  const path = '/v1/sessions/logged';
  const values = [0.123456, 0.654321];
  const gradients = { w: { values } };
  await app.inject({ method: 'PUT', url: path, payload: { variables: gradients, metadata: { secret: 'hush' } } });
  await app.inject({ method: 'POST', url: `${path}/gradients`, payload: { gradients } });
  const pushed = await app.inject({
    method: 'POST',
    url: `${path}/gradients?worker=w-1&base=0`,
    payload: { gradients },
  });
  await app.inject({ method: 'GET', url: `${path}/variables?name=w` });
  await app.inject({ method: 'PUT', url: `${path}/slots/v`, payload: { variables: gradients } });
  await app.inject({ method: 'POST', url: `${path}/gradients`, payload: { gradients: { x: { values } } } });
  await app.inject({ method: 'GET', url: '/nowhere' });

  const requests = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'request');
  const what = requests.map(({ method, path: at, status, session, variables, code }) => [
    method,
    at,
    status,
    session,
    variables,
    code,
  ]);
  assert.deepEqual(what, [
    ['PUT', path, 201, 'logged', undefined, undefined],
    ['POST', `${path}/gradients`, 200, 'logged', ['w'], undefined],
    ['POST', `${path}/gradients`, 200, 'logged', ['w'], undefined],
    ['GET', `${path}/variables`, 200, 'logged', ['w'], undefined],
    ['PUT', `${path}/slots/v`, 200, 'logged', ['w'], undefined],
    ['POST', `${path}/gradients`, 422, 'logged', undefined, 'unknown_variable'],
    ['GET', '/nowhere', 404, undefined, undefined, 'route_not_found'],
  ]);
  const { bytesIn, bytesOut, worker, iterations, staleness } = requests[2];
  assert.deepEqual([bytesIn, bytesOut], [JSON.stringify({ gradients }).length, pushed.rawPayload.length]);
  assert.deepEqual([worker, iterations, staleness], ['w-1', 2, 1]);
  assert.ok(requests.every(({ milliseconds }) => milliseconds > 0 && milliseconds < 60_000));
  assert.doesNotMatch(lines.join(''), /0\.123456|0\.654321|hush/);
});
