/**
 * The real server, as a process of its own on a free port: started, called over HTTP, signalled and waited for. Every reply
 * is held against the OpenAPI document, as in api.ts.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseSafetensors } from '../../src/tensor/safetensors.ts';
import { type Answer, type Call, type Json, safetensors } from './api.ts';
import { type OpenapiDocument, OpenapiTruth } from './openapi-truth.ts';

interface Cleanup {
  after(task: () => Promise<unknown>): void;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface LaunchOptions {
  /** Variables beside HOST, PORT (a free one) and LOG_LEVEL; `undefined` takes one away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The working folder; the project's own if left out. */
  readonly cwd?: string;
  /** What node runs; the server of this project if left out. */
  readonly entry?: string;
}

export interface ServerCall extends Call {
  /** Hangs up when it is aborted. */
  readonly signal?: AbortSignal;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
/** For TypeScript, in all threads. */
const loaders = [import.meta.resolve('tsx'), join(root, 'scripts/typescript-threads.mjs')];
/** The built server, which starts in half of the time; set by `npm test`, which builds it first. Else the sources run. */
const built = process.env.BUILT_SERVER;
/** By the first server that is called; all run the same code. */
let truth: Promise<OpenapiTruth> | undefined;

/** A folder that is removed when the test ends. */
export async function temporaryFolder(t: Cleanup): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'adamax-'));
  // Hooks run in their order, so a server may still be writing when this one does.
  t.after(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }));
  return folder;
}

export class ServerProcess {
  /** When the process has ended and all its output has come. */
  readonly exited: Promise<Exit>;
  readonly log: Json[] = [];
  stderr = '';
  readonly #child: ChildProcess;
  readonly #lines = new EventEmitter().setMaxListeners(0);

  constructor({ env = {}, cwd = root, entry = join(root, built ?? 'src/server.ts') }: LaunchOptions) {
    const variables = { ...process.env, HOST: '127.0.0.1', PORT: '0', LOG_LEVEL: 'info', ...env };
    const loader = entry.endsWith('.ts') ? loaders.flatMap((each) => ['--import', each]) : [];
    const child = spawn(process.execPath, [...loader, entry], {
      cwd,
      env: variables,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.log.push(JSON.parse(line));
      this.#lines.emit('line');
    });
    this.exited = once(child, 'close').then(([code, signal]) => {
      this.#lines.emit('line');
      return { code, signal };
    });
  }

  get url(): string {
    const line = this.log.find(({ msg }) => msg.startsWith('Server listening at '));
    assert.ok(line, `the server does not listen: ${this.stderr}`);
    return line.msg.slice('Server listening at '.length);
  }

  /** The first line of the log whose message begins so, as soon as there is one. Fails if the process ends before. */
  async logged(message: string): Promise<Json> {
    for (;;) {
      const line = this.log.find(({ msg }) => msg.startsWith(message));
      if (line !== undefined) return line;
      const ended = this.#child.exitCode !== null || this.#child.signalCode !== null;
      assert.ok(!ended, `the server ended without "${message}": ${this.stderr}`);
      await once(this.#lines, 'line');
    }
  }

  async call(method: string, path: string, { json, bytes, headers = {}, signal }: ServerCall = {}): Promise<Answer> {
    const type = json !== undefined ? 'application/json' : bytes !== undefined ? safetensors : undefined;
    const response = await fetch(new URL(path, this.url), {
      method,
      headers: { ...(type === undefined ? {} : { 'content-type': type }), ...headers },
      body: json === undefined ? (bytes ?? null) : JSON.stringify(json),
      signal: signal ?? null,
    });
    const received = Buffer.from(await response.arrayBuffer());
    const contentType = response.headers.get('content-type')?.split(';', 1)[0];
    truth ??= fetchTruth(this.url);
    (await truth).check(method, path, { status: response.status, contentType, bytes: received });
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      bytes: received,
      get json() {
        return JSON.parse(received.toString());
      },
      get file() {
        return parseSafetensors(received);
      },
    };
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it, and waits until it has. */
  async end(signal: NodeJS.Signals): Promise<Exit> {
    this.kill(signal);
    return this.exited;
  }
}

async function fetchTruth(url: string): Promise<OpenapiTruth> {
  const response = await fetch(new URL('/openapi.json', url));
  return new OpenapiTruth((await response.json()) as OpenapiDocument);
}

/** Starts the process and does not wait for it; it is killed, if it still runs, when the test ends. */
export function launch(t: Cleanup, options: LaunchOptions): ServerProcess {
  const server = new ServerProcess(options);
  t.after(() => server.end('SIGKILL'));
  return server;
}

/** Starts the process over a data folder, and waits until all sessions are back. */
export async function startServer(t: Cleanup, dataDir: string, env: LaunchOptions['env'] = {}): Promise<ServerProcess> {
  const server = launch(t, { env: { DATA_DIR: dataDir, ...env } });
  await server.logged('all sessions recovered');
  return server;
}
