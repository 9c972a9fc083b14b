/**
 * Who may do what: every operation of the OpenAPI document by every kind of caller, to sessions of its own, foreign ones and
 * such as do not exist. What each operation takes stands here once more; one that is missing here fails.
 */
import assert from 'node:assert/strict';
import { type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { type Api, type Json, startApi } from '../support/api.ts';
import { by, tokenFile } from '../support/tokens.ts';

/** By the words of the contract: `read` reads, `push` reads and applies gradients, `admin` does everything. */
const takes: Readonly<Record<string, 'open' | 'any' | 'read' | 'push' | 'admin'>> = {
  getHealth: 'open',
  getReadiness: 'open',
  getInfo: 'any',
  getMetrics: 'any',
  getOpenapiJson: 'any',
  getOpenapiYaml: 'any',
  getErrors: 'any',
  listSessions: 'read',
  getSession: 'read',
  getFingerprint: 'read',
  createSession: 'admin',
  patchSession: 'admin',
  deleteSession: 'admin',
  forkSession: 'admin',
  applyGradients: 'push',
  getVariables: 'read',
  getVariable: 'read',
  lookup: 'read',
  assignVariables: 'admin',
  getSlots: 'read',
  assignSlots: 'admin',
  writeCheckpoint: 'admin',
  listCheckpoints: 'read',
  getCheckpoint: 'read',
  deleteCheckpoint: 'admin',
  restoreCheckpoint: 'admin',
  listWorkers: 'read',
  releaseWorker: 'admin',
  streamEvents: 'read',
};
const ranks = ['any', 'read', 'push', 'admin'];

/** What each caller may do at most; undefined: not even that of `any`. */
const callers: Readonly<Record<string, string | undefined>> = {
  nobody: undefined,
  unknown: undefined,
  expired: undefined,
  reader: 'read',
  pusher: 'push',
  administrator: 'admin',
};
/** One of the caller's own, one that belongs to others, and one that does not exist. */
const sessions = ['own-1', 'foreign-1', 'foreign-2'];

interface Said {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly problem: Json;
}

let asked = 0;

/** The answer's status and, where it is one, its problem; a reply without an end is not waited for. */
function ask(api: Api, method: string, path: string, headers: object, body = '{}'): Promise<Said> {
  const { port } = api.app.server.address() as AddressInfo;
  // Each request from another address, so that none has sent too many unknown tokens.
  asked++;
  const localAddress = `127.1.${asked >> 8}.${asked & 255}`;
  const typed = method === 'GET' || method === 'HEAD' ? {} : { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const sent = request({
      port,
      host: '127.0.0.1',
      method,
      path,
      agent: false,
      localAddress,
      headers: { ...typed, ...headers },
    });
    sent.on('error', reject).on('response', (response) => {
      const { statusCode: status = 0, headers: received } = response;
      if (received['content-type']?.startsWith('text/event-stream')) {
        response.destroy();
        resolve({ status, headers: received, problem: undefined });
        return;
      }
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const isProblem = received['content-type']?.startsWith('application/problem+json') && chunks.length > 0;
        const problem = isProblem ? JSON.parse(Buffer.concat(chunks).toString()) : undefined;
        resolve({ status, headers: received, problem });
      });
    });
    sent.end(method === 'GET' || method === 'HEAD' ? undefined : body);
  });
}

const everything = { roles: ['admin'], sessions: ['*'] };

test('each operation by each caller to each session', { timeout: 120_000 }, async (t) => {
  const authFile = await tokenFile(t, {
    expired: { roles: ['admin'], sessions: ['*'], expires: '2020-01-01T00:00:00Z' },
    reader: { roles: ['read'], sessions: ['own-*'] },
    pusher: { roles: ['push'], sessions: ['own-*'] },
    administrator: { roles: ['admin'], sessions: ['own-*'] },
    owner: everything,
  });
  const api = await startApi(t, { authFile });
  for (const name of sessions.slice(0, 2)) {
    const json = { variables: { w: { values: [1, 2] } } };
    assert.equal((await api.call('PUT', `/v1/sessions/${name}`, { json, headers: by('owner') })).status, 201);
  }
  const state = async () => {
    const list = await api.call('GET', '/v1/sessions', { headers: by('owner') });
    const prints = sessions.map((name) =>
      api.call('GET', `/v1/sessions/${name}/fingerprint`, { headers: by('owner') }),
    );
    return [list.json, ...(await Promise.all(prints)).map(({ bytes }) => bytes.toString())];
  };
  const before = await state();
  const { paths } = api.app.swagger() as unknown as { paths: Record<string, Record<string, { operationId: string }>> };
  const seen = new Set<string>();
  for (const [template, operations] of Object.entries(paths)) {
    for (const [method, { operationId }] of Object.entries(operations)) {
      const needed = takes[operationId];
      assert.ok(needed, `${operationId} must stand in the table of what operations take`);
      seen.add(operationId);
      for (const session of template.includes('{session}') ? sessions : ['']) {
        const path = pathOf(template, session);
        for (const caller of Object.keys(callers))
          await holds(api, { operationId, method, path, session, caller, needed });
      }
    }
  }
  assert.deepEqual([...seen].sort(), Object.keys(takes).sort());
  assert.deepEqual(await state(), before);
});

