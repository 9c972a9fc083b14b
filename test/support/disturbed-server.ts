/**
 * A server process whose disk fails, and clients that do not give up: each sends its push, with one key, until it is
 * acknowledged, over refusals, broken connections and restarts. What has to hold, whatever failed: every acknowledged push is
 * there exactly once, so the state is that of as many pushes on a server that nothing disturbed.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { type Answer, type Api, type Call, type Json, startApi } from './api.ts';
import type { Fault } from './failing-calls.ts';
import { type ServerProcess, startServer } from './server-process.ts';

/** Long enough for a busy machine; the server itself is to be back within a few seconds. */
const patienceMs = 60_000;

/** One session, and the push that is sent again and again. */
export interface Training {
  readonly creation: Json;
  readonly push: Call;
}

/** The same pushes on a server that nothing disturbs. */
export class Undisturbed {
  readonly #api: Promise<Api>;
  readonly #push: Call;
  readonly #fingerprints: Promise<string>[];

  constructor(t: TestContext, { creation, push }: Training) {
    this.#push = push;
    this.#api = startApi(t);
    this.#fingerprints = [this.#create({ ...creation, durability: 'checkpoint' })];
  }

  /** After so many pushes. */
  fingerprint(iterations: number): Promise<string> {
    while (this.#fingerprints.length <= iterations) this.#fingerprints.push(this.#advance(this.#fingerprints.at(-1)));
    return this.#fingerprints[iterations] as Promise<string>;
  }

  async #create(json: Json): Promise<string> {
    assert.equal((await (await this.#api).call('PUT', '/v1/sessions/s', { json })).status, 201);
    return this.#read();
  }

  async #advance(previous: Promise<string> | undefined): Promise<string> {
    await previous;
    assert.equal((await (await this.#api).call('POST', '/v1/sessions/s/gradients', this.#push)).status, 200);
    return this.#read();
  }

  async #read(): Promise<string> {
    return (await (await this.#api).call('GET', '/v1/sessions/s/fingerprint')).json.sha256;
  }
}

/** The answer to a change that met a failing disk. */
export function assertRefused(answer: Answer, code?: Fault['code']): void {
  const text = answer.bytes.toString();
  const expected = { EIO: [503], ENOSPC: [507] }[code as Fault['code']] ?? [503, 507];
  assert.ok(expected.includes(answer.status), text);
  assert.equal(answer.json.code, answer.status === 507 ? 'insufficient_storage' : 'storage_failed', text);
  assert.notEqual(answer.json.detail ?? '', '', text);
}

export class DisturbedServer {
  /** What the clients were told instead of an acknowledgement. */
  readonly refusals: Answer[] = [];
  /** The counters that the acknowledged pushes got. */
  readonly acknowledged: number[] = [];
  readonly #t: TestContext;
  readonly #dataDir: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #training: Training;
  readonly #undisturbed: Undisturbed;
  #server: ServerProcess | undefined;
  /** How the server ended without having been killed here. */
  #ended: string | undefined;
  /** How often lmdb has ended it, which a page that it cannot write can do: it writes what it has to say beyond its buffer. */
  aborts = 0;
  /** Then the fault is over, and the server is started again. */
  onAbort: () => void = () => undefined;
  #restarting: Promise<void> | undefined;
  #keys = 0;

  private constructor(t: TestContext, dataDir: string, env: Readonly<Record<string, string>>, training: Training) {
    this.#t = t;
    this.#dataDir = dataDir;
    // What happens on a full disk is what these tests are about.
    this.#env = { DISK_FREE_BYTES_MIN: '0', ...env };
    this.#training = training;
    this.#undisturbed = new Undisturbed(t, training);
  }

  /** With its session, `s`. */
  static async start(
    t: TestContext,
    dataDir: string,
    training: Training,
    env: Readonly<Record<string, string>> = {},
  ): Promise<DisturbedServer> {
    const disturbed = new DisturbedServer(t, dataDir, env, training);
    await disturbed.restart();
    const { status, bytes } = await disturbed.call('PUT', '/v1/sessions/s', { json: training.creation });
    assert.equal(status, 201, bytes.toString());
    return disturbed;
  }

  async call(method: string, path: string, call?: Call): Promise<Answer> {
    await this.#restarting;
    assert.ok(this.#server, 'the server must run');
    return this.#server.call(method, path, call);
  }

  /** `kill -9`, at once. */
  async kill(): Promise<void> {
    await this.#restarting;
    const server = this.#server;
    // No client may call its port any more, which can be another one's soon.
    this.#server = undefined;
    await server?.end('SIGKILL');
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.#launch();
  }

  async #launch(): Promise<void> {
    const server = await startServer(this.#t, this.#dataDir, this.#env);
    this.#server = server;
    void server.exited.then(({ code, signal }) => {
      if (this.#server !== server) return;
      if (signal === 'SIGABRT' && server.stderr.includes('Write error')) {
        this.aborts++;
        this.#server = undefined;
        this.onAbort();
        this.#restarting = this.#launch();
      } else this.#ended = `the server ended by itself: ${signal ?? code}. ${server.stderr}`;
    });
  }

  /** Sends a change until it is done; `refused` sees each refusal. */
  async insist(method: string, path: string, call: Call, refused: (answer: Answer) => void): Promise<Answer> {
    const headers = { 'idempotency-key': `key-${++this.#keys}`, ...call.headers };
    for (const start = performance.now(); ; await pause(50)) {
      const answer = await this.#server?.call(method, path, { ...call, headers }).catch((error: Error) => {
        if (error instanceof TypeError) return undefined;
        throw error;
      });
      if (answer !== undefined && answer.status < 300) return answer;
      if (answer !== undefined) refused(answer);
      assert.equal(this.#ended, undefined);
      assert.ok(performance.now() - start < patienceMs, `not done yet: ${answer?.bytes ?? 'no connection'}`);
    }
  }

  /** One push, sent until it is acknowledged. */
  async push(code?: Fault['code']): Promise<void> {
    const { json } = await this.insist('POST', '/v1/sessions/s/gradients', this.#push, (answer) => {
      assertRefused(answer, code);
      assert.ok([false, 'unknown'].includes(answer.json.applied), answer.bytes.toString());
      this.refusals.push(answer);
    });
    this.acknowledged.push(json.iterations);
  }

  /** One push, sent once. */
  pushOnce(): Promise<Answer> {
    const headers = { 'idempotency-key': `key-${++this.#keys}`, ...this.#push.headers };
    return this.call('POST', '/v1/sessions/s/gradients', { ...this.#push, headers });
  }

  get #push(): Call {
    return this.#training.push;
  }

  /** Until one more push is refused, or these are done without. */
  async refused(pushes: Promise<unknown>): Promise<void> {
    const before = this.refusals.length + this.aborts;
    let done = false;
    const end = () => {
      done = true;
    };
    pushes.then(end, end);
    while (!done && this.refusals.length + this.aborts === before) await pause(5);
    if (done) await pushes;
  }

  /** Not by `/readyz`, which writes a file of its own and may be the one that meets the fault. */
  async isReadOnly(): Promise<boolean> {
    return /^adamax_read_only 1$/m.test((await this.call('GET', '/metrics')).bytes.toString());
  }

  /** As long as the disk fails: nothing is changed, everything can be read, and the server says why. */
  async assertReadOnly(code?: Fault['code']): Promise<void> {
    const ready = await this.call('GET', '/readyz');
    assertRefused(ready, code);
    assert.match((await this.call('GET', '/metrics')).bytes.toString(), /^adamax_read_only 1$/m);
    const { read_only } = (await this.call('GET', '/v1/info?section=persistence')).json.persistence;
    assert.deepEqual([read_only.code, read_only.detail.length > 0], [ready.json.code, true]);
    const pushed = await this.pushOnce();
    assertRefused(pushed, code);
    assert.equal(pushed.json.applied, false);
    const created = await this.call('PUT', '/v1/sessions/other', { json: { variables: { w: { values: [1] } } } });
    assertRefused(created, code);
    assert.equal(created.json.applied, false);
    assert.equal((await this.call('GET', '/v1/sessions/other')).status, 404);
    const read = await this.call('GET', '/v1/sessions/s/fingerprint');
    assert.equal(read.status, 200);
    assert.ok(read.json.iterations >= this.acknowledged.length, read.bytes.toString());
    assert.equal(read.json.sha256, await this.#undisturbed.fingerprint(read.json.iterations));
    assert.equal((await this.call('GET', '/v1/sessions/s/variables')).status, 200);
  }

  /** Once the disk is well: the server notices by itself. */
  async assertBack(): Promise<void> {
    for (const start = performance.now(); ; await pause(50)) {
      const ready = await this.call('GET', '/readyz');
      if (ready.status === 200) break;
      assertRefused(ready);
      assert.ok(performance.now() - start < patienceMs / 2, `not back yet: ${ready.bytes}`);
    }
    assert.match((await this.call('GET', '/metrics')).bytes.toString(), /^adamax_read_only 0$/m);
  }

  /** No push is under way: each acknowledged one is there, once, and nothing else is. */
  async assertAgreement(): Promise<void> {
    const count = this.acknowledged.length;
    const counters = [...this.acknowledged].sort((a, b) => a - b);
    assert.deepEqual(
      counters,
      counters.map((_, index) => index + 1),
    );
    const { iterations, sha256 } = (await this.call('GET', '/v1/sessions/s/fingerprint')).json;
    assert.equal(iterations, count);
    const { persistence } = (await this.call('GET', '/v1/info?section=persistence')).json;
    // A killed process would lose nothing, except while the disk fails.
    if (persistence.read_only === null) assert.equal(persistence.sessions[0].written_iterations, count);
    assert.equal(sha256, await this.#undisturbed.fingerprint(count));
  }
}
