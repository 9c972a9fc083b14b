/** The files of TLS: what is refused at the start, and what becomes of a server's certificate when they change. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFile, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from 'node:tls';
import type { FastifyBaseLogger } from 'fastify';
import type { TlsFiles } from '../../../src/config.ts';
import { connectionTimes } from '../../../src/limits.ts';
import { type Credentials, readCredentials, watchCredentials } from '../../../src/plugins/connections/certificate.ts';
import { type Api, startApi } from '../../support/api.ts';
import { ca, Http2Client, pathOf, serverFiles } from '../../support/http2-client.ts';
import { temporaryFolder } from '../../support/server-process.ts';

const bounds = { ...connectionTimes, certificateCheckMs: 10, max: 100, bytesPerSecondMin: 8_192 };

/** Copies of the server's files. */
async function copies(t: TestContext): Promise<TlsFiles & { readonly folder: string }> {
  const folder = await temporaryFolder(t);
  const [cert, key] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
  await copyFile(serverFiles.cert, cert);
  await copyFile(serverFiles.key, key);
  return { cert, key, ca: undefined, folder };
}

/** A handshake, and whether the server has taken it: of a client's certificate it judges after the client is done. */
async function greet(api: Api, options: ConnectionOptions = {}): Promise<{ subject: string; protocol: string | null }> {
  const { port } = api.app.server.address() as AddressInfo;
  const socket: TLSSocket = tlsConnect({ port, host: '127.0.0.1', ca, ALPNProtocols: ['http/1.1'], ...options });
  try {
    await once(socket, 'secureConnect');
    const { subject } = socket.getPeerCertificate();
    socket.write('GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
    const [reply] = await Promise.race([once(socket, 'data'), once(socket, 'close').then(() => [''])]);
    assert.match(String(reply), /^HTTP\/1\.1 200 /);
    return { subject: String(subject.CN), protocol: socket.getProtocol() };
  } finally {
    socket.destroy();
  }
}

describe('what is no good is refused at the start, by the variable', () => {
  const cases: [string, Partial<TlsFiles>, RegExp][] = [
    ['no file', { cert: pathOf('none') }, /^TLS_CERT must be the path of a file that can be read\. Received: ENOENT/],
    ['no certificate', { cert: pathOf('server.key') }, /^TLS_CERT must have a certificate in PEM\. Received: /],
    ['no key', { key: pathOf('server.crt') }, /^TLS_KEY must have a private key in PEM, .*\. Received: /],
    [
      "another certificate's key",
      { key: pathOf('renewed.key') },
      /^TLS_KEY must have the key of the first certificate/,
    ],
    ['no CA', { ca: pathOf('server.key') }, /^TLS_CA must have certificates in PEM\. Received: /],
  ];
  for (const [name, files, message] of cases) {
    test(name, () => assert.rejects(readCredentials({ ...serverFiles, ...files }), { message }));
  }
});

describe('a server with TLS', () => {
  test('speaks TLS 1.2 and 1.3, and nothing older', async (t) => {
    const api = await startApi(t, { tls: serverFiles });
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { protocol } = await greet(api, { minVersion: version, maxVersion: version });
      assert.equal(protocol, version);
    }
    const old = { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    await assert.rejects(greet(api, old), /alert protocol version|ECONNRESET/);
  });

  test('asks for a certificate by TLS_CA where there is one, over both versions of HTTP', async (t) => {
    const api = await startApi(t, { tls: { ...serverFiles, ca: pathOf('ca.crt') } });
    const pair = async (name: string) => ({
      cert: await readFile(pathOf(`${name}.crt`)),
      key: await readFile(pathOf(`${name}.key`)),
    });
    await greet(api, await pair('client'));
    await assert.rejects(greet(api), /alert|ECONNRESET|must match|did not match/);
    await assert.rejects(greet(api, await pair('stranger')), /alert|ECONNRESET|must match|did not match/);
    const client = await Http2Client.open(t, api, await pair('client'));
    assert.equal((await client.call('GET', '/healthz')).status, 200);
  });

  const replacements: Record<string, (files: { cert: string; key: string; folder: string }) => Promise<void>> = {
    'that are renamed into place': async ({ cert, key, folder }) => {
      for (const [path, name] of [
        [cert, 'renewed.crt'],
        [key, 'renewed.key'],
      ] as const) {
        await copyFile(pathOf(name), join(folder, 'new'));
        await rename(join(folder, 'new'), path);
      }
    },
    'that are written anew': async ({ cert, key }) => {
      await writeFile(cert, await readFile(pathOf('renewed.crt')));
      await pause(30);
      await writeFile(key, await readFile(pathOf('renewed.key')));
    },
  };
  for (const [name, replace] of Object.entries(replacements)) {
    test(`takes files ${name} and keeps its connections`, async (t) => {
      const files = await copies(t);
      const api = await startApi(t, { tls: files, connections: bounds });
      const client = await Http2Client.open(t, api);
      assert.equal((await greet(api)).subject, 'adamax test server');
      await replace(files);
      while ((await greet(api)).subject !== 'adamax test server, renewed') await pause(10);
      assert.equal((await client.call('GET', '/healthz')).status, 200);
      await assert.rejects(greet(api, { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }));
    });
  }

  test('takes files behind a link that is changed, as Kubernetes does', async (t) => {
    const folder = await temporaryFolder(t);
    for (const [version, name] of [
      ['1', 'server'],
      ['2', 'renewed'],
    ] as const) {
      await mkdir(join(folder, version));
      await copyFile(pathOf(`${name}.crt`), join(folder, version, 'tls.crt'));
      await copyFile(pathOf(`${name}.key`), join(folder, version, 'tls.key'));
    }
    await symlink('1', join(folder, '..data'));
    for (const name of ['tls.crt', 'tls.key']) await symlink(join('..data', name), join(folder, name));
    const tls = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key'), ca: undefined };
    const api = await startApi(t, { tls, connections: bounds });
    assert.equal((await greet(api)).subject, 'adamax test server');
    await symlink('2', join(folder, '..new'));
    await rename(join(folder, '..new'), join(folder, '..data'));
    while ((await greet(api)).subject !== 'adamax test server, renewed') await pause(10);
  });
});

test('files that are no good keep the old certificate, and are logged once with the reason', async (t) => {
  const files = await copies(t);
  const lines: [string, { reason?: string; subject?: string }, string][] = [];
  const note = (level: string) => (fields: object, message: string) => void lines.push([level, fields, message]);
  const used: Credentials[] = [];
  const watch = watchCredentials(files, await readCredentials(files), {
    checkMs: 5,
    log: { info: note('info'), error: note('error') } as unknown as FastifyBaseLogger,
    use: (credentials) => used.push(credentials),
  });
  t.after(() => watch.close());
  const next = async (): Promise<(typeof lines)[number]> => {
    while (lines.length === 0) await pause(2);
    await pause(50);
    assert.equal(lines.length, 1, 'it must be logged once');
    return lines.pop() as (typeof lines)[number];
  };
  const put = async (path: string, bytes: string | Buffer): Promise<void> => {
    await writeFile(join(files.folder, 'new'), bytes);
    await rename(join(files.folder, 'new'), path);
  };
  const refusal = 'the new certificate is of no use, the old one stays';
  await put(files.cert, 'no certificate');
  const [level, { reason }, message] = await next();
  assert.deepEqual([level, message], ['error', refusal]);
  assert.match(reason ?? '', /^TLS_CERT must have a certificate/);
  await rm(files.cert);
  assert.match((await next())[1].reason ?? '', /^TLS_CERT must be the path of a file/);
  await put(files.cert, await readFile(pathOf('renewed.crt')));
  assert.match((await next())[1].reason ?? '', /^TLS_KEY must have the key of the first certificate/);
  assert.deepEqual(used, []);
  await put(files.key, await readFile(pathOf('renewed.key')));
  const [good, fields, told] = await next();
  assert.deepEqual(
    // A comma within a name is escaped by some versions of Node.
    [good, fields.subject?.replace('\\,', ','), told],
    ['info', 'CN=adamax test server, renewed', 'a new certificate is in use'],
  );
  assert.deepEqual(used, [await readCredentials(files)]);
});
