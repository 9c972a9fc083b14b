/**
 * The folder as the disk would have it if the power had gone at some moment: what was synced is there. Of the rest either
 * nothing is there, or by chance some: then any sector of a file may be at any version that was written since, and of the
 * changes of names any first ones may have been made.
 *
 * Two things are taken as the strictest reading of POSIX has them, though file systems do more: a new name, a rename and a
 * removal are durable when the folder has been synced, not when the file has; and a write with O_DSYNC makes itself durable
 * and no write before it.
 */
import { link, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { randomUnits } from '../support/floats.ts';
import type { Entry, Renaming, SyncKind } from './operation-log.ts';
import { SimulatedFile, type Survivors } from './simulated-file.ts';
import { type Change, SimulatedFolder, settle, survivingChanges, withEarlier } from './simulated-folder.ts';

export interface DiskModel {
  /** Syncs that the disk says to have done and has not. None, if left out. */
  readonly lies?: readonly SyncKind[];
  /** To sync a new file makes its name durable too, as ext4, XFS and btrfs do. `false` if left out. */
  readonly fileSyncKeepsName?: boolean;
  /** Names of sockets, which have no contents and are made by calls that are not recorded. */
  readonly sockets?: RegExp;
  /** Names of files that may be mapped to be written; they have zeros where nothing else is known. */
  readonly mapped?: RegExp;
}

/** What survives of that which was not synced: nothing, everything, or what a seed decides. */
export type Survival = 'synced' | 'everything' | { readonly seed: number };

type Folder = SimulatedFolder<Node>;
type Node = SimulatedFile | SimulatedFolder<Node>;

const defaults = { lies: [], fileSyncKeepsName: false, sockets: /^lock-\w+\.(sock|tmp)$/, mapped: /-lock$/ };

export class SimulatedDisk {
  readonly #model: Required<DiskModel>;
  readonly #root: Folder;
  readonly #inodes = new Map<bigint, Node>();
  #position = 0;

  private constructor(root: Folder, model: DiskModel) {
    this.#root = root;
    this.#model = { ...defaults, ...model };
  }

  /** With a folder as it was before the first entry; without one it was empty. */
  static async load(folder: string | undefined, model: DiskModel = {}): Promise<SimulatedDisk> {
    return new SimulatedDisk(folder === undefined ? new SimulatedFolder() : await loadFolder(folder), model);
  }

  /** Goes on to a later moment: everything happens that stands in the log before `position`. */
  advance(entries: readonly Entry[], position: number): void {
    for (const entry of entries) {
      if (entry.end > position) break;
      if (entry.start >= this.#position) this.#apply(entry);
    }
    this.#position = Math.max(this.#position, position);
  }

  /** Writes what the disk would have if the power went now, into a folder that is empty or not there yet. */
  async writeTo(target: string, survival: Survival): Promise<void> {
    const { survivors, sectors, together } = chance(survival);
    const surviving = survivingChanges(this.#folders(), survivors(), together);
    const written = new Map<SimulatedFile, string>();
    const write = async (folder: Folder, path: string): Promise<void> => {
      await mkdir(path, { recursive: true });
      for (const [name, node] of folder.names(surviving)) {
        const to = join(path, name);
        if (node instanceof SimulatedFolder) {
          await write(node, to);
          continue;
        }
        const other = written.get(node);
        if (other !== undefined) await link(other, to);
        else await writeFile(to, node.contents(survivors(), sectors));
        written.set(node, to);
      }
    };
    await write(this.#root, target);
  }

  #apply(entry: Entry): void {
    switch (entry.type) {
      case 'create': {
        const file = new SimulatedFile();
        this.#inodes.set(entry.inode, file);
        this.#change(entry.start, [entry.path, file]);
        break;
      }
      case 'open':
        this.#inodes.set(entry.inode, this.#node(entry.path));
        break;
      case 'write':
        this.#file(entry.inode).write(entry.start, entry.offset, entry.bytes);
        break;
      case 'truncate':
        this.#file(entry.inode).truncate(entry.start, entry.size);
        break;
      case 'map':
        this.#file(entry.inode).mapped = true;
        this.#assertMapped();
        break;
      case 'sync':
        if (!this.#model.lies.includes(entry.kind)) this.#sync(entry);
        break;
      case 'mkdir':
        this.#change(entry.start, [entry.path, new SimulatedFolder()]);
        break;
      default:
        if (!this.#model.sockets.test(basename(entry.path))) this.#rename(entry);
    }
  }

  #rename(entry: Entry & Renaming): void {
    const node = this.#node(entry.path);
    if (entry.type === 'link') {
      this.#change(entry.start, [entry.to, node]);
    } else if (entry.type === 'rename') {
      if (node !== this.#find(entry.to)) this.#change(entry.start, [entry.path, undefined], [entry.to, node]);
    } else {
      this.#change(entry.start, [entry.path, undefined]);
    }
  }

  #sync({ kind, inode, covered }: Extract<Entry, { type: 'sync' }>): void {
    const node = this.#inodes.get(inode);
    if (node === undefined) throw new Error(`the log has a sync of inode ${inode}, which it has not opened`);
    if (node instanceof SimulatedFile && kind === 'synced write') node.syncWrite(covered);
    else node.sync(covered);
    if (node instanceof SimulatedFile && this.#model.fileSyncKeepsName) this.#settleNames(node, covered);
  }

  #settleNames(node: Node, covered: number): void {
    const changes = new Set<Change<Node>>();
    for (const folder of this.#folders()) {
      for (const change of folder.pending) {
        const isItsName = change.position < covered && change.edits.some((edit) => edit.node === node);
        if (isItsName) withEarlier(change, changes);
      }
    }
    settle(changes);
  }

  #change(position: number, ...edits: readonly [string, Node | undefined][]): void {
    SimulatedFolder.apply<Node>({
      position,
      edits: edits.map(([path, node]) => ({ folder: this.#folder(dirname(path)), name: basename(path), node })),
    });
  }

  /** Every folder that there is or that a change which may be undone has removed. */
  #folders(): Set<Folder> {
    const found = new Set<Folder>();
    const visit = (node: Node | undefined): void => {
      if (!(node instanceof SimulatedFolder) || found.has(node)) return;
      found.add(node);
      for (const each of node.live.values()) visit(each);
      for (const each of node.names(new Set()).values()) visit(each);
      for (const { edits } of node.pending) for (const edit of edits) visit(edit.node);
    };
    visit(this.#root);
    return found;
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of path.split('/')) {
      if (name === '' || name === '.') continue;
      node = node instanceof SimulatedFolder ? node.live.get(name) : undefined;
    }
    return node;
  }

  #node(path: string): Node {
    const node = this.#find(path);
    if (node === undefined) throw new Error(`the log speaks of "${path}", which is not there: it has a gap`);
    return node;
  }

  #folder(path: string): Folder {
    const node = this.#node(path);
    if (node instanceof SimulatedFile) throw new Error(`"${path}" must be a folder`);
    return node;
  }

  #file(inode: bigint): SimulatedFile {
    const node = this.#inodes.get(inode);
    if (node instanceof SimulatedFile) return node;
    throw new Error(`the log writes to inode ${inode}, which it has not opened as a file`);
  }

  #assertMapped(): void {
    for (const folder of this.#folders()) {
      for (const [name, node] of folder.live) {
        const isUnknown = node instanceof SimulatedFile && node.mapped && !this.#model.mapped.test(name);
        if (isUnknown) throw new Error(`"${name}" is written through memory, which is not recorded`);
      }
    }
  }
}

async function loadFolder(path: string): Promise<Folder> {
  const names = new Map<string, Node>();
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const child = join(path, entry.name);
    if (entry.isDirectory()) names.set(entry.name, await loadFolder(child));
    else if (entry.isFile()) names.set(entry.name, new SimulatedFile(await readFile(child)));
  }
  return new SimulatedFolder(names);
}

interface Chance {
  /** Drawn anew for every file, so that some are lost as a whole, some whole, and some in part. */
  readonly survivors: () => Survivors;
  readonly sectors: number;
  readonly together: boolean;
}

function chance(survival: Survival): Chance {
  if (survival === 'synced') return { survivors: () => () => 0, sectors: 1, together: true };
  if (survival === 'everything') return { survivors: () => (pending) => pending, sectors: 1, together: true };
  const random = randomUnits(Math.imul(survival.seed + 1, 0x9e3779b1));
  // The first ones of neighbouring seeds are much alike.
  for (let i = 0; i < 8; i++) random();
  const survivors = (): Survivors => {
    const kind = random();
    if (kind < 0.2) return () => 0;
    if (kind < 0.4) return (pending) => pending;
    return (pending) => Math.floor(random() * (pending + 1));
  };
  return { survivors, sectors: random() < 0.5 ? 1 : 8, together: random() < 0.5 };
}
