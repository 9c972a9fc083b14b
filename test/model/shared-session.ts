/**
 * The model: a session that workers share, as docs/many-workers.md tells it, with no time and nothing at once. Requests
 * arrive, and `settle` says what becomes of each that is not answered; who waits asks again after every change. In which order
 * those are answered that a change lets go at once is left open: the one that was seen is taken, if the rules allow it.
 */
import type { ProblemCode } from '../../src/errors.ts';
import type { Aggregation, AsyncAggregation, SspAggregation, SyncAggregation } from '../../src/session/aggregation.ts';
import { type Hyperparameters, referenceRate } from '../support/reference-adamax.ts';
import { areFinite, type Gradient, type Gradients, reducePlainly } from './plain-reduction.ts';
import type { Part, PlainVariables, Values } from './plain-variables.ts';

export interface Push {
  readonly worker: string;
  readonly base: number | undefined;
  readonly gradients: Gradients;
  readonly key: string | undefined;
  /** The revision that it asks for. */
  readonly ifMatch: number | undefined;
}

export interface Applied {
  readonly code: 'applied' | 'replayed';
  readonly iterations: number;
  readonly rate: number;
  /** Not of a repeat, which has those of now. */
  readonly variables?: Readonly<Record<string, Values>>;
}

export type Outcome = Applied | { readonly code: ProblemCode };

interface Worker {
  steps: number;
  last: number | undefined;
  clock: number | undefined;
  quarantined: boolean;
  /** Gradients in a row that were not finite; the server alone knows it, not its disk. */
  bad: number;
}

export class SharedSession {
  readonly variables: PlainVariables;
  readonly config: Hyperparameters;
  rules: Aggregation;
  iterations = 0;
  revision = 0;
  /** Whoever would have to wait has waited for too long. */
  isOver = false;
  /** Not answered, in the order in which they came. */
  readonly pending = new Set<Push>();
  readonly #workers = new Map<string, Worker>();
  readonly #keys = new Map<string, Applied>();
  /** Those who wait for others to make a step with, while they are looked at. */
  #barrier: Push[] = [];
  #outcomes = new Map<Push, Outcome>();

  constructor(variables: PlainVariables, config: Hyperparameters, rules: Aggregation) {
    this.variables = variables;
    this.config = config;
    this.rules = rules;
  }

