/**
 * A session that many clients push to at once while its server is killed again and again, and that one keeper assigns to,
 * patches and writes checkpoints of. Every answer says which step the push was, so that in the end each step is known to be
 * one push, exactly once; then the same inputs, in that order, must give the same bits on a server that is left alone.
 */
import assert from 'node:assert/strict';
import type { Answer } from './api.ts';
import { digestOf, document, headOf, succeeded } from './crash-answers.ts';
import { type CrowdPlan, CrowdRequests, patchOf, rateOf } from './crash-crowd-requests.ts';
import type { Line, Manner, Reply, Request } from './crash-line.ts';
import { below, pick, type Random } from './crash-models.ts';
import type { ServerProcess } from './server-process.ts';

/** One push, made from its client and number; and what was answered. */
export interface Push {
  readonly client: number;
  readonly nth: number;
  /** The steps and patches that were acknowledged before it was sent first. */
  readonly floor: { readonly iterations: number; readonly patches: number };
  iterations: number | undefined;
  rate: number | undefined;
  /** Of the first answer, if that came. */
  revision: number | undefined;
  digest: string | undefined;
}

/** Keys that must still be known, with a margin: the server remembers the last 10,000 of a session. */
const rememberedMin = 8000;

export class Crowd {
  readonly plan: CrowdPlan;
  readonly #requests: CrowdRequests;
  /** By the step that it was, the first at 1. */
  readonly #steps: Push[] = [];
  readonly #pushes: Push[] = [];
  /** `after`: how many steps came before it. */
  readonly #assignments: { nth: number; after: number }[] = [];
  /** `after`: steps acknowledged before it was sent, all of them at an older rate. */
  readonly #patches: { after: number }[] = [{ after: 0 }];
  #acknowledged = { iterations: 0, patches: 0 };

  constructor(plan: CrowdPlan) {
    this.plan = plan;
    this.#requests = new CrowdRequests(plan);
  }

  get steps(): number {
    return this.#pushes.length;
  }

  async create(line: Line): Promise<void> {
    const { durability, checkpointing } = this.plan;
    const request = this.#requests.creation({ durability, checkpointing });
    for (const { answer } of await line.send(request, 'twice', 1)) {
      assert.equal(document(request, answer, 201).durability, durability);
    }
  }

  /** A new push; `nth` is the client's own count. */
  async push(line: Line, client: number, nth: number, manner: Manner, momentMs: number): Promise<Push> {
    const floor = { ...this.#acknowledged };
    const push: Push = {
      client,
      nth,
      floor,
      iterations: undefined,
      rate: undefined,
      revision: undefined,
      digest: undefined,
    };
    this.#pushes.push(push);
    const request = this.#requests.push(push);
    for (const reply of await line.send(request, manner, momentMs)) this.#take(push, request, reply);
    return push;
  }

  /** Sends a push that was answered once more, if its key must still be known. */
  async repeat(line: Line, push: Push): Promise<void> {
    if (this.#acknowledged.iterations - (push.iterations ?? 0) > rememberedMin) return;
    const request = this.#requests.push(push);
    const reply = await line.ask(request);
    assert.ok(reply.replayed, `${this.plan.name}: ${request.key} was answered before, and is not replayed`);
    this.#take(push, request, reply);
  }

  /** The one who changes more than steps do, one thing at a time. */
  async keep(line: Line, random: Random, nth: number): Promise<void> {
    const kind = random();
    const manner = pick(random, ['once', 'once', 'twice', 'impatient'] as const);
    const moment = 1 + below(random, 4);
    if (kind < 0.4) await this.#assign(line, nth, manner, moment);
    else if (kind < 0.8) await this.#patch(line, manner, moment);
    else await this.#checkpoint(line, nth, manner, moment);
  }

  async #assign(line: Line, nth: number, manner: Manner, moment: number): Promise<void> {
    const { name } = this.plan;
    const floor = this.#acknowledged.iterations;
    const request = this.#requests.assignment(nth);
    const places = (await line.send(request, manner, moment)).map(({ answer }) => document(request, answer).iterations);
    const [after] = places;
    for (const each of places) {
      assert.equal(each, after, `${name}: ${request.key} was answered with two counters`);
      assert.ok(each >= floor, `${name}: ${request.key} must come after step ${floor}. Received: ${each}`);
    }
    this.#assignments.push({ nth, after });
    this.#acknowledged.iterations = Math.max(this.#acknowledged.iterations, after);
  }

  async #patch(line: Line, manner: Manner, moment: number): Promise<void> {
    const rate = rateOf(this.#patches.length);
    this.#patches.push({ after: this.#acknowledged.iterations });
    const request = this.#requests.ratePatch(rate);
    for (const { answer } of await line.send(request, manner, moment)) {
      assert.equal(document(request, answer).learning_rate, rate, `${this.plan.name}: ${request.key}`);
    }
    this.#acknowledged.patches = this.#patches.length - 1;
  }

  async #checkpoint(line: Line, nth: number, manner: Manner, moment: number): Promise<void> {
    const floor = this.#acknowledged.iterations;
    const request = this.#requests.checkpoint(nth);
    const infos = (await line.send(request, manner, moment)).map(({ answer }) => document(request, answer, 201));
    for (const { id, iterations } of infos) {
      assert.equal(id, infos[0].id, `${this.plan.name}: ${request.key} was answered with two checkpoints`);
      assert.ok(
        iterations >= floor,
        `${this.plan.name}: a checkpoint must have step ${floor}. Received: ${iterations}`,
      );
    }
  }

