/** What the environment may say, and that a server that cannot use it says why and does not start. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parseEnv } from 'node:util';
import { type Config, readConfig } from '../src/config.ts';
import { connectionTimes } from '../src/limits.ts';
import { Store } from '../src/store/store.ts';
import { launch, temporaryFolder } from './support/server-process.ts';

const memoryBytesMax = 1_000_000;

test('with nothing set, every variable has the default that .env.example documents', async () => {
  const { memoryBytesMax, ...rest } = readConfig({});
  const example = await readFile(new URL('../.env.example', import.meta.url), 'utf8');
  assert.deepEqual(readConfig(parseEnv(example)), readConfig({}));
  assert.deepEqual(rest, {
    host: '127.0.0.1',
    port: 8080,
    dataDir: './data',
    logLevel: 'info',
    authFile: undefined,
    bodyBytesMax: 4 * 1024 ** 3,
    diskFreeBytesMin: 256 * 1024 ** 2,
    requestsMax: 256,
    threads: Math.min(availableParallelism(), 16),
    keysMax: 10_000,
    shutdownTimeoutMs: 30_000,
    tls: undefined,
    corsOrigins: [],
    connections: { ...connectionTimes, max: 8_192, bytesPerSecondMin: 8_192 },
    isTraced: false,
  });
  assert.ok(memoryBytesMax > 0 && memoryBytesMax <= 0.8 * totalmem());
});

const accepted: [string, string, keyof Config, unknown][] = [
  ['HOST', '127.8.9.10', 'host', '127.8.9.10'],
  ['HOST', '::1', 'host', '::1'],
  ['HOST', 'localhost', 'host', 'localhost'],
  ['AUTH_FILE', 'tokens.json', 'authFile', 'tokens.json'],
  ['PORT', '0', 'port', 0],
  ['PORT', '65535', 'port', 65_535],
  ['DATA_DIR', '/srv/adamax data', 'dataDir', '/srv/adamax data'],
  ...['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'].map(
    (level): [string, string, keyof Config, unknown] => ['LOG_LEVEL', level, 'logLevel', level],
  ),
  ['BODY_BYTES_MAX', '1024', 'bodyBytesMax', 1024],
  ['MEMORY_BYTES_MAX', '1000000', 'memoryBytesMax', 1_000_000],
  ['DISK_FREE_BYTES_MIN', '0', 'diskFreeBytesMin', 0],
  ['DISK_FREE_BYTES_MIN', '1000000', 'diskFreeBytesMin', 1_000_000],
  ['REQUESTS_MAX', '1', 'requestsMax', 1],
  ['REQUESTS_MAX', '65536', 'requestsMax', 65_536],
  ['THREADS', '0', 'threads', 0],
  ['THREADS', '16', 'threads', 16],
  ['SHUTDOWN_TIMEOUT_MS', '2147483647', 'shutdownTimeoutMs', 2 ** 31 - 1],
  ['CORS_ORIGINS', '*', 'corsOrigins', ['*']],
  ['CORS_ORIGINS', 'https://a.example', 'corsOrigins', ['https://a.example']],
  ['CORS_ORIGINS', 'https://a.example, http://b:8081', 'corsOrigins', ['https://a.example', 'http://b:8081']],
  ['OTEL_EXPORTER_OTLP_ENDPOINT', 'http://127.0.0.1:4318', 'isTraced', true],
  ['OTEL_EXPORTER_OTLP_ENDPOINT', '', 'isTraced', false],
  ['IDEMPOTENCY_KEYS', '1', 'keysMax', 1],
  ['IDEMPOTENCY_KEYS', '1000000', 'keysMax', 1_000_000],
];
for (const [name, value, member, expected] of accepted) {
  test(`${name}=${value} is taken`, () => {
    const config = readConfig({ [name]: value });
    assert.deepEqual(config[member], expected);
    assert.ok(Object.isFrozen(config));
  });
}

/** An empty HOST would listen on every interface; a timer longer than 2^31 - 1 ms would end at once. */
const refused: [string, string, RegExp][] = [
  ['HOST', '', /an address or host name/],
  ['THREADS', '17', /an integer from 0 to 16/],
  ['THREADS', '-1', /an integer from 0 to 16/],
  ['PORT', 'http', /an integer from 0 to 65535/],
  ['PORT', '', /an integer from 0 to 65535/],
  ['PORT', '-1', /an integer from 0 to 65535/],
  ['PORT', '65536', /an integer from 0 to 65535/],
  ['PORT', '80.5', /an integer from 0 to 65535/],
  ['DATA_DIR', '', /the path of a folder/],
  ['LOG_LEVEL', 'loud', /one of trace, debug, info, warn, error, fatal, silent/],
  ['LOG_LEVEL', 'INFO', /one of trace/],
  ['BODY_BYTES_MAX', '1023', /an integer from 1024 to 4294967296/],
  ['BODY_BYTES_MAX', '4294967297', /an integer from 1024 to 4294967296/],
  ['BODY_BYTES_MAX', '1GB', /an integer from 1024/],
  ['MEMORY_BYTES_MAX', '0', /an integer from 1 to/],
  ['DISK_FREE_BYTES_MIN', '-1', /an integer from 0 to/],
  ['DISK_FREE_BYTES_MIN', '1GB', /an integer from 0 to/],
  ['IDEMPOTENCY_KEYS', '0', /an integer from 1 to 1000000/],
  ['SHUTDOWN_TIMEOUT_MS', '0', /an integer from 1 to 2147483647/],
  ['SHUTDOWN_TIMEOUT_MS', '2147483648', /an integer from 1 to 2147483647/],
  ['OTEL_EXPORTER_OTLP_PROTOCOL', 'grpc', /http\/protobuf/],
  ['AUTH_FILE', '', /the path of a file of tokens/],
  ['ALLOW_ANONYMOUS', 'yes', /true or false/],
  ['ALLOW_ANONYMOUS', '', /true or false/],
  ...['https://a.example/', 'a.example', 'https://*.example', '*,https://a.example', 'null', ''].map(
    (origins): [string, string, RegExp] => ['CORS_ORIGINS', origins, /\* or a list of origins/],
  ),
  ['CONNECTIONS_MAX', '0', /an integer from 1 to 1048576/],
  ['CONNECTIONS_MAX', '1048577', /an integer from 1 to 1048576/],
  ['BYTES_PER_SECOND_MIN', '255', /an integer from 256 to 1048576/],
  ['BYTES_PER_SECOND_MIN', '1048577', /an integer from 256 to 1048576/],
];
for (const [name, value, rule] of refused) {
  test(`${name}=${value} is refused, with its rule and what came`, () => {
    assert.throws(
      () => readConfig({ [name]: value }),
      ({ message }: Error) => {
        assert.match(message, new RegExp(`^${name} must be ${rule.source}.*\\. Received: "`));
        assert.ok(message.endsWith(`"${value}"`), message);
        return true;
      },
    );
  });
}

