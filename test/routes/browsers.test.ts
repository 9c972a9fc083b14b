/** What browsers are told: CORS and its preflights, and the headers of replies and pages. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { startApi } from '../support/api.ts';
import { create, refused, succeeded } from '../support/calls.ts';
import { Http2Client, serverFiles } from '../support/http2-client.ts';

const origin = 'https://board.example';
const closed = await startApi({ after });
const api = await startApi({ after }, { corsOrigins: [origin, 'http://localhost:3000'] });
const open = await startApi({ after }, { corsOrigins: ['*'] });
await create(api, 'seen', { w: { values: [1, 2] } });

const asking = {
  origin,
  'access-control-request-method': 'POST',
  'access-control-request-headers': 'authorization,content-type,idempotency-key',
};
const path = '/v1/sessions/seen/gradients';

describe('without CORS_ORIGINS', () => {
  test('an OPTIONS is a method like any other that an address does not take', async () => {
    const { headers } = await closed.call('OPTIONS', path, { headers: asking });
    assert.equal(headers.allow, 'POST');
    refused(await closed.call('OPTIONS', path, { headers: asking }), 'method_not_allowed');
  });

  test('no page may read a reply', async () => {
    const { headers } = await closed.call('GET', '/v1/sessions', { headers: { origin } });
    assert.deepEqual(
      Object.keys(headers).filter((name) => name.startsWith('access-control')),
      [],
    );
    assert.equal(headers.vary?.includes('Origin') ?? false, false);
  });
});

describe('with CORS_ORIGINS', () => {
  test('a preflight is answered, whatever the address and without a token', async () => {
    for (const address of [path, '/v1/sessions', '/metrics', '/nowhere']) {
      const { statusCode, headers } = await api.app.inject({ method: 'OPTIONS', url: address, headers: asking });
      assert.equal(statusCode, 204);
      assert.equal(headers['access-control-allow-origin'], origin);
      assert.equal(headers['access-control-allow-methods'], 'GET, HEAD, POST, PUT, PATCH, DELETE');
      assert.equal(headers['access-control-allow-headers'], asking['access-control-request-headers']);
      assert.equal(headers['access-control-allow-credentials'], undefined);
    }
  });

  test('an OPTIONS that is no preflight is refused as ever', async () => {
    refused(await api.call('OPTIONS', path), 'method_not_allowed');
    refused(await api.call('OPTIONS', '/nowhere'), 'route_not_found');
  });

  test('a page of such an origin reads replies and their headers, refusals too', async () => {
    const json = { gradients: { w: { values: [1, 1] } } };
    const pushed = succeeded(await api.call('POST', path, { json, headers: { origin } }));
    assert.equal(pushed.headers['access-control-allow-origin'], origin);
    const exposed = pushed.headers['access-control-expose-headers']?.split(', ');
    for (const name of ['ETag', 'Durability', 'Idempotency-Replayed', 'Location', 'Retry-After']) {
      assert.ok(exposed?.includes(name), name);
    }
    assert.match(pushed.headers.vary ?? '', /Origin/);
    const refusal = await api.call('GET', '/v1/sessions/nobody', { headers: { origin } });
    assert.equal(refusal.headers['access-control-allow-origin'], origin);
  });

  test('a page of another origin does not, and one that begins alike neither', async () => {
    for (const other of ['https://other.example', `${origin}.evil`, `${origin}:8443`, 'null', 'http://board.example']) {
      const headers = { ...asking, origin: other };
      const preflight = await api.app.inject({ method: 'OPTIONS', url: path, headers });
      assert.equal(preflight.headers['access-control-allow-origin'], undefined, other);
      const read = await api.call('GET', '/v1/sessions', { headers: { origin: other } });
      assert.equal(read.headers['access-control-allow-origin'], undefined, other);
    }
  });

  test('a stream of events can be followed by a page', async () => {
    const { headers } = await api.call('HEAD', '/v1/sessions/seen/events', { headers: { origin } });
    assert.equal(headers['access-control-allow-origin'], origin);
    const controller = new AbortController();
    const { port } = api.app.server.address() as { port: number };
    const url = `http://127.0.0.1:${port}/v1/sessions/seen/events`;
    const stream = await fetch(url, { headers: { origin }, signal: controller.signal });
    assert.equal(stream.headers.get('access-control-allow-origin'), origin);
    assert.equal(stream.headers.get('x-content-type-options'), 'nosniff');
    controller.abort();
  });

  test('of * every page is one', async () => {
    for (const headers of [{ origin }, { origin: 'null' }]) {
      const answer = await open.call('GET', '/v1/sessions', { headers });
      assert.equal(answer.headers['access-control-allow-origin'], '*');
    }
  });
});

describe('security headers', () => {
  test('every reply says that its type is its type', async () => {
    for (const url of [
      '/healthz',
      '/v1/sessions',
      '/nowhere',
      '/v1/sessions/%zz',
      '/metrics',
      '/docs/',
      '/docs/errors',
    ]) {
      const { headers } = await closed.app.inject(url);
      assert.equal(headers['x-content-type-options'], 'nosniff', url);
      assert.equal(headers['strict-transport-security'], undefined, url);
    }
  });

  test('with TLS also that there will be TLS', async (t) => {
    const secure = await startApi(t, { tls: serverFiles });
    const client = await Http2Client.open(t, secure);
    for (const url of ['/healthz', '/nowhere', '/v1/sessions/%zz']) {
      const { headers } = await client.call('GET', url);
      assert.equal(headers['strict-transport-security'], 'max-age=31536000', url);
    }
    const page = await secure.app.inject('/docs/');
    assert.equal(page.headers['strict-transport-security'], 'max-age=31536000');
    assert.match(String(page.headers['content-security-policy']), /;upgrade-insecure-requests$/);
  });

  test('pages may load what is theirs and be in no frame; nothing of a page breaks the rule', async () => {
    for (const url of ['/docs/', '/docs/static/index.html', '/docs/errors']) {
      const { headers, body } = await closed.app.inject(url);
      const policy = String(headers['content-security-policy']);
      assert.match(policy, /^default-src 'self';/, url);
      assert.match(policy, /;script-src 'self';/, url);
      assert.match(policy, /;frame-ancestors 'none';/, url);
      assert.doesNotMatch(policy, /upgrade-insecure-requests|unsafe-eval|script-src[^;]*unsafe/);
      assert.equal(headers['x-frame-options'], 'DENY');
      assert.equal(headers['referrer-policy'], 'no-referrer');
      // Scripts have an address of their own, on this server, and nothing between their tags; no attribute is a script.
      for (const [, attributes, text] of body.matchAll(/<script([^>]*)>([^<]*)<\/script>/g)) {
        assert.match(attributes ?? '', /\ssrc="\.?\/[^/]/);
        assert.equal(text?.trim(), '');
      }
      assert.doesNotMatch(body, /\son[a-z]+=|javascript:|https?:\/\/[^"' ]+\.(js|css)/i);
    }
  });

  test('replies of the API carry none of what only pages need', async () => {
    const { headers } = await closed.app.inject('/v1/sessions');
    assert.equal(headers['content-security-policy'], undefined);
  });
});
