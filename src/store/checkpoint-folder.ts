/**
 * The checkpoints of one session: `ckpt-000007.safetensors` with `ckpt-000007.safetensors.sha256` (in sha256sum's own
 * form) beside it. A file appears under its name only when it is whole; a damaged one is set aside and never deleted.
 */
import { open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Problem } from '../errors.ts';
import { makeFolder, removeUnfinished, renameDurably, syncFolder, writeFileDurably } from '../journal/files.ts';
import type { SessionContents } from '../session/session.ts';
import type { SessionSnapshot } from '../session/snapshot.ts';
import { readCheckpointDescription, readCheckpointFile, writeCheckpointFile } from './checkpoint-file.ts';
import type { CheckpointDescription, CheckpointNote } from './checkpoint-format.ts';

export interface CheckpointInfo {
  readonly id: string;
  readonly iterations: number;
  readonly bytes: number;
  /** Of the whole file, hexadecimal. */
  readonly sha256: string;
  /** RFC 3339, UTC. */
  readonly created_at: string;
}

/** A file that could not be read, and where it lies now, or should have lain if it is gone. */
export interface Damage {
  /** Without one, no session that there is has anything in what is damaged. */
  readonly session?: string;
  readonly file: string;
  readonly reason: string;
}

export interface LoadedCheckpoint {
  readonly description: CheckpointDescription;
  readonly contents: SessionContents;
}

const namePattern = /^ckpt-(\d{6,})\.safetensors$/;

export class CheckpointFolder {
  readonly #path: string;
  readonly #aside: string;
  readonly #session: string;
  readonly #onDamage: (damage: Damage) => void;
  /** By number. */
  readonly #known = new Map<number, CheckpointInfo>();
  /** The session's revision that each has, by number. */
  readonly #revisions = new Map<number, number>();
  #next = 1;
  /** What the session is in the journal, as the newest checkpoint has it. */
  journal: string | undefined;

  private constructor(path: string, aside: string, session: string, onDamage: (damage: Damage) => void) {
    this.#path = path;
    this.#aside = aside;
    this.#session = session;
    this.#onDamage = onDamage;
  }

  /** Reads what is there, headers only. Damaged files go to `aside`, each reported once. */
  static async open(path: string, aside: string, session: string, onDamage: (damage: Damage) => void) {
    const folder = new CheckpointFolder(path, aside, session, onDamage);
    await makeFolder(path);
    await removeUnfinished(path);
    for (const number of numbersAmong(await readdir(path))) {
      folder.#next = number + 1;
      const info = await folder.#inspect(number);
      if (info !== undefined) folder.#known.set(number, info);
    }
    return folder;
  }

  /** The number that the next checkpoint will have; numbers only rise. */
  get next(): number {
    return this.#next;
  }

  get newest(): CheckpointInfo | undefined {
    return this.list()[0];
  }

