/**
 * The journal of all sessions: the ordered list of each one's changes, on the disk before they are acknowledged. Whoever waits
 * shares the next transaction, one at a time, so what is in the journal has no gap. When the disk fails, all that waits fails
 * with it and nothing more is taken, until `reopen` or `beginAnew` has set memory and disk at one.
 *
 *     journal/000001.mdb        records and keys (journal-file.ts); the highest number counts
 *     journal/tail.0, tail.1    records that are acknowledged and on their way there (tail.ts)
 *     journal/data/             the data of large records (data-folder.ts)
 */
import { rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Problem } from '../errors.ts';
import { Histogram, secondsBounds } from '../histogram.ts';
import { dataFileBytesMin } from '../limits.ts';
import type { DataFile } from './data-file.ts';
import { DataFolder } from './data-folder.ts';
import { bytesOf, makeFolder, syncFolder } from './files.ts';
import { GroupCommit } from './group-commit.ts';
import type { SessionId } from './journal-entries.ts';
import { JournalDamage, type JournalFile } from './journal-file.ts';
import {
  fileName,
  journalNumbers,
  journalProblem,
  keepAside,
  makeFile,
  openFile,
  probe,
  removeFile,
  requireRoom,
  smallBytes,
  unfinished,
} from './journal-folder.ts';
import { Tail } from './tail.ts';
import type { TailFrame } from './tail-frames.ts';

/** Records up to here may be acknowledged from the tail: to write larger ones twice would take longer. */
const quickBytesMax = 64 * 1024;
/** Of acknowledged records that lmdb does not have yet, in memory. */
const behindBytesMax = 16 * 1024 * 1024;
/** Entries removed in one transaction, so that pushes do not wait long for it. */
const removedAtOnce = 2_000;
/** Of the page that an entry is removed from, its share. */
const removedEntryBytes = 256;

export class Journal {
  /** Idempotency keys that are kept of each session. */
  readonly keysMax: number;
  readonly #commitSeconds = new Histogram(secondsBounds);
  readonly #folder: string;
  readonly #data: DataFolder;
  #number: number;
  #file: JournalFile | undefined;
  #commits: GroupCommit;
  #tail: Tail;
  #problem: Problem | undefined;
  #kept: Promise<string> | undefined;

  private constructor(
    folder: string,
    data: DataFolder,
    number: number,
    file: JournalFile,
    tail: Tail,
    keysMax: number,
  ) {
    this.keysMax = keysMax;
    this.#folder = folder;
    this.#data = data;
    this.#number = number;
    this.#file = file;
    this.#commits = this.#commitsOf(file);
    this.#tail = tail;
  }

  /** Opens the newest file, or makes the first. Throws `JournalDamage` where it cannot be read. */
  static async open(folder: string, keysMax: number): Promise<Journal> {
    await makeFolder(folder);
    await syncFolder(dirname(folder));
    const numbers = await journalNumbers(folder);
    const number = numbers.at(-1) ?? 1;
    for (const old of numbers.slice(0, -1)) await removeFile(folder, old);
    await rm(join(folder, unfinished), { force: true });
    if (numbers.length === 0) await makeFile(folder);
    const file = openFile(join(folder, fileName(number)));
    const tail = await Tail.open(folder);
    const data = new DataFolder(folder);
    await data.open();
    await syncFolder(folder);
    return new Journal(folder, data, number, file, tail, keysMax);
  }

  /** Why nothing can be written now, if that is so. */
  get problem(): Problem | undefined {
    return this.#problem;
  }

