/**
 * The transactions of one file of the journal, one at a time: whoever waits shares the next one. Where nobody waits for a change
 * (the tail has it), it waits a little for others. When a transaction fails, so does all that waits, and that is the end.
 */
import { setImmediate } from 'node:timers/promises';
import type { Problem } from '../errors.ts';
import type { Histogram } from '../histogram.ts';
import type { JournalFile } from './journal-file.ts';

interface Waiting {
  readonly put: (file: JournalFile) => void;
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (problem: unknown) => void;
}

/** How long a change that nobody waits for does: each transaction keeps the disk from those that somebody waits for. */
const patienceMs = 250;
/** Or until there are so many bytes. */
const patientBytesMax = 4 * 1024 * 1024;

export class GroupCommit {
  readonly #file: JournalFile;
  readonly #seconds: Histogram;
  readonly #onFailure: (error: unknown) => Promise<Problem>;
  #waiting: Waiting[] = [];
  #bytes = 0;
  #isUrgent = false;
  #timer: NodeJS.Timeout | undefined;
  #committing: Promise<void> | undefined;
  #refused: { readonly error: unknown } | undefined;

  /** `seconds`: how long transactions take is counted there. `onFailure` is told of one, and says what all that waits is to be told; nothing is to be submitted any more. */
  constructor(file: JournalFile, seconds: Histogram, onFailure: (error: unknown) => Promise<Problem>) {
    this.#file = file;
    this.#seconds = seconds;
    this.#onFailure = onFailure;
  }

  /** Of the changes that are not in a transaction yet. */
  get waitingBytes(): number {
    return this.#bytes;
  }

  /**
   * Resolves when what `put` puts, about so many bytes, is on the disk. What is submitted first is there first. `isUrgent`: whether
   * somebody waits for it.
   */
  submit(put: (file: JournalFile) => void, bytes: number, isUrgent: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ put, bytes, resolve, reject });
      this.#bytes += bytes;
      if (isUrgent || this.#bytes > patientBytesMax) this.#hurry();
      else this.#timer ??= setTimeout(() => this.#hurry(), patienceMs);
    });
  }

  /** Resolves when all that was submitted before is on the disk, or has failed. */
  async flush(): Promise<void> {
    this.#hurry();
    await this.#committing;
  }

  /** Puts nothing more: all that waits fails with `error`. */
  fail(error: unknown): void {
    this.#refused ??= { error };
    this.#hurry();
  }

  #hurry(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waiting.length === 0) return;
    this.#isUrgent = true;
    this.#committing ??= this.#commit();
  }

  /** While one transaction is written, those whose changes were in the last one go on, so that the disk never waits for them. */
  async #commit(): Promise<void> {
    // Whoever comes in the same turn of the event loop shares the first transaction.
    await setImmediate();
    let written: readonly Waiting[] = [];
    while (this.#isUrgent) {
      const group = this.#takeGroup();
      const failure = this.#put(group).then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      if (written.length > 0) await setImmediate();
      for (const { resolve } of written) resolve();
      written = [];
      const failed = await failure;
      if (failed === undefined) written = group;
      else await this.#fail(failed.error, group);
    }
    for (const { resolve } of written) resolve();
    this.#committing = undefined;
  }

  async #put(group: readonly Waiting[]): Promise<void> {
    if (this.#refused !== undefined) throw this.#refused.error;
    const bytes = group.reduce((sum, each) => sum + each.bytes, 0);
    const started = performance.now();
    await this.#file.commit(() => {
      for (const { put } of group) put(this.#file);
    }, bytes);
    this.#seconds.observe((performance.now() - started) / 1000);
  }

  /** Nothing that came after the failure may be there without what failed. */
  async #fail(error: unknown, group: readonly Waiting[]): Promise<void> {
    this.#refused ??= { error };
    const problem = await this.#onFailure(error);
    for (const { reject } of [...group, ...this.#takeGroup()]) reject(problem);
  }

  #takeGroup(): readonly Waiting[] {
    const group = this.#waiting;
    this.#waiting = [];
    this.#bytes = 0;
    this.#isUrgent = false;
    return group;
  }
}
