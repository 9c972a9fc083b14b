/**
 * A session: variables, their slots, an optimizer's configuration and a counter, as a deterministic state machine. Each
 * input is checked whole and then applied, with no disk, clock or random source: the same inputs in the same order give
 * the same bits, however many threads do the work. The caller sees to it that one call is over before the next begins.
 * Queues, files and formats are left to the floors above.
 */
import assert from 'node:assert/strict';
import type { Values } from '../kernel/blocks.ts';
import type { Part } from '../kernel/extent.ts';
import { type Executor, here, type Progress } from '../kernel/threads.ts';
import type { Work } from '../kernel/work.ts';
import { applyUpdates } from '../optimizer/adamax.ts';
import { type AdamaxConfig, mergeOptimizerConfig } from '../optimizer/adamax-config.ts';
import { learningRateAt } from '../optimizer/scalars.ts';
import { elementCount } from '../tensor/tensor.ts';
import { type CheckedAssignments, checkAssignments } from './assignment.ts';
import { type CheckedGradient, checkGradients, checkRows, findVariable, type Slices } from './gradient.ts';
import { RecentChanges } from './recent-changes.ts';
import { reduceGradients } from './reduction.ts';
import type { SessionSettings, SettingsPatch } from './settings.ts';
import { mergeSettings } from './settings.ts';
import type { Variable } from './variable.ts';
import { noOrigin, type Origin, type Workers } from './workers.ts';

/** All that a checkpoint keeps and a restore brings back. */
export interface SessionContents {
  readonly variables: ReadonlyMap<string, Variable>;
  readonly optimizer: AdamaxConfig;
  /** Applied steps, t. */
  readonly iterations: number;
  readonly settings: SessionSettings;
  /** Changed in place by every step. */
  readonly workers: Workers;
}

/** What every reply about a session's tensors says of it. */
export interface Head {
  readonly session: string;
  readonly revision: number;
  readonly iterations: number;
  /** The rate that the step used or, where there was none, that the next one will use. */
  readonly learningRate: number;
  /** Of what has changed since a revision: whether it is everything, since the session can no longer tell. */
  readonly complete?: boolean;
}

/** Where a session stands. */
export interface Position {
  readonly revision: number;
  readonly iterations: number;
}

/** A variable to be read, whole or some `rows` of it in the order given. */
export interface Selection {
  readonly variable: string;
  readonly rows?: ArrayLike<number>;
}

/** A tensor about to be read out: `[rows.length, ...]` if rows are named. */
export interface Outgoing extends Selection {
  readonly shape: readonly number[];
  readonly dtype: Variable['dtype'];
}

/** Told what is about to be read, answers with the places that the values are to be put; none for those that nobody wants. */
export type Receive = (head: Head, tensors: readonly Outgoing[]) => readonly Values[];

/** A step that is ready to be applied, and where it leads. */
export interface Step {
  readonly head: Head;
  readonly checked: readonly CheckedGradient[];
  readonly updates: Parameters<typeof applyUpdates>[2];
  readonly origin: Origin;
}

/** What a patch can change of a session. */
export type Configuration = Pick<SessionContents, 'optimizer' | 'iterations' | 'settings'>;

export interface SessionPatch extends SettingsPatch {
  readonly optimizer?: { readonly config?: unknown };
  readonly iterations?: number;
}

export class Session {
  readonly name: string;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
  #contents: SessionContents;
  #revision: number;
  readonly #changes: RecentChanges;
  readonly #executor: Executor;

  /** `executor` does what is heavy; by default the calling thread. */
  constructor(name: string, createdAt: string, contents: SessionContents, revision: number, executor: Executor = here) {
    this.name = name;
    this.createdAt = createdAt;
    this.#contents = contents;
    this.#revision = revision;
    this.#changes = new RecentChanges(revision);
    this.#executor = executor;
  }

  get contents(): SessionContents {
    return this.#contents;
  }

  get revision(): number {
    return this.#revision;
  }