  /** Throws why nothing can be written now; nothing has been tried. */
  requireWritable(): void {
    if (this.#problem === undefined) return;
    const { code, message, headers, cause } = this.#problem;
    throw new Problem(code, `the server takes no changes until the disk does: ${message}`, { headers, cause });
  }

  /** To read from. */
  get file(): JournalFile {
    if (this.#file === undefined) throw this.#problem ?? new Error('the journal must be open to be read');
    return this.#file;
  }

  get tail(): Tail {
    return this.#tail;
  }

  /** How long it took, each time, until something was on the disk: a transaction, frames of the tail, a large record's data. */
  get fsyncSeconds(): Readonly<Record<'database' | 'tail' | 'data', Histogram>> {
    return { database: this.#commitSeconds, tail: this.#tail.syncSeconds, data: this.#data.keepSeconds };
  }

  /** Bytes on the disk. */
  async sizes(): Promise<Record<'database' | 'tail' | 'data', number>> {
    const database = await bytesOf([this.#path(this.#number)]);
    return { database, tail: await bytesOf(this.#tail.paths), data: this.#data.bytes };
  }

  /** As `GroupCommit.submit`. */
  submit(put: (file: JournalFile) => void, bytes = smallBytes, isUrgent = true): Promise<void> {
    if (this.#problem !== undefined) return Promise.reject(this.#problem);
    return this.#commits.submit(put, bytes, isUrgent);
  }

  /** Whether a record of so many bytes is to be acknowledged from the tail: it is small, and lmdb will have room for it. */
  isQuick(bytes: number): boolean {
    return (
      bytes <= quickBytesMax && this.#commits.waitingBytes < behindBytesMax && this.#file?.hasPlenty(bytes) === true
    );
  }

  /** Resolves when the tail has a record, fsynced if it `isSynced`; to its number there. `committed`: when lmdb has it. */
  write(frame: TailFrame, isSynced: boolean, committed: Promise<void>): Promise<number> {
    committed.catch(() => undefined);
    // Nothing may be acknowledged between a failure and the end of it, which empties the tail.
    if (this.#problem !== undefined) return Promise.reject(this.#problem);
    return this.#tail.append(frame, isSynced, committed).catch((error: unknown) => {
      throw this.#failed(error, 'unknown');
    });
  }

  /** A copy of the file as it is now goes into the folder `aside`, once; where it lies there. */
  keepCopy(aside: string): Promise<string> {
    this.#kept ??= keepAside(this.#folder, this.#number, aside);
    return this.#kept;
  }

  /** Removes the data that no record has, or brings them into the folder `aside`, if one is given. */
  async clearData(aside: string | undefined): Promise<void> {
    await this.#data.clear(aside, (session, revision) => !this.file.hasDataFile(session, revision));
  }

  /** A file for the data of a record that is about to come, if they are to have one of their own. */
  begin(bytes: number): DataFile | undefined {
    if (bytes < dataFileBytesMin || this.#problem !== undefined) return undefined;
    return this.#data.begin((written) => this.#file?.spend(written));
  }

  /** Resolves when the data of the session's record at `revision`, which comes next, are on the disk. */
  async keep(data: DataFile, session: SessionId, revision: number): Promise<void> {
    await this.#data.keep(data, session, revision).catch(async (error: unknown) => {
      await data.discard();
      throw this.#failed(error, false);
    });
  }

  /** Nothing is taken any more. Returns why. */
  #failed(error: unknown, applied: Problem['applied']): Problem {
    const { code, message, cause } = journalProblem(error);
    this.#problem ??= new Problem(code, message, { cause, applied, headers: { 'retry-after': '5' } });
    this.#commits.fail(this.#problem);
    return this.#problem;
  }

  /** Resolves when the file has what was submitted before, or the disk takes nothing. */
  async flush(): Promise<void> {
    await this.#commits.flush();
  }

  /** Removes a session's records from revision `first` to `last`, both included; their data, or brings them into `aside`. */
  async removeRecords(session: SessionId, first: number, last: number, aside?: string): Promise<void> {
    await this.flush();
    for (;;) {
      const entries = this.file.recordEntries(session, first, last, removedAtOnce);
      if (entries.length === 0) break;
      await this.submit((file) => file.remove(entries), entries.length * removedEntryBytes);
    }
    await this.#data.clear(aside, (id, revision) => id.equals(session) && revision >= first && revision <= last);
  }

  /** Removes a session's idempotency keys up to number `last`, included. */
  async removeKeys(session: SessionId, last: number): Promise<void> {
    for (;;) {
      const entries = this.file.keyEntries(session, 0, last, removedAtOnce);
      if (entries.length === 0) return;
      await this.submit((file) => file.remove(entries), entries.length * removedEntryBytes);
    }
  }

  /** Removes all that there is of a session. */
  async forget(session: SessionId): Promise<void> {
    await this.removeRecords(session, 0, Number.POSITIVE_INFINITY);
    await this.removeKeys(session, Number.POSITIVE_INFINITY);
  }

  /**
   * After a full disk: the same file once more. `superfluous` says which entries it has that memory has not; when they are
   * gone, what follows can be written too. What it throws is passed on; throws a Problem where the disk still fails.
   */
  async reopen(superfluous: (file: JournalFile) => Buffer[]): Promise<void> {
    await this.#replace(() => openFile(this.#path(this.#number)), superfluous);
  }

  /**
   * After any other failure: a new file, which begins with what `fill` puts there, when all that the old one is needed for is in
   * checkpoints.
   */
  async beginAnew(fill: (file: JournalFile) => void, fillBytes: number): Promise<void> {
    const temporary = join(this.#folder, unfinished);
    const old = this.#number;
    const open = async (): Promise<JournalFile> => {
      await requireRoom(this.#folder, fillBytes);
      await rm(temporary, { force: true });
      const file = openFile(temporary, true);
      await file
        .commit(() => {
          file.putFormat();
          fill(file);
        }, fillBytes)
        .finally(() => file.close());
      await rename(temporary, this.#path(old + 1));
      await syncFolder(this.#folder);
      // Whatever happens from here on, the next start begins with it.
      this.#number = old + 1;
      await this.#data.clear(undefined);
      return openFile(this.#path(old + 1));
    };
    await this.#replace(open, () => []);
    await removeFile(this.#folder, old);
  }

  async close(): Promise<void> {
    await this.flush();
    await this.#tail.close();
    await this.#file?.close();
    const rule = 'a change must come before the server shuts down. It is shutting down';
    this.#problem ??= new Problem('shutting_down', rule);
  }

  /** Puts another file in place of the one that there is, which is closed first; if that fails, there is none. */
  async #replace(
    open: () => JournalFile | Promise<JournalFile>,
    superfluous: (file: JournalFile) => Buffer[],
  ): Promise<void> {
    await this.flush();
    await this.#file?.close();
    this.#file = undefined;
    let file: JournalFile | undefined;
    try {
      await probe(this.#folder);
      file = await open();
      const opened = file;
      const entries = superfluous(file);
      await file.commit(() => {
        opened.putFormat();
        opened.remove(entries);
      }, smallBytes);
      await this.#tail.clear();
    } catch (error) {
      await file?.close().catch(() => undefined);
      if (error instanceof JournalDamage) throw error;
      this.#problem = journalProblem(error);
      throw this.#problem;
    }
    this.#file = file;
    this.#commits = this.#commitsOf(file);
    this.#problem = undefined;
  }

  #commitsOf(file: JournalFile): GroupCommit {
    return new GroupCommit(file, this.#commitSeconds, async (error) => {
      this.#problem ??= journalProblem(error);
      await file.close().catch(() => undefined);
      this.#file = undefined;
      return this.#problem;
    });
  }

  #path(number: number): string {
    return join(this.#folder, fileName(number));
  }
}
