/**
 * A session: variables, their slots, an optimizer's configuration and a counter, as a deterministic state machine. Each
 * input is checked whole and then applied, with no disk, clock or random source: the same inputs in the same order give
 * the same bits, however many threads do the work. The caller sees to it that one call is over before the next begins.
 * Queues, files and formats are left to the floors above.
 */
import assert from 'node:assert/strict';
import { Problem } from '../errors.ts';
import type { Values } from '../kernel/blocks.ts';
import type { Part } from '../kernel/extent.ts';
import { type Executor, here, type Progress } from '../kernel/threads.ts';
import type { Work } from '../kernel/work.ts';
import { applyUpdates } from '../optimizer/adamax.ts';
import { type AdamaxConfig, mergeOptimizerConfig } from '../optimizer/adamax-config.ts';
import { readIndices } from '../optimizer/indexed-slices.ts';
import { learningRateAt } from '../optimizer/scalars.ts';
import { elementCount } from '../tensor/tensor.ts';
import {
  type CheckedGradient,
  checkGradients,
  checkRange,
  checkRows,
  checkRowValues,
  checkShape,
  findVariable,
  type Slices,
} from './gradient.ts';
import type { SessionSettings, SettingsPatch } from './settings.ts';
import { mergeSettings } from './settings.ts';
import type { Variable } from './variable.ts';

/** All that a checkpoint keeps and a restore brings back. */
export interface SessionContents {
  readonly variables: ReadonlyMap<string, Variable>;
  readonly optimizer: AdamaxConfig;
  /** Applied steps, t. */
  readonly iterations: number;
  readonly settings: SessionSettings;
}

/** What every reply about a session's tensors says of it. */
export interface Head {
  readonly session: string;
  readonly revision: number;
  readonly iterations: number;
  /** The rate that the step used or, where there was none, that the next one will use. */
  readonly learningRate: number;
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
  readonly updates: Parameters<typeof applyUpdates>[2];
}

export interface CheckedAssignments {
  readonly part: Part;
  readonly values: readonly {
    readonly variable: Variable;
    readonly values: Slices['values'];
    readonly rows: Float64Array | undefined;
  }[];
}

/** All of a session but its variables. */
export type Configuration = Omit<SessionContents, 'variables'>;

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
  readonly #executor: Executor;

  /** `executor` does what is heavy; by default the calling thread. */
  constructor(name: string, createdAt: string, contents: SessionContents, revision: number, executor: Executor = here) {
    this.name = name;
    this.createdAt = createdAt;
    this.#contents = contents;
    this.#revision = revision;
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

  /**
   * Changes nothing; throws for gradients that do not fit, or that come from an iteration that will not have been by then:
   * `from` is where the session will stand when those that are on their way have been applied.
   */
  async check(
    gradients: ReadonlyMap<string, Slices>,
    base?: number,
    { iterations }: Position = this.position,
  ): Promise<CheckedGradient[]> {
    if (base !== undefined && base > iterations) {
      throw new Problem(
        'invalid_argument',
        `base must be at most the session's iterations, ${iterations}. Received: ${base}`,
      );
    }
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
  ): Step {
    const { optimizer } = this.#contents;
    const head = {
      session: this.name,
      revision: revision + 1,
      iterations: iterations + 1,
      learningRate: learningRateAt(optimizer, iterations),
    };
    const places = receive(
      head,
      checked.map(({ variable, slices }) => outgoing(variable, slices?.rows)),
    );
    const updates = checked.map(({ variable: { memory }, values, slices, scan }, k) => {
      return { memory, values, slices, scan, updated: places[k] };
    });
    return { head, updates };
  }

  /** Takes a step. `progress` is told as the values of dense gradients come to their places. */
  async apply({ head, updates }: Step, progress?: Progress): Promise<Head> {
    const { variables, optimizer, iterations, settings } = this.#contents;
    assert(head.iterations === iterations + 1, 'steps must be applied in the order in which they were prepared');
    await applyUpdates(optimizer, iterations, updates, this.#executor, progress);
    this.#contents = { variables, optimizer, iterations: head.iterations, settings };
    this.#revision = head.revision;
    return head;
  }

  /** Reads the selection, or everything. Throws `unknown_variable` and what `checkRows` throws. */
  async read(part: Part, selections: readonly Selection[] | undefined, receive: Receive): Promise<Head> {
    const { variables } = this.#contents;
    const chosen = (selections ?? [...variables.keys()].map((variable) => ({ variable }))) as readonly Selection[];
    const tensors = chosen.map(({ variable: name, rows }) => {
      const variable = findVariable(variables, name);
      if (rows !== undefined) checkRows(variable, rows);
      return { variable, rows };
    });
    const { head } = this;
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
    const values = [...assignments].map(([name, slices]) => {
      const variable = findVariable(this.#contents.variables, name);
      return { variable, values: slices.values, rows: checkAssignment(variable, slices) };
    });
    return { part, values };
  }

  /** Overwrites variables, or a slot of theirs, whole or by rows. The counter stays. */
  assign({ part, values: assigned }: CheckedAssignments): Head {
    for (const { variable, values, rows } of assigned) {
      if (rows === undefined) variable.memory.write(part, 0, elementCount(variable.shape), values);
      else variable.memory.writeRows(part, rows, values);
    }
    this.#revision++;
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
    this.#contents = { variables: this.#contents.variables, optimizer, iterations, settings };
    this.#revision++;
    return this.head;
  }

  /** Puts other contents in place of these, as a restore does; the revision goes on. */
  replace(contents: SessionContents): Head {
    this.release();
    this.#contents = contents;
    this.#revision++;
    return this.head;
  }

  /** Goes on at a later revision, with the same state. */
  resumeAt(revision: number): void {
    assert(revision >= this.#revision, 'a revision must not come back');
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

/** Shape, range and values of one assignment; the rows that it names, if it does. */
function checkAssignment(variable: Variable, { values, indices }: Slices): Float64Array | undefined {
  const rows = indices && readIndices(indices);
  if (rows === undefined) checkShape(variable, variable.shape, values, 'the values for');
  else {
    checkRows(variable, rows);
    checkRowValues(variable, rows.length, values, 'the rows for');
    if (new Set(rows).size < rows.length) {
      throw new Problem(
        'invalid_argument',
        `the rows assigned to "${variable.name}" must be named once each. Received: a repeated index`,
      );
    }
  }
  checkRange(variable.name, variable.dtype, values);
  return rows;
}
