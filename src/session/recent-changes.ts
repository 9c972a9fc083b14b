/**
 * Which variables, and which rows of them, have changed since a revision: for clients that have the rest. Rows of sparse steps
 * are remembered as far as that takes little beside the variable; what is beyond counts as changed whole.
 */
import { groupByRow } from '../optimizer/indexed-slices.ts';
import { byteLength } from '../tensor/tensor.ts';
import type { VariableSpec } from './variable.ts';

interface Touched {
  readonly revision: number;
  /** In any order, repeats included. */
  readonly rows: Float64Array;
}

interface Changes {
  /** The last revision that changed it whole, or whose rows are forgotten. */
  whole: number;
  /** Its later changes, oldest first. */
  touched: Touched[];
  /** That they take. */
  bytes: number;
}

/** Of a variable's bytes, so many may go to the memory of its changes, and always so many. */
const partMax = 1 / 16;
const bytesMin = 16 * 1024;
/** Of each change besides its rows: short lists are mostly that. */
const touchedBytes = 200;

export class RecentChanges {
  /** All changes after this revision are known. */
  #since: number;
  #variables = new Map<string, Changes>();

  constructor(revision: number) {
    this.#since = revision;
  }

  /** Anything may have changed up to `revision`. */
  reset(revision: number): void {
    this.#since = revision;
    this.#variables.clear();
  }

  /** The change that led to `revision` touched `rows` of the variable, or all of it. */
  note(revision: number, variable: VariableSpec, rows: Float64Array | undefined): void {
    const changes = this.#variables.get(variable.name) ?? { whole: 0, touched: [], bytes: 0 };
    this.#variables.set(variable.name, changes);
    if (rows === undefined) {
      changes.whole = revision;
      changes.touched = [];
      changes.bytes = 0;
      return;
    }
    if (rows.length === 0) return;
    changes.touched.push({ revision, rows });
    changes.bytes += bytesOf(rows);
    const bytesMax = Math.max(bytesMin, byteLength(variable.dtype, variable.shape) * partMax);
    while (changes.bytes > bytesMax) {
      const oldest = changes.touched.shift() as Touched;
      changes.bytes -= bytesOf(oldest.rows);
      changes.whole = oldest.revision;
    }
  }

  /** Whether all changes after `revision` are known. */
  reaches(revision: number): boolean {
    return revision >= this.#since;
  }

  /** What has changed of a variable after `revision`: nothing, some rows (ascending, each once), or perhaps all of it. */
  after(revision: number, { name, shape }: VariableSpec): 'nothing' | 'all' | Float64Array {
    const changes = this.#variables.get(name);
    if (changes === undefined) return 'nothing';
    if (changes.whole > revision) return 'all';
    const later = changes.touched.filter((each) => each.revision > revision);
    if (later.length === 0) return 'nothing';
    const all = new Float64Array(later.reduce((sum, { rows }) => sum + rows.length, 0));
    let at = 0;
    for (const { rows } of later) {
      all.set(rows, at);
      at += rows.length;
    }
    const { rows } = groupByRow(all);
    return rows.length === shape[0] ? 'all' : rows;
  }
}

function bytesOf(rows: Float64Array): number {
  return rows.byteLength + touchedBytes;
}
