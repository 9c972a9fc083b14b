/**
 * The tail: records of the journal once more, from when they are acknowledged until lmdb has them, in plain files that are
 * written over from their beginning (tail-frames.ts). One write and one fsync of pages that are there already is half of what
 * a transaction of lmdb's takes, so small changes are acknowledged from here, and lmdb gets many of them at a time. The two
 * files take turns: one is begun anew when lmdb has all that is in it.
 */
import { randomBytes } from 'node:crypto';
import { constants, writev as writevInto } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Histogram, secondsBounds } from '../histogram.ts';
import { encodeFrame, type TailFrame } from './tail-frames.ts';

/** Behind so many bytes the other file has its turn, if it is free. */
const turnBytes = 16 * 1024 * 1024;
/** A file larger than that is cut off when it is begun anew. */
const keptBytes = 64 * 1024 * 1024;
/** A file grows by so much at a time, with zeros: the size of a file that does not change need not be written either. */
const growthBytes = 1024 * 1024;
/** Pieces that a system call takes. */
const piecesMax = 1000;
/** Frames are numbered from the clock on, times this, so that the numbers of a later process are higher. */
const framesPerMs = 1024;

/** With less around it than a `FileHandle` has. */
const writev: (file: number, views: readonly Uint8Array[], at: number) => Promise<{ bytesWritten: number }> =
  promisify(writevInto);

interface Part {
  readonly file: FileHandle;
  /** The same file; what is written by this one is fsynced (`O_DSYNC`), which takes one call in place of two. */
  readonly syncedFile: FileHandle;
  /** Whether all frames are fsynced. */
  isSynced: boolean;
  tag: Buffer;
  at: number;
  size: number;
  /** Frames that lmdb does not have yet. */
  frames: number;
}

interface Pending {
  readonly frame: TailFrame;
  readonly isSynced: boolean;
  part: Part | undefined;
  number: number;
  /** Whether lmdb has it. */
  isSettled: boolean;
  readonly resolve: (number: number) => void;
  readonly reject: (error: unknown) => void;
}

export class Tail {
  /** How long fsyncs took, with the write before them. */
  readonly syncSeconds = new Histogram(secondsBounds);
  readonly #paths: readonly string[];
  #parts: [Part, Part];
  #pending: Pending[] = [];
  /** Written ones, of which the first is not settled. */
  #written: Pending[] = [];
  #writing: Promise<void> | undefined;
  #failure: { error: unknown } | undefined;
  #number = 0;
  /** The number of the last frame that is fsynced, as are all before it. */
  #synced = 0;

  private constructor(paths: readonly string[], parts: [Part, Part]) {
    this.#paths = paths;
    this.#parts = parts;
    this.#renumber();
  }

  /** Opens or makes both files; what is in them is left there until `clear`. */
  static async open(folder: string): Promise<Tail> {
    const paths = tailPaths(folder);
    return new Tail(paths, (await Promise.all(paths.map(openPart))) as [Part, Part]);
  }

  get paths(): readonly string[] {
    return this.#paths;
  }

  /** The number of the last frame that is fsynced, as are all before it. */
  get synced(): number {
    return this.#synced;
  }

  /**
   * Resolves when the frame, and all before it, are written and, if it `isSynced`, fsynced; to its number. `settled` resolves when lmdb has it.
   * After a failure nothing is taken until `clear`.
   */
  append(frame: TailFrame, isSynced: boolean, settled: Promise<unknown>): Promise<number> {
    return new Promise((resolve, reject) => {
      const pending: Pending = { frame, isSynced, part: undefined, number: 0, isSettled: false, resolve, reject };
      const settle = (): void => {
        pending.isSettled = true;
        if (pending.part !== undefined) pending.part.frames--;
      };
      // What lmdb has failed to take must stay.
      settled.then(settle, () => undefined);
      this.#pending.push(pending);
      this.#writing ??= this.#write();
    });
  }

  /** Forgets all frames, and a failure. */
  async clear(): Promise<void> {
    await this.#writing;
    for (const { file } of this.#parts) {
      await file.truncate(0);
      await file.sync();
    }
    this.#parts = (await Promise.all(this.#parts.map(partOf))) as [Part, Part];
    this.#written = [];
    this.#failure = undefined;
    this.#renumber();
  }

  async close(): Promise<void> {
    await this.#writing;
    for (const { file, syncedFile } of this.#parts) await Promise.all([file.close(), syncedFile.close()]);
  }

  #renumber(): void {
    this.#number = Math.max(this.#number, Date.now() * framesPerMs);
    this.#synced = this.#number;
  }

