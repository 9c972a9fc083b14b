/**
 * The names of a folder as a disk may have them: those that are durable, and the changes since in their order. A change of
 * two folders, a rename, is one; when it is durable, so is all that came before it in either of them.
 */
import type { Survivors } from './simulated-file.ts';

export interface Change<Node> {
  readonly position: number;
  readonly edits: readonly {
    readonly folder: SimulatedFolder<Node>;
    readonly name: string;
    /** What bears the name from now on, if anything does. */
    readonly node: Node | undefined;
  }[];
}

export class SimulatedFolder<Node> {
  /** What the process sees. */
  readonly live: Map<string, Node>;
  readonly #durable: Map<string, Node>;
  #pending: Change<Node>[] = [];

  constructor(durable: ReadonlyMap<string, Node> = new Map()) {
    this.live = new Map(durable);
    this.#durable = new Map(durable);
  }

  get pending(): readonly Change<Node>[] {
    return this.#pending;
  }

  /** Makes everything durable that was done before `position`. */
  sync(position: number): void {
    const changes = new Set<Change<Node>>();
    for (const change of this.#pending) {
      if (change.position < position) withEarlier(change, changes);
    }
    settle(changes);
  }

  /** The names that the disk may have, if `surviving` changes have come to it. */
  names(surviving: ReadonlySet<Change<Node>>): Map<string, Node> {
    const names = new Map(this.#durable);
    for (const change of this.#pending) if (surviving.has(change)) edit(change, this, names);
    return names;
  }

  static apply<Node>(change: Change<Node>): void {
    for (const { folder } of change.edits) {
      if (folder.#pending.at(-1) !== change) folder.#pending.push(change);
      edit(change, folder, folder.live);
    }
  }

  /** For `settle`. */
  commit(change: Change<Node>): void {
    if (!this.#pending.includes(change)) return;
    this.#pending = this.#pending.filter((each) => each !== change);
    edit(change, this, this.#durable);
  }
}

/** Makes changes durable that have no earlier ones but among themselves. */
export function settle<Node>(changes: ReadonlySet<Change<Node>>): void {
  for (const change of [...changes].sort(byPosition)) {
    for (const { folder } of change.edits) folder.commit(change);
  }
}

/** Of all changes that are not durable, some that have come to the disk nevertheless: of each folder the first ones. */
export function survivingChanges<Node>(
  folders: Iterable<SimulatedFolder<Node>>,
  survivors: Survivors,
  together: boolean,
): Set<Change<Node>> {
  const all = [...folders];
  const surviving = new Set<Change<Node>>();
  if (together) {
    // As a journal of all folders' changes has them.
    const changes = [...new Set(all.flatMap(({ pending }) => pending))].sort(byPosition);
    for (const change of changes.slice(0, survivors(changes.length))) surviving.add(change);
    return surviving;
  }
  for (const { pending } of all) {
    for (const change of pending.slice(0, survivors(pending.length))) withEarlier(change, surviving);
  }
  return surviving;
}

/** Adds the change and what must be durable before it. */
export function withEarlier<Node>(change: Change<Node>, to: Set<Change<Node>>): void {
  if (to.has(change)) return;
  to.add(change);
  for (const { folder } of change.edits) {
    for (const earlier of folder.pending) {
      if (earlier.position < change.position) withEarlier(earlier, to);
    }
  }
}

function edit<Node>(change: Change<Node>, folder: SimulatedFolder<Node>, names: Map<string, Node>): void {
  for (const { folder: each, name, node } of change.edits) {
    if (each !== folder) continue;
    if (node === undefined) names.delete(name);
    else names.set(name, node);
  }
}

const byPosition = (a: { position: number }, b: { position: number }) => a.position - b.position;
