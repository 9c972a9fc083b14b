/** Traces as a collector and the log get them, and that a collector that is not there costs nobody anything. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import { OtlpReceiver } from '../support/otlp-receiver.ts';
import { type ServerProcess, startServer, temporaryFolder } from '../support/server-process.ts';

const options = { timeout: 120_000 };
const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const spanId = '00f067aa0ba902b7';
const traceparent = `00-${traceId}-${spanId}-01`;

function push(server: ServerProcess, headers: Readonly<Record<string, string>> = {}, query = '') {
  const json = { gradients: { w: { values: [0.5, 0.25] } } };
  return server.call('POST', `/v1/sessions/s/gradients${query}`, { json, headers });
}

async function create(server: ServerProcess): Promise<void> {
  const json = { variables: { w: { values: [1, 2] } } };
  assert.equal((await server.call('PUT', '/v1/sessions/s', { json })).status, 201);
}

/** The log's line about the one request with that status. */
function lineOf(server: ServerProcess, method: string, status: number) {
  const lines = server.log.filter((line) => line.msg === 'request' && line.method === method && line.status === status);
  assert.equal(lines.length, 1);
  return lines[0];
}

test('a push with a traceparent is a span of that trace, sent at the shutdown at the latest', options, async (t) => {
  const receiver = await OtlpReceiver.start(t);
  const server = await startServer(t, await temporaryFolder(t), {
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=blue',
    OTEL_SERVICE_NAME: 'trainer',
    OTEL_BSP_SCHEDULE_DELAY: '3600000',
  });
  await create(server);
  assert.equal((await push(server, { traceparent, cookie: 'hidden' }, '?worker=secretive')).status, 200);
  assert.equal((await server.call('GET', '/healthz')).status, 200);
  assert.equal((await server.call('GET', '/v1/sessions/none')).status, 404);
  assert.equal((await server.call('GET', '/nowhere', { headers: { traceparent: 'broken' } })).status, 404);
  assert.deepEqual(await server.end('SIGTERM'), { code: 0, signal: null });

  const names = receiver.spans.map(({ name }) => name).filter((name) => name !== 'GET /openapi.json');
  assert.deepEqual(names.sort(), [
    'GET',
    'GET /v1/sessions/:session',
    'POST /v1/sessions/:session/gradients',
    'PUT /v1/sessions/:session',
  ]);
  const span = receiver.spans.find(({ name }) => name.startsWith('POST'));
  assert.ok(span, 'the push has a span');
  assert.deepEqual([span.traceId, span.parentSpanId, span.statusCode], [traceId, spanId, 0]);
  assert.equal(span.resource['service.name'], 'trainer');
  assert.equal(span.attributes['adamax.session'], 's');
  assert.equal(span.attributes['http.route'], '/v1/sessions/:session/gradients');
  assert.equal(span.attributes['http.response.status_code'], 200);
  const { trace_id, span_id } = lineOf(server, 'POST', 200);
  assert.deepEqual([trace_id, span_id], [traceId, span.spanId]);

  const refused = receiver.spans.find(({ name }) => name === 'GET /v1/sessions/:session');
  assert.equal(refused?.attributes['adamax.problem'], 'session_not_found');
  assert.equal(refused?.statusCode, 0, 'what a client does wrong is no error of the server');
  const lost = receiver.spans.find(({ name }) => name === 'GET');
  assert.match(lost?.traceId ?? '', /^[\da-f]{32}$/);
  assert.equal(lost?.parentSpanId, '');

  const [request] = receiver.requests;
  assert.equal(request?.path, '/v1/traces');
  assert.equal(request?.headers['x-tenant'], 'blue');
  for (const { body } of receiver.requests) assert.doesNotMatch(body.toString('latin1'), /hidden|secretive|0\.25/);
});

test('a collector that is not there neither slows nor fails a request, nor the shutdown', options, async (t) => {
  // One that takes connections and never answers is worse than one that refuses them.
  const mute = createServer().listen(0, '127.0.0.1');
  t.after(() => mute.close());
  await once(mute, 'listening');
  const server = await startServer(t, await temporaryFolder(t), {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(mute.address() as AddressInfo).port}`,
    OTEL_BSP_SCHEDULE_DELAY: '1',
    OTEL_BSP_MAX_QUEUE_SIZE: '4',
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '2',
  });
  await create(server);
  const durations = [];
  for (let count = 0; count < 50; count++) {
    const started = performance.now();
    assert.equal((await push(server)).status, 200);
    durations.push(performance.now() - started);
  }
  const median = durations.sort((a, b) => a - b)[25] as number;
  assert.ok(median < 500, `a push takes ${median} ms`);
  const started = performance.now();
  assert.deepEqual(await server.end('SIGTERM'), { code: 0, signal: null });
  const elapsed = performance.now() - started;
  assert.ok(elapsed < 8000, `the shutdown takes ${elapsed} ms`);
});

test('without a collector the log has the ids that came, and no tracing is loaded', options, async (t) => {
  const server = await startServer(t, await temporaryFolder(t), {
    OTEL_EXPORTER_OTLP_ENDPOINT: undefined,
    NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import=data:text/javascript,${encodeURIComponent(
      `import { createRequire } from 'node:module';
       process.on('exit', () => {
         const { cache } = createRequire('${import.meta.filename}');
         console.error(Object.keys(cache).filter((path) => path.includes('sdk-trace')).length, 'loaded');
       });`,
    )}`,
  });
  await create(server);
  assert.equal((await push(server, { traceparent })).status, 200);
  assert.equal(
    (await server.call('DELETE', '/v1/sessions/s', { headers: { traceparent: `${traceparent}-` } })).status,
    204,
  );
  assert.deepEqual(await server.end('SIGTERM'), { code: 0, signal: null });
  const { trace_id, span_id } = lineOf(server, 'POST', 200);
  assert.deepEqual([trace_id, span_id], [traceId, spanId]);
  assert.ok(!('trace_id' in lineOf(server, 'DELETE', 204)));
  assert.match(server.stderr, /^0 loaded$/m);
});