  /** What becomes of those that do not wait on. `seen`: those that were seen to be applied, in that order. */
  settle(seen: readonly Push[]): ReadonlyMap<Push, Outcome> {
    this.#outcomes = new Map();
    const order = [...seen, ...[...this.pending].filter((push) => !seen.includes(push))];
    for (let before = -1; before < this.#progress; ) {
      before = this.#progress;
      this.#barrier = [];
      const held = new Set<string>();
      for (const push of order) {
        if (this.#outcomes.has(push) || (push.key !== undefined && held.has(push.key))) continue;
        this.#ask(push);
        if (push.key !== undefined && !this.#outcomes.has(push)) held.add(push.key);
      }
    }
    for (const push of this.#outcomes.keys()) this.pending.delete(push);
    return this.#outcomes;
  }

  /** Grows with all that others might have waited for. */
  get #progress(): number {
    return this.#outcomes.size + this.revision;
  }

  patch(rules: Aggregation): void {
    if (rules.mode !== this.rules.mode) for (const worker of this.#workers.values()) worker.clock = undefined;
    this.rules = rules;
    this.revision++;
  }

  setIterations(iterations: number): void {
    this.iterations = iterations;
    this.revision++;
  }

  assign(part: Part, name: string, values: Gradient): void {
    this.variables.assign(part, name, values);
    this.revision++;
  }

  release(name: string): void {
    const worker = this.#workers.get(name);
    if (!worker?.quarantined) return;
    worker.quarantined = false;
    this.revision++;
  }

  /** Another server has it now, which knows what is on the disk. */
  restart(): void {
    this.pending.clear();
    for (const worker of this.#workers.values()) worker.bad = 0;
  }

  isWaiting(name: string): boolean {
    return [...this.pending].some(({ worker }) => worker === name);
  }

  /** As `GET workers` has them, of those who had a part in a step, or are put aside. */
  get workers(): object {
    const known = [...this.#workers].filter(([, { steps, quarantined }]) => steps > 0 || quarantined);
    return Object.fromEntries(
      known.sort().map(([name, { steps, last, quarantined }]) => [name, { steps, last: last ?? null, quarantined }]),
    );
  }

  #ask(push: Push): void {
    const known = push.key === undefined ? undefined : this.#keys.get(push.key);
    if (known !== undefined) this.#outcomes.set(push, known);
    else this.#refuse(push, this.#admit(push));
  }

  /** Takes its step, if it may, or lets it wait; or says why it is refused. */
  #admit(push: Push): ProblemCode | undefined {
    if (push.ifMatch !== undefined && push.ifMatch !== this.revision) return 'precondition_failed';
    if (this.#worker(push).quarantined) return 'worker_quarantined';
    if (push.base !== undefined && push.base > this.iterations) return 'invalid_argument';
    switch (this.rules.mode) {
      case 'async':
        return this.#admitAsync(push, this.rules);
      case 'ssp':
        return this.#admitSsp(push, this.rules);
      case 'sync':
        return this.#admitSync(push, this.rules);
    }
  }

  #admitAsync(
    push: Push,
    { max_staleness: most, staleness_policy: policy }: AsyncAggregation,
  ): ProblemCode | undefined {
    const isAsked = most !== undefined || policy === 'scale';
    if (isAsked && push.base === undefined) return 'invalid_parameter';
    const staleness = this.iterations - (push.base ?? this.iterations);
    const isStale = isAsked && staleness > (most ?? 0);
    if (isStale && policy !== 'scale') return 'gradient_stale';
    return this.#misfit(push) ?? this.#step([push], push.gradients, isStale ? staleness : 1);
  }

  #admitSsp(push: Push, { max_lead }: SspAggregation): ProblemCode | undefined {
    const worker = this.#worker(push);
    const others = [...this.#workers.values()].flatMap((each) => (each === worker ? [] : (each.clock ?? [])));
    const slowest = Math.min(...others);
    // Who is new goes on where the slowest is.
    const clock = worker.clock ?? (others.length > 0 ? slowest - 1 : 0);
    if (clock - slowest > max_lead) return this.isOver ? 'aggregation_timeout' : undefined;
    const misfit = this.#misfit(push);
    if (misfit !== undefined) return misfit;
    worker.clock = clock + 1;
    return this.#step([push], push.gradients, 1);
  }

  #admitSync(push: Push, rules: SyncAggregation): ProblemCode | undefined {
    if (push.base === undefined) return 'invalid_parameter';
    const isSecond = this.#barrier.some(({ worker }) => worker === push.worker);
    if (push.base < this.iterations || isSecond) return 'gradient_stale';
    if (this.isOver) return 'aggregation_timeout';
    const misfit = this.#misfit(push);
    if (misfit !== undefined) return misfit;
    this.#barrier.push(push);
    return this.#barrier.length === rules.replicas_to_aggregate ? this.#stepTogether(rules) : undefined;
  }

  /** Where it comes to nothing, all of them are told why. */
  #stepTogether({ reduction }: SyncAggregation): undefined {
    const members = this.#barrier.sort((a, b) => (a.worker < b.worker ? -1 : 1));
    this.#barrier = [];
    const { shapes } = this.variables;
    const gradients = members.map((push) => push.gradients);
    const reduced = reducePlainly(gradients, shapes, reduction === 'mean' ? members.length : 1);
    if (areFinite(reduced, shapes)) return this.#step(members, reduced, 1);
    for (const push of members) this.#refuse(push, 'gradient_not_finite');
    return undefined;
  }

  #step(pushes: readonly Push[], gradients: Gradients, divisor: number): undefined {
    const rate = referenceRate(this.config, this.iterations, divisor);
    const variables = this.variables.step(gradients, this.config, this.iterations, divisor);
    for (const push of pushes) this.#noteStep(push);
    this.iterations++;
    this.revision++;
    const { iterations } = this;
    for (const push of pushes) {
      if (push.key !== undefined) this.#keys.set(push.key, { code: 'replayed', iterations, rate });
      this.#outcomes.set(push, { code: 'applied', iterations, rate, variables });
    }
  }

  #noteStep(push: Push): void {
    const worker = this.#worker(push);
    worker.steps++;
    worker.bad = 0;
    if (push.base !== undefined) worker.last = this.iterations - push.base;
  }

  /** Who sends gradients that are not finite too often is put aside, and not among the others any more. */
  #misfit(push: Push): ProblemCode | undefined {
    if (areFinite(push.gradients, this.variables.shapes)) return undefined;
    const worker = this.#worker(push);
    worker.bad++;
    const { quarantine_after } = this.rules;
    if (quarantine_after !== undefined && worker.bad >= quarantine_after) {
      Object.assign(worker, { bad: 0, quarantined: true, clock: undefined });
      this.revision++;
    }
    return 'gradient_not_finite';
  }

  #refuse(push: Push, code: ProblemCode | undefined): void {
    if (code !== undefined) this.#outcomes.set(push, { code });
  }

  #worker({ worker: name }: Push): Worker {
    const known = this.#workers.get(name);
    if (known !== undefined) return known;
    const worker = { steps: 0, last: undefined, clock: undefined, quarantined: false, bad: 0 };
    this.#workers.set(name, worker);
    return worker;
  }
}