  get position(): Position {
    return { revision: this.#revision, iterations: this.#contents.iterations };
  }

  get head(): Head {
    const { optimizer, iterations } = this.#contents;
    return {
      session: this.name,
      revision: this.#revision,
      iterations,
      learningRate: learningRateAt(optimizer, iterations),
    };
  }

  /** Changes nothing; throws for gradients that do not fit. */
  async check(gradients: ReadonlyMap<string, Slices>): Promise<CheckedGradient[]> {
    const { variables, optimizer } = this.#contents;
    return checkGradients(variables, gradients, optimizer.clipvalue, this.#executor);
  }

  /**
   * One step by gradients that `check` has passed, to be applied when the session stands at `from`. `receive` may give places
   * for the updated values, or none; what it throws is passed on, and nothing fails after it.
   */
  prepare(
    checked: readonly CheckedGradient[],
    receive: Receive,
    { revision, iterations }: Position = this.position,
    origin: Origin = noOrigin,
  ): Step {
    const { optimizer } = this.#contents;
    const head = {
      session: this.name,
      revision: revision + 1,
      iterations: iterations + 1,
      learningRate: learningRateAt(optimizer, iterations, origin.rateDivisor),
    };
    const places = receive(
      head,
      checked.map(({ variable, slices }) => outgoing(variable, slices?.rows)),
    );
    const updates = checked.map(({ variable: { memory }, values, slices, scan }, k) => {
      return { memory, values, slices, scan, updated: places[k] };
    });
    return { head, checked, updates, origin };
  }

  /**
   * Takes a step, and resolves to the sum of squares of what it has changed the variables by. `progress` is told as the values of
   * dense gradients come to their places.
   */
  async apply({ head, checked, updates, origin }: Step, progress?: Progress): Promise<number> {
    const { variables, optimizer, iterations, settings, workers } = this.#contents;
    assert(head.iterations === iterations + 1, 'steps must be applied in the order in which they were prepared');
    const changed = await applyUpdates(optimizer, iterations, updates, this.#executor, origin.rateDivisor, progress);
    this.#contents = { variables, optimizer, iterations: head.iterations, settings, workers };
    for (const contributor of origin.by) workers.note(contributor);
    for (const { variable, slices } of checked) this.#changes.note(head.revision, variable, slices?.rows);
    this.#revision = head.revision;
    return changed;
  }

  /**
   * What several gradients that `check` has passed come to, in the order given: their sum, divided by `divisor`. Its values are in
   * memory that `take` gives for them. Changes nothing.
   */
  reduce(
    gradients: readonly (readonly CheckedGradient[])[],
    divisor: number,
    take: (bytes: number) => Uint8Array,
  ): Promise<Map<string, Slices>> {
    return reduceGradients(gradients, divisor, this.#executor, take);
  }

  /**
   * Reads of these variables (or of all) what has changed since the session was at `revision`: rows where only some have. Where
   * that is not known any more, everything. The head says which.
   */
  readSince(revision: number, names: readonly string[] | undefined, receive: Receive): Promise<Head> {
    const { variables } = this.#contents;
    const isKnown = this.#changes.reaches(revision) && revision <= this.#revision;
    const selections = [...(names ?? variables.keys())].flatMap((name): Selection[] => {
      const changed = isKnown ? this.#changes.after(revision, findVariable(variables, name)) : 'all';
      if (changed === 'nothing') return [];
      return [changed === 'all' ? { variable: name } : { variable: name, rows: changed }];
    });
    return this.read('w', selections, receive, !isKnown);
  }

  /** Reads the selection, or everything. Throws `unknown_variable` and what `checkRows` throws. */
  async read(
    part: Part,
    selections: readonly Selection[] | undefined,
    receive: Receive,
    complete?: boolean,
  ): Promise<Head> {
    const { variables } = this.#contents;
    const chosen = (selections ?? [...variables.keys()].map((variable) => ({ variable }))) as readonly Selection[];
    const tensors = chosen.map(({ variable: name, rows }) => {
      const variable = findVariable(variables, name);
      if (rows !== undefined) checkRows(variable, rows);
      return { variable, rows };
    });
    const head = complete === undefined ? this.head : { ...this.head, complete };
    const places = receive(
      head,
      tensors.map(({ variable, rows }) => outgoing(variable, rows)),
    );
    const reads = tensors.flatMap(({ variable: { memory }, rows }, index): Work[] => {
      const to = places[index];
      if (to === undefined) return [];
      if (rows === undefined) return [{ kind: 'read', memory, part, to }];
      return [{ kind: 'readRows', memory, part, rows: Float64Array.from(rows), to }];
    });
    await this.#executor.run(reads);
    return head;
  }

  /** Changes nothing; throws for assignments that do not fit. */
  checkAssignments(part: Part, assignments: ReadonlyMap<string, Slices>): CheckedAssignments {
    return checkAssignments(this.#contents.variables, part, assignments);
  }

  /** Overwrites variables, or a slot of theirs, whole or by rows. The counter stays. */
  assign({ part, values: assigned }: CheckedAssignments): Head {
    for (const { variable, values, rows } of assigned) {
      if (rows === undefined) variable.memory.write(part, 0, elementCount(variable.shape), values);
      else variable.memory.writeRows(part, rows, values);
    }
    this.#revision++;
    if (part === 'w') for (const { variable, rows } of assigned) this.#changes.note(this.#revision, variable, rows);
    return this.head;
  }

  /** What configuration, counter and settings come to by the rules of JSON Merge Patch (RFC 7396). Changes nothing. */
  patched(patch: SessionPatch): Configuration {
    const { optimizer, iterations, settings } = this.#contents;
    return {
      optimizer:
        patch.optimizer?.config === undefined ? optimizer : mergeOptimizerConfig(optimizer, patch.optimizer.config),
      iterations: patch.iterations ?? iterations,
      settings: mergeSettings(settings, patch),
    };
  }

  configure({ optimizer, iterations, settings }: Configuration): Head {
    const { variables, workers, settings: before } = this.#contents;
    if (settings.aggregation.mode !== before.aggregation.mode) workers.forgetClocks();
    this.#contents = { variables, optimizer, iterations, settings, workers };
    this.#revision++;
    return this.head;
  }

  /** Puts a worker aside, or takes it back. */
  setQuarantined(worker: string, quarantined: boolean): Head {
    this.#contents.workers.setQuarantined(worker, quarantined);
    this.#revision++;
    return this.head;
  }

  /** Puts other contents in place of these, as a restore does; the revision goes on. */
  replace(contents: SessionContents): Head {
    this.release();
    this.#contents = contents;
    this.#revision++;
    this.#changes.reset(this.#revision);
    return this.head;
  }

  /** Goes on at a later revision, with the same state: those between may have been given out for others. */
  resumeAt(revision: number): void {
    assert(revision >= this.#revision, 'a revision must not come back');
    if (revision > this.#revision) this.#changes.reset(revision);
    this.#revision = revision;
  }

  /** Lets go of the variables' memory, when nobody will ask for them any more. */
  release(): void {
    this.#executor.forget([...this.#contents.variables.values()].map(({ memory }) => memory));
  }
}

function outgoing({ name, shape, dtype }: Variable, rows: ArrayLike<number> | undefined): Outgoing {
  if (rows === undefined) return { variable: name, shape, dtype };
  return { variable: name, shape: [rows.length, ...shape.slice(1)], dtype, rows };
}
