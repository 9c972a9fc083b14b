/** The environment (and a `.env` file) as a frozen Config; nothing else reads it. `.env.example` documents each variable. */
import { isIPv4 } from 'node:net';
import { availableParallelism, totalmem } from 'node:os';
import type { Ajv, ErrorObject } from 'ajv';
import { envSchema } from 'env-schema';
import { type Static, Type } from 'typebox';
import {
  bodyBytesMaxDefault,
  bytesPerSecondMinDefault,
  bytesPerSecondMinMax,
  bytesPerSecondMinMin,
  connectionsMaxDefault,
  connectionsMaxMax,
  connectionTimes,
  diskFreeBytesMinDefault,
  keysMaxDefault,
  keysMaxMax,
  requestsMaxDefault,
  requestsMaxMax,
  threadsMax,
} from './limits.ts';

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
/** The longest that a timer runs. */
const millisecondsMax = 2 ** 31 - 1;

/** As browsers send them: no path, and no port that the scheme has anyway. */
const origins = '^(\\*|https?://[^\\s,/*]+(\\s*,\\s*https?://[^\\s,/*]+)*)$';

/** A `description` completes the sentence "… must be". */
const Environment = Type.Object({
  HOST: Type.String({ default: '127.0.0.1', minLength: 1, description: 'an address or host name' }),
  PORT: integer(0, 65_535, { default: 8080 }),
  DATA_DIR: Type.String({ default: './data', minLength: 1, description: 'the path of a folder' }),
  LOG_LEVEL: Type.Enum(levels, { default: 'info', description: `one of ${levels.join(', ')}` }),
  BODY_BYTES_MAX: integer(1024, bodyBytesMaxDefault, { default: bodyBytesMaxDefault }),
  MEMORY_BYTES_MAX: Type.Optional(integer(1, Number.MAX_SAFE_INTEGER)),
  DISK_FREE_BYTES_MIN: integer(0, Number.MAX_SAFE_INTEGER, { default: diskFreeBytesMinDefault }),
  REQUESTS_MAX: integer(1, requestsMaxMax, { default: requestsMaxDefault }),
  THREADS: Type.Optional(integer(0, threadsMax)),
  IDEMPOTENCY_KEYS: integer(1, keysMaxMax, { default: keysMaxDefault }),
  SHUTDOWN_TIMEOUT_MS: integer(1, millisecondsMax, { default: 30_000 }),
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.Optional(Type.String()),
  OTEL_EXPORTER_OTLP_PROTOCOL: Type.Enum(['', 'http/protobuf'], { default: '', description: 'http/protobuf' }),
  OTEL_SDK_DISABLED: Type.String({ default: '' }),
  AUTH_FILE: Type.Optional(Type.String({ minLength: 1, description: 'the path of a file of tokens' })),
  ALLOW_ANONYMOUS: Type.Enum(['true', 'false'], { default: 'false', description: 'true or false' }),
  TLS_CERT: Type.Optional(path('a certificate in PEM')),
  TLS_KEY: Type.Optional(path('a private key in PEM')),
  TLS_CA: Type.Optional(path('certificates in PEM')),
  CORS_ORIGINS: Type.Optional(
    Type.String({ pattern: origins, description: '* or a list of origins like https://example.org, by commas' }),
  ),
  CONNECTIONS_MAX: integer(1, connectionsMaxMax, { default: connectionsMaxDefault }),
  BYTES_PER_SECOND_MIN: integer(bytesPerSecondMinMin, bytesPerSecondMinMax, { default: bytesPerSecondMinDefault }),
});

function integer(minimum: number, maximum: number, options: { default?: number } = {}) {
  return Type.Integer({ minimum, maximum, description: `an integer from ${minimum} to ${maximum}`, ...options });
}

function path(what: string) {
  return Type.String({ minLength: 1, description: `the path of a file with ${what}` });
}

/** Paths of PEM files. Where there is a `ca`, clients need a certificate that it has signed. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | undefined;
}

export interface ConnectionBounds extends Readonly<Record<keyof typeof connectionTimes, number>> {
  /** Connections at a time. */
  readonly max: number;
  /** What a client must send of its body, and take of its reply. */
  readonly bytesPerSecondMin: number;
}

export interface Config {
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  readonly logLevel: string;
  /** The file of tokens; without one, everybody may do everything. */
  readonly authFile: string | undefined;
  /** A decoded request body, bytes. */
  readonly bodyBytesMax: number;
  /** Memory for the variables and slots of all sessions, bytes. */
  readonly memoryBytesMax: number;
  /** What is to stay free on the disk of `dataDir`, bytes; 0: nothing is refused before it is full. */
  readonly diskFreeBytesMin: number;
  /** Requests that are worked on at a time; more are refused. */
  readonly requestsMax: number;
  /** That share large steps, besides the one that talks to the network. */
  readonly threads: number;
  /** Idempotency keys that are remembered of each session. */
  readonly keysMax: number;
  /** How long a shutdown may wait for requests and checkpoints. */
  readonly shutdownTimeoutMs: number;
  /** `undefined`: plain HTTP. */
  readonly tls: TlsFiles | undefined;
  /** Whose pages may call the API from a browser; `*`: all. */
  readonly corsOrigins: readonly string[];
  readonly connections: ConnectionBounds;
  /** Whether traces are sent; where to and how is OpenTelemetry's own part of the environment, which its SDK reads. */
  readonly isTraced: boolean;
}

