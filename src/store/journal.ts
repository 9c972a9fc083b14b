/**
 * The journal of all sessions: the ordered list of each one's changes, on the disk before they are acknowledged. Whoever waits
 * shares the next transaction, one at a time, so what is in the journal has no gap. When the disk fails, all that waits fails
 * with it and nothing more is taken, until `reopen` or `beginAnew` has set memory and disk at one.
 *
 *     journal/000001.mdb   records and keys (journal-file.ts); the highest number counts
 *     journal/tail         records of `everysec` that are on their way there (tail.ts)
 */
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Problem } from '../errors.ts';
import { storageProblem, syncFolder } from './files.ts';
import { JournalDamage, JournalFile, type SessionId } from './journal-file.ts';
import { Tail } from './tail.ts';

interface Waiting {
  readonly put: (file: JournalFile) => void;
  readonly resolve: () => void;
  readonly reject: (problem: unknown) => void;
}

/** Entries removed in one transaction, so that pushes do not wait long for it. */
const removedAtOnce = 2_000;

export class Journal {
  /** Idempotency keys that are kept of each session. */
  readonly keysMax: number;
  readonly #folder: string;
  #number: number;
  #file: JournalFile | undefined;
  #tail: Tail;
  #waiting: Waiting[] = [];
  #committing: Promise<void> | undefined;
  #problem: Problem | undefined;

  private constructor(folder: string, number: number, file: JournalFile, tail: Tail, keysMax: number) {
    this.keysMax = keysMax;
    this.#folder = folder;
    this.#number = number;
    this.#file = file;
    this.#tail = tail;
  }