test('OTEL_SDK_DISABLED turns traces off', () => {
  assert.ok(!readConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318', OTEL_SDK_DISABLED: 'TRUE' }).isTraced);
});

test('an address that others reach is taken only with tokens, or where the operator lets everybody in', () => {
  for (const host of ['0.0.0.0', '::', '192.168.0.7', '127.example.org', 'adamax']) {
    assert.throws(
      () => readConfig({ HOST: host }),
      ({ message }: Error) => {
        assert.match(message, /^HOST must be a loopback address .* as long as nobody needs a token\. Received: /);
        assert.ok(message.includes(`Received: ${host}. Set AUTH_FILE `), message);
        return /or ALLOW_ANONYMOUS=true to let everybody in$/.test(message);
      },
    );
    assert.equal(readConfig({ HOST: host, AUTH_FILE: 'tokens.json' }).host, host);
    assert.equal(readConfig({ HOST: host, ALLOW_ANONYMOUS: 'true' }).host, host);
    assert.throws(() => readConfig({ HOST: host, ALLOW_ANONYMOUS: 'false' }), /^Error: HOST must be a loopback/);
  }
  assert.throws(
    () => readConfig({ AUTH_FILE: 'tokens.json', ALLOW_ANONYMOUS: 'true' }),
    /^Error: ALLOW_ANONYMOUS must not be true where AUTH_FILE says who may come in\. Received: both$/,
  );
});

describe('the bounds of connections', () => {
  for (const value of [1, 1_048_576]) {
    test(`CONNECTIONS_MAX=${value} is taken`, () => {
      assert.equal(readConfig({ CONNECTIONS_MAX: String(value) }).connections.max, value);
    });
  }
  for (const value of [256, 1_048_576]) {
    test(`BYTES_PER_SECOND_MIN=${value} is taken`, () => {
      assert.equal(readConfig({ BYTES_PER_SECOND_MIN: String(value) }).connections.bytesPerSecondMin, value);
    });
  }
});

describe('TLS needs a certificate and its key', () => {
  test('both are taken, with or without TLS_CA', () => {
    const both = { TLS_CERT: 'a.crt', TLS_KEY: 'a.key' };
    assert.deepEqual(readConfig(both).tls, { cert: 'a.crt', key: 'a.key', ca: undefined });
    assert.deepEqual(readConfig({ ...both, TLS_CA: 'ca.crt' }).tls, { cert: 'a.crt', key: 'a.key', ca: 'ca.crt' });
  });
  for (const given of [['TLS_CERT'], ['TLS_KEY'], ['TLS_CA'], ['TLS_CERT', 'TLS_CA']]) {
    test(`${given.join(' and ')} alone is refused`, () => {
      const environment = Object.fromEntries(given.map((name) => [name, 'file']));
      const { message } = assertThrown(() => readConfig(environment));
      const rule = 'TLS_CERT and TLS_KEY must both be set where one of them or TLS_CA is';
      assert.equal(message, `${rule}. Received: ${given.join(', ')}`);
    });
  }
});

function assertThrown(task: () => unknown): Error {
  try {
    task();
  } catch (error) {
    return error as Error;
  }
  return assert.fail('it must be refused');
}

test('several mistakes are named at once', () => {
  assert.throws(() => readConfig({ PORT: 'x', LOG_LEVEL: 'y' }), /PORT must be .*; LOG_LEVEL must be /);
});

test('only the environment that is given is read', () => {
  process.env.SHUTDOWN_TIMEOUT_MS = '1234';
  try {
    assert.equal(readConfig({}).shutdownTimeoutMs, 30_000);
    assert.equal(readConfig().shutdownTimeoutMs, 1234);
  } finally {
    delete process.env.SHUTDOWN_TIMEOUT_MS;
  }
});

describe('a data folder that cannot be used is refused, by its name and the reason', () => {
  const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const refuses = (dataDir: string, reason: RegExp) =>
    assert.rejects(Store.open({ dataDir, memoryBytesMax, threads: 0, keysMax: 100 }, silent), ({ message }: Error) => {
      assert.match(message, /^DATA_DIR must be a folder /);
      assert.ok(message.includes(`Received: ${dataDir} (`), message);
      assert.match(message, reason);
      return true;
    });

  test('a file', async (t) => {
    const file = join(await temporaryFolder(t), 'file');
    await writeFile(file, '');
    await refuses(file, /ENOTDIR/);
  });

  test('one whose path is too long for a socket', async (t) => {
    const folder = await temporaryFolder(t);
    // A socket's path would be cut short without a word; the lock would then lie somewhere else.
    const long = join(folder, 'x'.repeat(120));
    await mkdir(long);
    await refuses(long, /a socket in it must have a path of at most 103 bytes/);
    assert.deepEqual(await readdir(folder), ['x'.repeat(120)]);
    assert.deepEqual(await readdir(long), ['sessions']);
  });
});

describe('the process', { concurrency: 2 }, () => {
  const options = { timeout: 120_000 };

  test('names every variable that is not valid and exits with 1', options, async (t) => {
    const server = launch(t, { env: { DATA_DIR: await temporaryFolder(t), PORT: 'http', AUTH_FILE: '' } });
    assert.deepEqual(await server.exited, { code: 1, signal: null });
    assert.match(server.stderr, /^adamax-server: PORT must be .*; AUTH_FILE must be the path.*\n$/);
    assert.deepEqual(server.log, []);
  });

  test('names an address that is in use and exits with 1', options, async (t) => {
    const other = createServer().listen(0, '127.0.0.1');
    t.after(() => other.close());
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const server = launch(t, { env: { DATA_DIR: await temporaryFolder(t), PORT: String(port) } });
    assert.deepEqual(await server.exited, { code: 1, signal: null });
    assert.match(server.stderr, /^adamax-server: HOST and PORT must name an address .*EADDRINUSE/);
    assert.ok(server.stderr.includes(String(port)));
  });

  test('reads .env from where it is started; the environment itself comes first', options, async (t) => {
    const cwd = await temporaryFolder(t);
    await writeFile(join(cwd, '.env'), '# a comment\nDATA_DIR=./kept here\nLOG_LEVEL="debug"\nPORT=1\n');
    const server = launch(t, { cwd, env: { DATA_DIR: undefined, LOG_LEVEL: undefined, PORT: '0' } });
    await server.logged('all sessions recovered');
    assert.ok((await readdir(cwd)).includes('kept here'));
    assert.notEqual(new URL(server.url).port, '1');
    assert.deepEqual(await server.end('SIGTERM'), { code: 0, signal: null });
  });
});