/** Throws an error that names each variable that is not valid, its rule, and what came. */
export function readConfig(environment: NodeJS.ProcessEnv = process.env): Config {
  if (environment === process.env) loadDotenv();
  const values = readEnvironment(environment);
  requireGuarded(values);
  return Object.freeze({
    host: values.HOST,
    port: values.PORT,
    dataDir: values.DATA_DIR,
    logLevel: values.LOG_LEVEL,
    authFile: values.AUTH_FILE,
    bodyBytesMax: values.BODY_BYTES_MAX,
    memoryBytesMax: values.MEMORY_BYTES_MAX ?? Math.floor(0.8 * usableMemory(process.constrainedMemory(), totalmem())),
    diskFreeBytesMin: values.DISK_FREE_BYTES_MIN,
    requestsMax: values.REQUESTS_MAX,
    threads: values.THREADS ?? Math.min(availableParallelism(), threadsMax),
    keysMax: values.IDEMPOTENCY_KEYS,
    shutdownTimeoutMs: values.SHUTDOWN_TIMEOUT_MS,
    tls: tlsFiles(values),
    corsOrigins: values.CORS_ORIGINS?.split(',').map((origin) => origin.trim()) ?? [],
    connections: {
      ...connectionTimes,
      max: values.CONNECTIONS_MAX,
      bytesPerSecondMin: values.BYTES_PER_SECOND_MIN,
    },
    isTraced: (values.OTEL_EXPORTER_OTLP_ENDPOINT ?? '') !== '' && values.OTEL_SDK_DISABLED.toLowerCase() !== 'true',
  });
}

/** Throws where others could come in and nobody would ask them who they are, unless that is wanted. */
function requireGuarded({ HOST, AUTH_FILE, ALLOW_ANONYMOUS }: Static<typeof Environment>): void {
  const open = ALLOW_ANONYMOUS === 'true';
  if (AUTH_FILE !== undefined && open) {
    throw new Error('ALLOW_ANONYMOUS must not be true where AUTH_FILE says who may come in. Received: both');
  }
  if (AUTH_FILE !== undefined || open || isLoopback(HOST)) return;
  const rule = 'HOST must be a loopback address (127.0.0.1, ::1 or localhost) as long as nobody needs a token';
  const way =
    'Set AUTH_FILE to a file of tokens (adamax-server token create), or ALLOW_ANONYMOUS=true to let everybody in';
  throw new Error(`${rule}. Received: ${HOST}. ${way}`);
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

/**
 * What the container may use or, outside one, what the machine has. Without a limit, `constrained` is 0 or absent, or a number
 * beyond all memory (2^64 here); with one, of version 1 or 2 of control groups, it is the limit.
 */
export function usableMemory(constrained: number | undefined, machine: number): number {
  return constrained === undefined || constrained <= 0 ? machine : Math.min(constrained, machine);
}

function tlsFiles({ TLS_CERT: cert, TLS_KEY: key, TLS_CA: ca }: Static<typeof Environment>): TlsFiles | undefined {
  if (cert !== undefined && key !== undefined) return { cert, key, ca };
  if (cert === undefined && key === undefined && ca === undefined) return undefined;
  const given = Object.entries({ TLS_CERT: cert, TLS_KEY: key, TLS_CA: ca }).filter(([, value]) => value !== undefined);
  const names = given.map(([name]) => name).join(', ');
  throw new Error(`TLS_CERT and TLS_KEY must both be set where one of them or TLS_CA is. Received: ${names}`);
}

function readEnvironment(environment: NodeJS.ProcessEnv): Static<typeof Environment> {
  try {
    return envSchema<Static<typeof Environment>>({
      schema: Environment,
      env: false,
      data: environment,
      ajv: { customOptions: withData },
    });
  } catch (error) {
    const { errors } = error as { errors?: ErrorObject[] };
    if (errors === undefined) throw error;
    const rules = errors.map(({ instancePath, parentSchema, data }) => {
      const { description } = parentSchema as { description: string };
      return `${instancePath.slice(1)} must be ${description}. Received: ${JSON.stringify(String(data))}`;
    });
    throw new Error([...new Set(rules)].join('; '), { cause: error });
  }
}

/** Into the environment itself, so that OpenTelemetry's SDK sees it too; what is set there stays. */
function loadDotenv(): void {
  try {
    process.loadEnvFile();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** So that an error has what came and the schema that it broke. */
function withData(ajv: Ajv): Ajv {
  ajv.opts.verbose = true;
  return ajv;
}