  /** Writes what waits, all at once, until nothing does. */
  async #write(): Promise<void> {
    // Whoever comes in the same turn of the event loop shares the first call.
    await setImmediate();
    while (this.#pending.length > 0) {
      const group = this.#pending;
      this.#pending = [];
      try {
        if (this.#failure !== undefined) throw this.#failure.error;
        await this.#writeGroup(group);
        for (const { resolve, number } of group) resolve(number);
      } catch (error) {
        this.#failure ??= { error };
        for (const { reject } of group) reject(error);
      }
    }
    this.#writing = undefined;
  }

  async #writeGroup(group: readonly Pending[]): Promise<void> {
    const started = performance.now();
    const part = await this.#partToWrite();
    const pieces: Uint8Array[] = [];
    const { tag } = part;
    for (const pending of group) {
      pending.part = part;
      pending.number = ++this.#number;
      if (!pending.isSettled) part.frames++;
      this.#written.push(pending);
    }
    const settled = this.#written.findIndex(({ isSettled }) => !isSettled);
    this.#written.splice(0, settled < 0 ? this.#written.length : settled);
    const numbering = { tag, needed: this.#written[0]?.number ?? this.#number, synced: this.#synced };
    for (const { frame, number } of group) pieces.push(...encodeFrame(frame, { ...numbering, number }));
    const isSynced = group.some((pending) => pending.isSynced);
    const isAtOnce = isSynced && part.isSynced;
    part.isSynced = isAtOnce;
    for (let first = 0; first < pieces.length; first += piecesMax) {
      await writeAll(part, isAtOnce ? part.syncedFile : part.file, pieces.slice(first, first + piecesMax));
    }
    if (isSynced) {
      await this.#sync(part);
      this.syncSeconds.observe((performance.now() - started) / 1000);
    }
    if (part.at > part.size) await grow(part);
  }

  async #sync(part: Part): Promise<void> {
    if (!part.isSynced) await part.file.datasync();
    part.isSynced = true;
    this.#synced = this.#number;
  }

  /** Where the next frames go. The file that is left must not have any that are not fsynced behind whose back others are. */
  async #partToWrite(): Promise<Part> {
    const [part, other] = this.#parts;
    if (part.frames === 0) await beginAnew(part);
    else if (part.at > turnBytes && other.frames === 0) {
      await this.#sync(part);
      await beginAnew(other);
      this.#parts = [other, part];
    }
    return this.#parts[0];
  }
}

/** The files of the tail in the journal's folder. */
export function tailPaths(folder: string): string[] {
  return ['tail.0', 'tail.1'].map((name) => `${folder}/${name}`);
}

async function openPart(path: string): Promise<Part> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT);
  return partOf({ file, syncedFile: await open(path, constants.O_RDWR | constants.O_DSYNC) });
}

/** Without any frames. */
async function partOf({ file, syncedFile }: Pick<Part, 'file' | 'syncedFile'>): Promise<Part> {
  const { size } = await file.stat();
  return { file, syncedFile, isSynced: true, tag: randomBytes(8), at: 0, size, frames: 0 };
}

async function beginAnew(part: Part): Promise<void> {
  part.at = 0;
  part.isSynced = true;
  part.tag = randomBytes(8);
  if (part.size <= keptBytes) return;
  await part.file.truncate(0);
  part.size = 0;
}

async function writeAll(part: Part, file: FileHandle, views: readonly Uint8Array[]): Promise<void> {
  for (let left = views; left.length > 0; ) {
    const { bytesWritten } = await writev(file.fd, left, part.at);
    part.at += bytesWritten;
    left = behind(left, bytesWritten);
  }
}

/** Where the disk has no room for more than the frames it stays as long as they are. */
async function grow(part: Part): Promise<void> {
  part.size = part.at;
  const zeros = Buffer.alloc(growthBytes - (part.at % growthBytes));
  const written = await part.file.write(zeros, 0, undefined, part.at).catch(() => undefined);
  part.size += written?.bytesWritten ?? 0;
}

/** The views without their first `bytes` bytes. */
function behind(views: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skipped = bytes;
  const left: Uint8Array[] = [];
  for (const view of views) {
    const taken = Math.min(skipped, view.length);
    skipped -= taken;
    if (taken < view.length) left.push(view.subarray(taken));
  }
  return left;
}