  /** Opens the newest file, or makes the first. Throws `JournalDamage` where it cannot be read. */
  static async open(folder: string, keysMax: number): Promise<Journal> {
    await mkdir(folder, { recursive: true });
    await syncFolder(dirname(folder));
    const numbers = await journalNumbers(folder);
    const number = numbers.at(-1) ?? 1;
    for (const old of numbers.slice(0, -1)) await removeFile(folder, old);
    await rm(join(folder, unfinished), { force: true });
    const file = openFile(join(folder, fileName(number)));
    const tail = await Tail.open(join(folder, 'tail'));
    await syncFolder(folder);
    return new Journal(folder, number, file, tail, keysMax);
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

  /** Resolves when what `put` puts is on the disk. What is submitted first is there first. */
  submit(put: (file: JournalFile) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#problem !== undefined) {
        reject(this.#problem);
        return;
      }
      this.#waiting.push({ put, resolve, reject });
      this.#committing ??= this.#commit().finally(() => {
        this.#committing = undefined;
      });
    });
  }

  /** Puts what a killed process has left in the tail, as far as it leads on. Before anything else is put. */
  async takeTail(): Promise<void> {
    for await (const { session, key, head, headBytes, data } of this.#tail.frames()) {
      if (head.revision <= this.file.lastRevision(session)) continue;
      await this.submit((file) => {
        file.putRecord(session, head.revision, headBytes, [data], data.length);
        if (key !== undefined) file.putKey(session, file.lastKey(session) + 1, key);
      });
    }
    await this.#tail.clear();
  }

  /** Removes a session's records from revision `first` to `last`, both included. */
  async removeRecords(session: SessionId, first: number, last: number): Promise<void> {
    for (;;) {
      const entries = this.file.recordEntries(session, first, last, removedAtOnce);
      if (entries.length === 0) return;
      await this.submit((file) => file.remove(entries));
    }
  }

  /** Removes a session's idempotency keys up to number `last`, included. */
  async removeKeys(session: SessionId, last: number): Promise<void> {
    for (;;) {
      const entries = this.file.keyEntries(session, 0, last, removedAtOnce);
      if (entries.length === 0) return;
      await this.submit((file) => file.remove(entries));
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
    await this.#replace(this.#number, () => openFile(this.#path(this.#number)), superfluous);
  }

  /**
   * After any other failure, or damage: a new file, which begins with what `fill` puts there, when all that the old one is
   * needed for is in checkpoints. The old one goes to the folder `aside`, if one is given, with its pages as they are.
   */
  async beginAnew(fill: (file: JournalFile) => void, aside?: string): Promise<void> {
    const temporary = join(this.#folder, unfinished);
    await rm(temporary, { force: true });
    const old = this.#number;
    const open = async (): Promise<JournalFile> => {
      const file = openFile(temporary);
      await file
        .commit(() => {
          file.putFormat();
          fill(file);
        })
        .finally(() => file.close());
      await rename(temporary, this.#path(old + 1));
      await syncFolder(this.#folder);
      return openFile(this.#path(old + 1));
    };
    await this.#replace(old + 1, open, () => []);
    if (aside === undefined) await removeFile(this.#folder, old);
    else {
      await mkdir(aside, { recursive: true });
      await rename(this.#path(old), join(aside, `${fileName(old)}.${Date.now()}`));
      await removeFile(this.#folder, old);
    }
  }

  async close(): Promise<void> {
    await this.#committing;
    await this.#tail.close();
    await this.#file?.close();
    this.#problem ??= new Problem(
      'shutting_down',
      'a change must come before the server shuts down. It is shutting down',
    );
  }

  /** Puts another file in place of the one that there is, which is closed first; if that fails, there is none. */
  async #replace(
    number: number,
    open: () => JournalFile | Promise<JournalFile>,
    superfluous: (file: JournalFile) => Buffer[],
  ): Promise<void> {
    await this.#committing;
    await this.#file?.close();
    this.#file = undefined;
    let file: JournalFile | undefined;
    try {
      file = await open();
      const opened = file;
      const entries = superfluous(file);
      await file.commit(() => {
        opened.putFormat();
        opened.remove(entries);
      });
      await this.#tail.clear();
    } catch (error) {
      await file?.close().catch(() => undefined);
      if (error instanceof JournalDamage) throw error;
      this.#problem = journalProblem(error);
      throw this.#problem;
    }
    this.#file = file;
    this.#number = number;
    this.#problem = undefined;
  }

  async #commit(): Promise<void> {
    // Whoever comes in the same turn of the event loop shares the first transaction.
    await setImmediate();
    while (this.#waiting.length > 0 && this.#file !== undefined) {
      const group = this.#waiting;
      this.#waiting = [];
      const file = this.#file;
      try {
        await file.commit(() => {
          for (const { put } of group) put(file);
        });
        for (const { resolve } of group) resolve();
      } catch (error) {
        await this.#fail(error, group);
      }
    }
  }

  /** Nothing that came after the failure may be there without what failed. */
  async #fail(error: unknown, group: readonly Waiting[]): Promise<void> {
    this.#problem = journalProblem(error);
    const failed = [...group, ...this.#waiting];
    this.#waiting = [];
    await this.#file?.close().catch(() => undefined);
    this.#file = undefined;
    for (const { reject } of failed) reject(this.#problem);
  }

  #path(number: number): string {
    return join(this.#folder, fileName(number));
  }
}

const unfinished = 'unfinished.tmp';
/** ENOSPC and EDQUOT, which lmdb gives as numbers, and its own of a file that has grown as large as it can. */
const fullCodes: readonly unknown[] = [28, 122, -30_792];

function fileName(number: number): string {
  return `${String(number).padStart(6, '0')}.mdb`;
}

/** Of the files in the folder, ascending. */
export async function journalNumbers(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .flatMap((name) => /^(\d{6,})\.mdb$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

async function removeFile(folder: string, number: number): Promise<void> {
  for (const name of [fileName(number), `${fileName(number)}-lock`]) await rm(join(folder, name), { force: true });
}

function openFile(path: string): JournalFile {
  try {
    return new JournalFile(path);
  } catch (error) {
    if (error instanceof JournalDamage) throw error;
    throw new JournalDamage(`a journal must be a file that lmdb can open. It says: ${(error as Error).message}`);
  }
}

/** A failed transaction as the problem that it is for a client. */
function journalProblem(error: unknown): Problem {
  const { code } = error as { code?: unknown };
  const known = storageProblem(error);
  if (known instanceof Problem) return known;
  if (fullCodes.includes(code)) {
    return new Problem('insufficient_storage', 'the disk must have room for the change. It is full', {
      cause: error,
      headers: { 'retry-after': '5' },
    });
  }
  return new Problem('storage_failed', `the disk must take the change. It failed: ${(error as Error).message}`, {
    cause: error,
    applied: 'unknown',
    headers: { 'retry-after': '5' },
  });
}
