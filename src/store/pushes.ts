/**
 * The ways in which workers share a session (api: aggregation). A push is a step of its own, on arrival or when its worker is
 * within reach of the others, or it waits at the barrier until there are enough for one step. The rules are looked at in
 * its turn, so that they hold for the session as the step finds it; who waits comes back for another turn.
 */
import { Problem } from '../errors.ts';
import type { SspAggregation, SyncAggregation } from '../session/aggregation.ts';
import type { CheckedGradient, Slices } from '../session/gradient.ts';
import type { Position } from '../session/session.ts';
import type { Origin } from '../session/workers.ts';
import { type Applied, hungUp, timedOut } from './barrier.ts';
import { stepTogether } from './joint-step.ts';
import type { LiveSession } from './live-session.ts';
import { setQuarantined } from './quarantine.ts';
import type { StepReply, StepRequest } from './requests.ts';
import { needed, rateDivisor, requirePast, stale } from './staleness.ts';
import { WorkerWatch } from './worker-watch.ts';

/** Waits until the session is at another revision, for so long at most, or until the signal is aborted. */
type WaitForChange = (revision: number, milliseconds: number, gone: AbortSignal | undefined) => Promise<void>;

interface Push {
  readonly gradients: ReadonlyMap<string, Slices>;
  readonly request: StepRequest;
  readonly reply: StepReply;
  /** When it came, and when its worker was last heard of before, by `performance.now()`. */
  readonly since: number;
  readonly heard: number | undefined;
  staleness: number | undefined;
  /** The milliseconds that it has waited and been checked for, up to `at`, by `performance.now()`. */
  waited: number;
  checked: number;
  at: number;
  /** Its gradients are not finite. */
  isBad: boolean;
  /** If it has to wait: until it has been applied with others or, `undefined`, may ask again. */
  waiting: Promise<Applied | undefined> | undefined;
}

export class Pushes {
  readonly watch = new WorkerWatch();
  readonly #live: LiveSession;
  readonly #waitForChange: WaitForChange;
  /** Where workers come to by steps that are admitted and not applied. */
  readonly #clocks = new Map<string, number>();
  #closed: Problem | undefined;

  constructor(live: LiveSession, waitForChange: WaitForChange) {
    this.#live = live;
    this.#waitForChange = waitForChange;
  }

  /** Applies gradients, by themselves or with others'. Throws what keeps them from it. */
  async push(gradients: ReadonlyMap<string, Slices>, request: StepRequest, reply: StepReply): Promise<Applied> {
    const push = this.#arrived(gradients, request, reply);
    try {
      const applied = await this.#untilApplied(push);
      this.#noteApplied(push);
      return applied;
    } catch (error) {
      await this.#noteRefused(push, error);
      throw error;
    }
  }

  /** Nobody waits for others any more, neither who does now nor who would; they are told why. */
  close(problem: Problem): void {
    this.#closed = problem;
    this.#live.barrier.fail(problem);
  }