  #take(push: Push, request: Request, { answer, replayed }: Reply): void {
    const { name, durability } = this.plan;
    const what = `${name}: ${request.key}`;
    const { iterations, rate, revision } = headOf(request, answer);
    if (push.iterations === undefined) {
      const { floor } = push;
      assert.ok(
        iterations > floor.iterations,
        `${what} must be after step ${floor.iterations}. Received: ${iterations}`,
      );
      const other = this.#steps[iterations];
      if (other !== undefined) {
        assert.fail(`${what} was answered as step ${iterations}, and so was ${this.#requests.push(other).key}`);
      }
      Object.assign(push, { iterations, rate });
      this.#steps[iterations] = push;
      this.#acknowledged.iterations = Math.max(this.#acknowledged.iterations, iterations);
    }
    assert.equal(iterations, push.iterations, `${what} was answered as step ${push.iterations} before`);
    assert.equal(rate, push.rate, `${what} was answered with learning rate ${push.rate} before`);
    if (replayed) return;
    assert.equal(answer.headers.durability, durability, `${what}: Durability`);
    assert.equal(push.revision, undefined, `${what} was answered as new twice`);
    push.revision = revision;
    push.digest = digestOf(answer);
  }

  /** When everything has been answered: each step is one push, and one rate follows another. */
  async settle(line: Line, random: Random): Promise<void> {
    const { name } = this.plan;
    const count = this.#pushes.length;
    let revision = -1;
    let patches = 0;
    for (let step = 1; step <= count; step++) {
      const push = this.#steps[step];
      assert.ok(push, `${name}: no push was step ${step} of ${count}`);
      if (push.revision !== undefined) {
        assert.ok(push.revision > revision, `${name}: step ${step} must have a revision above ${revision}`);
        revision = push.revision;
      }
      const patch = patchOf(push.rate as number);
      const where = `${name}: step ${step} is at the rate of patch ${patch}`;
      assert.ok(patch >= patches && patch < this.#patches.length, `${where}, after one at that of patch ${patches}`);
      assert.ok(
        patch >= push.floor.patches,
        `${where}; that of patch ${push.floor.patches} was acknowledged before it`,
      );
      assert.ok(step > (this.#patches[patch]?.after ?? 0), `${where}, which was not even sent then`);
      patches = patch;
    }
    assert.equal(this.#steps.length, count + 1, `${name}: there are more steps than pushes`);
    const { answer } = await line.ask({ method: 'GET', path: this.#requests.path });
    assert.equal(answer.json.iterations, count, `${name}: iterations must be the number of pushes`);
    assert.equal(answer.json.learning_rate, rateOf(this.#patches.length - 1), `${name}: the last patch must hold`);
    await this.#audit(line, random);
  }

  /** Keys are known to the end, the newest and some older ones, and each for its own body. */
  async #audit(line: Line, random: Random): Promise<void> {
    const known = this.#steps.slice(1).slice(-rememberedMin);
    const some = [...known.slice(0, 20), ...Array.from({ length: 60 }, () => pick(random, known)), ...known.slice(-20)];
    for (const push of some) if (push !== undefined) await this.repeat(line, push);
    const [push] = known;
    if (push === undefined) return;
    const request = {
      ...this.#requests.push({ ...push, nth: push.nth + 1_000_000 }),
      key: this.#requests.push(push).key as string,
    };
    const { answer } = await line.ask(request);
    const problem = answer.status < 400 ? `${answer.status}` : answer.json.code;
    assert.equal(problem, 'idempotency_key_reused', `${this.plan.name}: ${request.key} with another body`);
  }

  /** The same inputs in the same order, once each, on a server that is left alone. */
  async retrace(server: ServerProcess): Promise<void> {
    const { name } = this.plan;
    const call = async (request: Request): Promise<Answer> => {
      const answer = await server.call(request.method, request.path, request.call);
      assert.ok(answer.status < 300, `${request.method} ${request.path}: ${answer.bytes.toString().slice(0, 500)}`);
      return answer;
    };
    const checkpointing = { every_steps: null, every_seconds: null, keep: 1 };
    await call(this.#requests.creation({ durability: 'checkpoint', checkpointing }));
    let [rate, next] = [rateOf(0), 0];
    for (let step = 1; step <= this.#pushes.length + 1; step++) {
      for (; (this.#assignments[next]?.after ?? step) < step; next++) {
        await call(this.#requests.assignment(this.#assignments[next]?.nth as number));
      }
      const push = this.#steps[step];
      if (push === undefined) break;
      if (push.rate !== rate) await call(this.#requests.ratePatch(push.rate as number));
      rate = push.rate as number;
      const request = this.#requests.push(push);
      const answer = await call(request);
      assert.equal(headOf(request, answer).iterations, step);
      if (push.digest === undefined) continue;
      assert.equal(
        push.digest,
        digestOf(answer),
        `${name}: the answer of step ${step}, ${request.key}, has other values`,
      );
    }
  }

  /** What it is like now. */
  async look(server: ServerProcess): Promise<string> {
    const { iterations, sha256 } = (await server.call('GET', `${this.#requests.path}/fingerprint`)).json;
    return `${this.plan.name} ${iterations} ${sha256}`;
  }

  async delete(line: Line): Promise<void> {
    const request = this.#requests.deletion();
    for (const { answer } of await line.send(request, 'twice', 1)) succeeded(request, answer, 204);
  }

  /** Deletes it from the server of the retracing. */
  async forget(server: ServerProcess): Promise<void> {
    await server.call('DELETE', this.#requests.path);
  }
}
