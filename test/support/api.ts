/**
 * The server under test: an app over a temporary data folder, called through supertest, every reply held against the
 * OpenAPI document.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { type Logger, pino } from 'pino';
import supertest from 'supertest';
import { build } from '../../src/app.ts';
import { type Config, readConfig } from '../../src/config.ts';
import { Store, type StoreConfig } from '../../src/store/store.ts';
import { layoutSafetensors, parseSafetensors, type SafetensorsFile } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { type OpenapiDocument, OpenapiTruth } from './openapi-truth.ts';

/** Parsed JSON, to be read member by member; a test that reads wrongly fails at its assertion. */
export type Json = ReturnType<typeof JSON.parse>;

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly bytes: Buffer;
  /** The body as JSON; throws if it is none. */
  readonly json: Json;
  /** The body as a safetensors file; throws if it is none. */
  readonly file: SafetensorsFile;
}

export interface Call {
  readonly json?: unknown;
  readonly bytes?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Api {
  readonly app: FastifyInstance;
  readonly store: Store;
  readonly folder: string;
  call(method: string, path: string, call?: Call): Promise<Answer>;
  /** Stops the server and starts another on the same folder. */
  restart(): Promise<Api>;
}

export const safetensors = 'application/vnd.safetensors';

/** Starts a server that is stopped, and its folder removed, when the test (or, with node:test itself, the file) ends. */
export async function startApi(
  t: { after(task: () => Promise<void>): void },
  overrides: Partial<Config & StoreConfig> = {},
  folder?: string,
  log: Logger = pino({ level: 'silent' }),
): Promise<Api> {
  const dataDir = folder ?? (await mkdtemp(join(tmpdir(), 'adamax-')));
  const closing: (() => Promise<void>)[] = [];
  // In one hook: where one fails, those behind it do not run, and an open server keeps the process.
  t.after(async () => {
    for (const close of closing) await close();
    if (folder === undefined) await rm(dataDir, { recursive: true, force: true });
  });
  return openApi(dataDir, overrides, log, closing);
}

/** A server on a folder of its own, whose sessions are still to be recovered. */
export async function unrecovered(
  t: { after(task: () => Promise<void>): void },
  { folder }: Api,
): Promise<{ app: FastifyInstance; store: Store }> {
  const log = pino({ level: 'silent' });
  const config = readConfig({ DATA_DIR: join(folder, 'unrecovered') });
  const store = await Store.open(config, log);
  const app = await build(config, store, log);
  t.after(async () => {
    await app.close();
    await store.close();
  });
  return { app, store };
}

async function openApi(
  dataDir: string,
  overrides: Partial<Config & StoreConfig>,
  log: Logger,
  closing: (() => Promise<void>)[],
): Promise<Api> {
  const config = { ...readConfig({ DATA_DIR: dataDir }), ...overrides };
  const store = await Store.open(config, log);
  await store.recover();
  const app = await build(config, store, log);
  await app.ready();
  await app.listen({ host: '127.0.0.1', port: 0 });
  const truth = new OpenapiTruth(app.swagger() as unknown as OpenapiDocument);
  let open = true;
  const close = async (): Promise<void> => {
    if (!open) return;
    open = false;
    await app.close();
    await store.close();
  };
  closing.push(close);
  return {
    app,
    store,
    folder: dataDir,
    call: (method, path, call = {}) => callApi(app, truth, method, path, call),
    async restart() {
      await close();
      return openApi(dataDir, overrides, log, closing);
    },
  };
}

async function callApi(
  app: FastifyInstance,
  truth: OpenapiTruth,
  method: string,
  path: string,
  { json, bytes, headers = {} }: Call,
): Promise<Answer> {
  const request = supertest(app.server)[method.toLowerCase() as 'post'](path);
  if (json !== undefined) request.set('content-type', 'application/json');
  if (bytes !== undefined) request.set('content-type', safetensors);
  // Bytes go as they are, whatever their Content-Type; supertest would write a Buffer of JSON as JSON.
  request.serialize((body) => body);
  request.set(headers).buffer(true).parse(collect);
  const body =
    json === undefined ? bytes && Buffer.from(bytes) : typeof json === 'string' ? json : JSON.stringify(json);
  const response = await (body === undefined ? request : request.send(body));
  const received: Buffer = Buffer.isBuffer(response.body) ? response.body : Buffer.alloc(0);
  const contentType = response.headers['content-type']?.split(';', 1)[0];
  truth.check(method, path, { status: response.status, contentType, bytes: received });
  return {
    status: response.status,
    headers: response.headers,
    bytes: received,
    get json() {
      return JSON.parse(received.toString());
    },
    get file() {
      return parseSafetensors(received);
    },
  };
}

function collect(response: unknown, done: (error: Error | null, body: Buffer) => void): void {
  const chunks: Buffer[] = [];
  const stream = response as NodeJS.ReadableStream;
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('end', () => done(null, Buffer.concat(chunks)));
}

/** A safetensors file of these tensors. */
export function encodeFile(tensors: Readonly<Record<string, Tensor>>, metadata: Record<string, string> = {}): Buffer {
  const plans = Object.entries(tensors).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const layout = layoutSafetensors(metadata, plans);
  const file = Buffer.alloc(layout.totalBytes);
  file.set(layout.header);
  for (const [name, { bytes }] of Object.entries(tensors)) file.set(bytes, layout.offsets.get(name) as number);
  return file;
}

export function f32(values: readonly number[], shape: readonly number[] = [values.length]): Tensor<'F32'> {
  return { dtype: 'F32', shape, bytes: new Uint8Array(new Float32Array(values).buffer) };
}

export function f64(values: readonly number[], shape: readonly number[] = [values.length]): Tensor<'F64'> {
  return { dtype: 'F64', shape, bytes: new Uint8Array(new Float64Array(values).buffer) };
}

export function i64(values: readonly number[], shape: readonly number[] = [values.length]): Tensor<'I64'> {
  return { dtype: 'I64', shape, bytes: new Uint8Array(BigInt64Array.from(values, BigInt).buffer) };
}

/** The values of an F32 or F64 tensor. */
export function numbers({ dtype, bytes }: Tensor): number[] {
  const copy = Uint8Array.from(bytes).buffer;
  return Array.from(dtype === 'F64' ? new Float64Array(copy) : new Float32Array(copy));
}
