/** The health check of a container: well while the server answers, by whatever protocol, and not well when it does not. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createPlain } from 'node:http';
import { createServer as createSecure } from 'node:https';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { askHealth } from '../../src/health.ts';
import { startServer, temporaryFolder } from '../support/server-process.ts';

/** Of nobody, for a hundred years. */
const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg0LKpW4qIDX+hMUAh
H4GDmBQc467h4sNRo9aNKyNm9yShRANCAATeTjaryoGWFR/sr+0MTh6NcwNsmqu9
CMqHMSUwRXVsegW7NzzT8fHG9hTwTVOFyYAOE89avxmsyJJi4rOUs9fZ
-----END PRIVATE KEY-----`;
const cert = `-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUbfamIskDOrRx3KNk1Y0ZkrvdXBAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODE4MTU0OVoYDzIxMjYxMTA0
MTgxNTQ5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATeTjaryoGWFR/sr+0MTh6NcwNsmqu9CMqHMSUwRXVsegW7NzzT8fHG
9hTwTVOFyYAOE89avxmsyJJi4rOUs9fZo1MwUTAdBgNVHQ4EFgQUTVX9cv26OzCF
Qgv/eWHkjVpRmwAwHwYDVR0jBBgwFoAUTVX9cv26OzCFQgv/eWHkjVpRmwAwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAhG8aW4cz7EzB41V8cdoU
TkYBMqkEFct4Gldo1Yi326MCICyMQZHUiTq5R6z4/A73BRsACiVfEurJDqu1xEDj
aiBw
-----END CERTIFICATE-----`;

async function listen(t: TestContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

test('the program ends with 0 while the server of its environment is alive, and with 1 when it is not', async (t) => {
  const dataDir = await temporaryFolder(t);
  const server = await startServer(t, dataDir);
  const variables = { HOST: '0.0.0.0', ALLOW_ANONYMOUS: 'true', PORT: new URL(server.url).port, DATA_DIR: dataDir };
  const ask = async (): Promise<number> => {
    const program = [join(import.meta.dirname, '../../src/health.ts')];
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), ...program], {
      env: { ...process.env, ...variables },
      stdio: 'ignore',
    });
    const [code] = await once(child, 'exit');
    return code;
  };
  assert.equal(await ask(), 0);
  await server.end('SIGTERM');
  assert.equal(await ask(), 1);
});

test('a server with TLS is asked by TLS, and one that wants certificates of its clients need not let it in', async (t) => {
  for (const requirement of [{}, { requestCert: true }, { requestCert: true, maxVersion: 'TLSv1.2' as const }]) {
    const server = createSecure({ key, cert, ...requirement }, (_, response) => response.end());
    const port = await listen(t, server);
    const expected = 'requestCert' in requirement ? 'alive, for clients with a certificate' : 'alive';
    assert.equal(await askHealth({ host: '127.0.0.1', port, isSecure: true }), expected);
    await assert.rejects(askHealth({ host: '127.0.0.1', port, isSecure: false }), { code: 'ECONNRESET' });
  }
});

test('an answer other than 200 is not well, nor is none', async (t) => {
  const refusing = createPlain((_, response) => response.writeHead(503).end());
  const port = await listen(t, refusing);
  await assert.rejects(askHealth({ host: '127.0.0.1', port, isSecure: false }), /must answer 200\. Received: 503/);
  const mute = await listen(t, createServer());
  await assert.rejects(askHealth({ host: '127.0.0.1', port: mute, isSecure: false }), /must answer within/);
});