interface Case {
  readonly operationId: string;
  readonly method: string;
  readonly path: string;
  readonly session: string;
  readonly caller: string;
  readonly needed: string;
}

async function holds(api: Api, { operationId, method, path, session, caller, needed }: Case): Promise<void> {
  // What may be done comes to nothing, so that the next caller finds the same.
  const headers = { ...(caller === 'nobody' ? {} : by(caller)), 'if-match': '"999999"' };
  const { status, headers: received, problem } = await ask(api, method.toUpperCase(), path, headers);
  const what = `${operationId} of "${session}" by ${caller}: ${status} ${JSON.stringify(problem)}`;
  if (method === 'get') {
    // A HEAD says the same, without a body.
    const head = await ask(api, 'HEAD', path, headers);
    if (needed !== 'open' && operationId !== 'streamEvents') assert.equal(head.status, status, `HEAD, ${what}`);
  }
  if (needed === 'open') {
    assert.equal(status, 200, what);
  } else if (callers[caller] === undefined) {
    assert.equal(problem?.code, 'unauthenticated', what);
    assert.match(received['www-authenticate'] ?? '', /^Bearer /, what);
  } else if (ranks.indexOf(callers[caller]) < ranks.indexOf(needed)) {
    assert.equal(problem?.code, 'forbidden', what);
  } else if (session.startsWith('foreign')) {
    if (operationId === 'createSession') assert.equal(problem?.code, 'forbidden', what);
    else assert.equal(problem?.detail, `a session must exist to be used. Received: "${session}"`, what);
    assert.equal(problem?.applied, false, what);
  } else {
    assert.ok(status !== 401 && status !== 403 && problem?.code !== 'session_not_found', what);
  }
}

/** An address of the template, of a session. */
function pathOf(template: string, session: string): string {
  const values: Record<string, string> = { session, variable: 'w', slot: 'm', id: 'latest', worker: 'a' };
  return template.replace(/\{(\w+)\}/g, (_, name: string) => values[name] as string);
}

test('addresses that there are none of, and methods that an address does not take, say so only to those with a token', async (t) => {
  const authFile = await tokenFile(t, { reader: { roles: ['read'], sessions: ['own-*'] } });
  const api = await startApi(t, { authFile });
  for (const [method, path, code] of [
    ['GET', '/v1/nowhere', 'route_not_found'],
    ['PUT', '/v1/sessions', 'method_not_allowed'],
    ['GET', '/docs/static/nothing.js', 'route_not_found'],
  ] as const) {
    assert.equal((await ask(api, method, path, {})).problem.code, 'unauthenticated');
    assert.equal((await ask(api, method, path, by('reader'))).problem.code, code);
  }
  assert.equal((await ask(api, 'GET', '/docs/', {})).status, 401);
  assert.equal((await ask(api, 'GET', '/docs/', by('reader'))).status, 200);
});

test('a fork must be within reach as well, and lists have what is', async (t) => {
  const authFile = await tokenFile(t, { a: { roles: ['admin'], sessions: ['a-*'] }, owner: everything });
  const api = await startApi(t, { authFile });
  for (const name of ['a-1', 'b-1', 'a-2']) {
    const json = { variables: { w: { values: [1] } } };
    await api.call('PUT', `/v1/sessions/${name}`, { json, headers: by('owner') });
  }
  const refused = await api.call('POST', '/v1/sessions/a-1/fork', { json: { name: 'b-2' }, headers: by('a') });
  assert.equal(refused.json.code, 'forbidden');
  assert.equal(
    (await api.call('POST', '/v1/sessions/a-1/fork', { json: { name: 'a-3' }, headers: by('a') })).status,
    201,
  );
  const names = async (name: string) => {
    const { json } = await api.call('GET', '/v1/sessions', { headers: by(name) });
    return json.sessions.map((each: Json) => each.name);
  };
  assert.deepEqual(await names('a'), ['a-1', 'a-2', 'a-3']);
  assert.deepEqual(await names('owner'), ['a-1', 'a-2', 'a-3', 'b-1']);
  const { json } = await api.call('GET', '/v1/sessions?limit=2', { headers: by('a') });
  assert.equal(json.next, 'a-2');
  assert.equal((await api.call('GET', '/v1/sessions?after=a-2', { headers: by('a') })).json.next, null);
  const { bytes } = await api.call('GET', '/v1/info', { headers: by('a') });
  assert.ok(bytes.includes('a-1') && !bytes.includes('b-1'), 'figures are of what is within reach');
});

test('without a file of tokens everybody may do everything, whatever Authorization says', async (t) => {
  const api = await startApi(t);
  const json = { variables: { w: { values: [1] } } };
  const headers = { authorization: 'Bearer whatever' };
  assert.equal((await api.call('PUT', '/v1/sessions/open', { json, headers })).status, 201);
});
