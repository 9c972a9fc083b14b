/** The environment (and a `.env` file) as a frozen Config; nothing else reads it. `.env.example` documents each variable. */
import { totalmem } from 'node:os';
import { envSchema } from 'env-schema';
import { type Static, Type } from 'typebox';
import { bodyBytesMaxDefault } from './limits.ts';

const Environment = Type.Object({
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: Type.Integer({ default: 8080, minimum: 0, maximum: 65_535 }),
  DATA_DIR: Type.String({ default: './data', minLength: 1 }),
  LOG_LEVEL: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], { default: 'info' }),
  BODY_BYTES_MAX: Type.Integer({ default: bodyBytesMaxDefault, minimum: 1024, maximum: bodyBytesMaxDefault }),
  MEMORY_BYTES_MAX: Type.Optional(Type.Integer({ minimum: 1 })),
  SHUTDOWN_TIMEOUT_MS: Type.Integer({ default: 30_000, minimum: 1 }),
  AUTH_FILE: Type.Optional(Type.String()),
});

export interface Config {
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  readonly logLevel: string;
  /** A decoded request body, bytes. */
  readonly bodyBytesMax: number;
  /** Memory for the variables and slots of all sessions, bytes. */
  readonly memoryBytesMax: number;
  /** How long a shutdown may wait for requests and checkpoints. */
  readonly shutdownTimeoutMs: number;
}

/** Throws an error that names the variable and its rule. */
export function readConfig(environment: NodeJS.ProcessEnv = process.env): Config {
  const values = envSchema<Static<typeof Environment>>({
    schema: Environment,
    data: environment,
    dotenv: environment === process.env,
  });
  if (values.AUTH_FILE !== undefined) {
    throw new Error('AUTH_FILE must not be set: this version of the server does not check tokens');
  }
  return Object.freeze({
    host: values.HOST,
    port: values.PORT,
    dataDir: values.DATA_DIR,
    logLevel: values.LOG_LEVEL,
    bodyBytesMax: values.BODY_BYTES_MAX,
    memoryBytesMax: values.MEMORY_BYTES_MAX ?? Math.floor(0.8 * machineMemory()),
    shutdownTimeoutMs: values.SHUTDOWN_TIMEOUT_MS,
  });
}

/** What the container may use or, outside one, what the machine has. */
function machineMemory(): number {
  const constrained = process.constrainedMemory() ?? 0;
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}