  /** Newest first. */
  list(): CheckpointInfo[] {
    return [...this.#known].sort(([a], [b]) => b - a).map(([, info]) => info);
  }

  /** Those numbered `from` or later with the session's revision that each has, newest first. */
  since(from: number): (CheckpointInfo & { readonly revision: number })[] {
    return this.list()
      .filter(({ id }) => numberOf(id) >= from)
      .map((info) => ({ ...info, revision: this.#revisions.get(numberOf(info.id)) as number }));
  }

  /** One by id, or the newest by `latest`. Throws `checkpoint_not_found`. */
  find(id: string): CheckpointInfo {
    const info = id === 'latest' ? this.newest : this.list().find((each) => each.id === id);
    if (info !== undefined) return info;
    const known = this.list()
      .slice(0, 5)
      .map((each) => each.id);
    throw new Problem(
      'checkpoint_not_found',
      `a checkpoint's id must be "latest" or one of ${known.join(', ') || 'none'}. Received: ${JSON.stringify(id)}`,
    );
  }

  async write(
    snapshot: SessionSnapshot,
    note: CheckpointNote,
    giveUp: () => Error | undefined,
  ): Promise<CheckpointInfo> {
    const number = this.#next++;
    const path = this.#file(number);
    const temporary = `${path}.tmp`;
    try {
      const digest = await writeCheckpointFile(temporary, snapshot, note, giveUp);
      await writeFileDurably(`${path}.sha256`, sidecarOf(number, digest.sha256));
      await renameDurably(temporary, path);
      const info = { id: idOf(number), iterations: snapshot.head.iterations, ...digest, created_at: note.savedAt };
      this.#known.set(number, info);
      this.#revisions.set(number, snapshot.head.revision);
      return info;
    } catch (error) {
      for (const file of [temporary, path, `${path}.sha256`]) await rm(file, { force: true }).catch(() => undefined);
      throw error;
    }
  }

  /** Verified against its SHA-256 while it is read. A damaged one is set aside, and the Problem says so. */
  async load(id: string): Promise<LoadedCheckpoint> {
    const info = this.find(id);
    const number = numberOf(info.id);
    try {
      return await readCheckpointFile(this.#file(number), info.sha256);
    } catch (error) {
      if (isDiskFailure(error)) throw error;
      await this.#setAside(number, error);
      throw new Problem(
        'storage_failed',
        `checkpoint ${info.id} must be whole to be used. It is damaged and was set aside`,
        {
          cause: error,
        },
      );
    }
  }

  /** The newest checkpoint numbered `from` or later that can be read; damaged ones on the way are set aside. */
  async loadNewest(from: number): Promise<LoadedCheckpoint | undefined> {
    for (const { id } of this.list()) {
      if (numberOf(id) < from) return undefined;
      try {
        return await this.load(id);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
      }
    }
    return undefined;
  }

  /** The bytes `start` to `end` (inclusive) of a file; the file stays readable even if it is removed meanwhile. */
  async read(id: string, range: { start: number; end: number }): Promise<Readable> {
    const file = await open(this.#file(numberOf(this.find(id).id)), 'r');
    return file.createReadStream({ ...range, highWaterMark: 1024 * 1024 });
  }

  async remove(id: string): Promise<void> {
    const info = this.find(id);
    const number = numberOf(info.id);
    const path = this.#file(number);
    this.#known.delete(number);
    try {
      await rm(path, { force: true });
    } catch (error) {
      this.#known.set(number, info);
      throw error;
    }
    await rm(`${path}.sha256`, { force: true });
    await syncFolder(this.#path);
  }

  /** Removes the oldest of those numbered `from` or later until `keep` are left, and the one `needed`. */
  async trim(keep: number, from: number, needed?: string): Promise<void> {
    for (const { id } of this.since(from).slice(keep)) if (id !== needed) await this.remove(id);
  }

  #file(number: number): string {
    return join(this.#path, `${idOf(number)}.safetensors`);
  }

  async #inspect(number: number): Promise<CheckpointInfo | undefined> {
    try {
      const { info, description } = await readCheckpointInfo(this.#path, number);
      this.#revisions.set(number, description.revision);
      this.journal = description.journal;
      return info;
    } catch (error) {
      if (isDiskFailure(error)) throw error;
      await this.#setAside(number, error);
      return undefined;
    }
  }

  async #setAside(number: number, reason: unknown): Promise<void> {
    this.#known.delete(number);
    await makeFolder(this.#aside);
    const name = `${idOf(number)}.safetensors`;
    const target = await freeName(join(this.#aside, name));
    const file = await rename(this.#file(number), target).then(
      () => target,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return this.#file(number);
        throw error;
      },
    );
    await rename(`${this.#file(number)}.sha256`, `${target}.sha256`).catch(() => undefined);
    await syncFolder(this.#path);
    this.#onDamage({
      session: this.#session,
      file,
      reason: reason instanceof Error ? reason.message : String(reason),
    });
  }
}

/** Of the checkpoints among the files of a folder, ascending. */
export function numbersAmong(files: readonly string[]): number[] {
  return files
    .flatMap((file) => namePattern.exec(file)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

/** What a checkpoint's header and its `.sha256` file say. Throws where they are not what was written. */
export async function readCheckpointInfo(
  folder: string,
  number: number,
): Promise<{ info: CheckpointInfo; description: CheckpointDescription }> {
  const path = join(folder, `${idOf(number)}.safetensors`);
  const { bytes, ...description } = await readCheckpointDescription(path);
  const sidecar = await readFile(`${path}.sha256`, 'utf8');
  const sha256 = /^[0-9a-f]{64}/.exec(sidecar)?.[0];
  if (sha256 === undefined || sidecar !== sidecarOf(number, sha256)) {
    throw new Error('its .sha256 file does not hold its SHA-256 and its name');
  }
  const { iterations, savedAt } = description;
  return { info: { id: idOf(number), iterations, bytes, sha256, created_at: savedAt }, description };
}

/** A call that failed says nothing about the file; only a missing one is damage. */
function isDiskFailure(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && 'code' in error && error.code !== 'ENOENT';
}

export function idOf(number: number): string {
  return `ckpt-${String(number).padStart(6, '0')}`;
}

/** What stands in the `.sha256` file, in sha256sum's own form. */
function sidecarOf(number: number, sha256: string): string {
  return `${sha256}  ${idOf(number)}.safetensors\n`;
}

export function numberOf(id: string): number {
  return Number(id.slice('ckpt-'.length));
}

async function freeName(path: string): Promise<string> {
  for (let k = 0; ; k++) {
    const candidate = k === 0 ? path : `${path}.${k}`;
    const taken = await stat(candidate).then(
      () => true,
      () => false,
    );
    if (!taken) return candidate;
  }
}