  #arrived(gradients: Push['gradients'], request: StepRequest, reply: StepReply): Push {
    const { worker } = request;
    const heard = worker === undefined ? undefined : this.watch.heard(worker);
    if (worker !== undefined) this.watch.see(worker);
    const since = performance.now();
    return {
      gradients,
      request,
      reply,
      since,
      heard,
      staleness: undefined,
      waited: 0,
      checked: since - (request.receivedAt ?? since),
      at: since,
      isBad: false,
      waiting: undefined,
    };
  }

  async #untilApplied(push: Push): Promise<Applied> {
    for (;;) {
      const applied = await this.#live.turns.step(() => this.#admit(push));
      if (applied !== undefined) return applied;
      const { worker } = push.request;
      const watched = this.watch.see(worker as string);
      watched.waiting++;
      push.request.aside?.(push.waiting as Promise<unknown>);
      this.watch.waiting++;
      try {
        const together = await push.waiting;
        if (together !== undefined) {
          push.waited += performance.now() - push.at;
          return together;
        }
      } finally {
        watched.waiting--;
        this.watch.waiting--;
        this.watch.see(worker as string);
      }
    }
  }

  /** In its turn: what is to be done in the next one, or nothing if the push has to wait. */
  async #admit(push: Push): Promise<(() => Promise<Applied>) | undefined> {
    const { session, next: from } = this.#live;
    const { precondition, worker, base } = push.request;
    const now = performance.now();
    push.waited += now - push.at;
    push.at = now;
    await this.#live.requireChangeable(precondition, from.revision);
    this.#requireTrusted(worker);
    requirePast(base, from);
    push.staleness = base === undefined ? undefined : from.iterations - base;
    const { aggregation } = session.contents.settings;
    switch (aggregation.mode) {
      case 'async':
        return this.#step(push, from, undefined, rateDivisor(aggregation, push.staleness, from));
      case 'ssp': {
        const clock = this.#clockOf(push, aggregation);
        return clock === undefined ? undefined : this.#step(push, from, clock, 1);
      }
      case 'sync':
        return this.#join(push, from, aggregation);
    }
  }

  #requireTrusted(worker: string | undefined): void {
    if (worker === undefined || this.#live.session.contents.workers.get(worker)?.quarantined !== true) return;
    const rule = 'a worker whose gradients were not finite time after time must be released before it pushes again';
    throw new Problem('worker_quarantined', `${rule}. Received: a push of ${JSON.stringify(worker)}`);
  }

  async #check(push: Push): Promise<CheckedGradient[]> {
    try {
      const checked = await this.#live.session.check(push.gradients);
      noteChecked(push);
      return checked;
    } catch (error) {
      push.isBad = error instanceof Problem && error.code === 'gradient_not_finite';
      throw error;
    }
  }

  /** A step of this push alone. */
  async #step(push: Push, from: Position, clock: number | undefined, divisor: number): Promise<() => Promise<Applied>> {
    const { gradients, request, reply, staleness } = push;
    const { worker, key } = request;
    const isKnown = worker !== undefined || staleness !== undefined;
    const origin: Origin = { by: isKnown ? [{ worker, staleness, clock }] : [], rateDivisor: divisor };
    const checked = await this.#check(push);
    const keys = key === undefined ? [] : [key];
    const input = { gradients, checked, origin, keys, arrived: request.arrived, receive: reply.receive };
    const admitted = await this.#live.admit(input, from);
    request.hold?.(admitted.committed);
    if (clock !== undefined) this.#clocks.set(worker as string, clock);
    return async () => {
      try {
        await admitted.acknowledged;
        reply.begin?.(admitted.level, false);
        return { head: await admitted.apply(reply.progress), reply };
      } finally {
        if (clock !== undefined && this.#clocks.get(worker as string) === clock) this.#clocks.delete(worker as string);
      }
    };
  }

  /**
   * The worker's clock after this step; `undefined` if it has to wait for the slowest. One that is new, or was silent for so long
   * that the others did not wait for it, goes on where the slowest is.
   */
  #clockOf(push: Push, { max_lead, worker_timeout_ms, timeout_ms }: SspAggregation): number | undefined {
    const { worker, gone } = push.request;
    if (worker === undefined) throw needed('"worker" where workers keep within reach of each other', 'none');
    const { workers } = this.#live.session.contents;
    const now = performance.now();
    const others = this.#others(worker, worker_timeout_ms, now);
    const own = this.#clocks.get(worker) ?? workers.get(worker)?.clock;
    const wasSilent = push.heard !== undefined && push.heard + worker_timeout_ms <= push.since;
    const joined = Number.isFinite(others.slowest) ? others.slowest - 1 : 0;
    const clock = own === undefined || wasSilent ? Math.max(own ?? 0, joined) : own;
    if (clock - others.slowest <= max_lead) return clock + 1;
    const signal = gone?.();
    if (signal?.aborted) throw hungUp();
    if (this.#closed !== undefined) throw this.#closed;
    const end = push.since + timeout_ms;
    if (now >= end) throw timedOut(`worker ${JSON.stringify(worker)}, ${clock - others.slowest} steps ahead`);
    const wait = Math.min(end, others.silent) - now;
    push.waiting = this.#waitForChange(this.#live.session.revision, wait, signal).then(() => undefined);
    return undefined;
  }

  /** The clock of the slowest of the others that are not silent (if any: infinite), and when the first of them will be. */
  #others(worker: string, timeoutMs: number, now: number): { slowest: number; silent: number } {
    let slowest = Number.POSITIVE_INFINITY;
    let silent = Number.POSITIVE_INFINITY;
    for (const [name, { clock }] of this.#live.session.contents.workers.entries()) {
      if (name === worker || clock === undefined) continue;
      const at = this.watch.silentAt(name, timeoutMs);
      if (at <= now) continue;
      slowest = Math.min(slowest, clock);
      silent = Math.min(silent, at);
    }
    return { slowest, silent };
  }

  /** To the barrier; the last one whose gradients are needed makes the step for all. */
  async #join(push: Push, from: Position, rule: SyncAggregation): Promise<(() => Promise<Applied>) | undefined> {
    const { request, reply } = push;
    const { worker, base } = request;
    const { barrier } = this.#live;
    if (worker === undefined || base === undefined) {
      const lacking = [worker === undefined ? ['no "worker"'] : [], base === undefined ? ['no "base"'] : []].flat();
      throw needed('"worker" and "base" where gradients are aggregated', lacking.join(', '));
    }
    if (base < from.iterations) {
      throw stale(`base must be the session's iterations, ${from.iterations}. Received: ${base}`, from);
    }
    if (barrier.has(worker)) {
      const received = `a second one of ${JSON.stringify(worker)} for iteration ${base}`;
      throw stale(`the gradients of one step must be of different workers. Received: ${received}`, from);
    }
    const deadline = push.since + rule.timeout_ms;
    if (performance.now() >= deadline) throw timedOut(`${barrier.size} of the gradients that make the step`);
    const checked = await this.#check(push);
    if (this.#closed !== undefined && barrier.size + 1 < rule.replicas_to_aggregate) throw this.#closed;
    push.waiting = barrier.join({ worker, request, reply, checked, deadline });
    push.waiting.catch(() => undefined);
    if (barrier.size < rule.replicas_to_aggregate) return undefined;
    return stepTogether(this.#live, barrier.take(), from, rule, reply, () => noteChecked(push));
  }

  #noteApplied({ request: { worker }, staleness, waited, checked }: Push): void {
    const { stages } = this.#live.figures;
    stages.wait.observe(waited / 1000);
    stages.check.observe(checked / 1000);
    if (staleness !== undefined) this.watch.staleness.observe(staleness);
    const watched = worker === undefined ? undefined : this.watch.get(worker);
    if (watched !== undefined) watched.bad = 0;
  }

  async #noteRefused({ request: { worker }, isBad }: Push, error: unknown): Promise<void> {
    if (worker === undefined || !(error instanceof Problem)) return;
    const watched = this.watch.see(worker);
    if (error.status < 500) {
      watched.rejected++;
      this.watch.rejected++;
    }
    if (!isBad) return;
    watched.bad++;
    const { quarantine_after } = this.#live.session.contents.settings.aggregation;
    if (quarantine_after === undefined || watched.bad < quarantine_after) return;
    try {
      await setQuarantined(this.#live, worker, true);
      watched.bad = 0;
    } catch {
      // Its next one that is not finite brings it here again.
    }
  }
}

/** What a push has done since `at` was to be checked. */
function noteChecked(push: Push): void {
  const now = performance.now();
  push.checked += now - push.at;
  push.at = now;
}
