/**
 * The revisions that a session may give out, reserved on the disk ahead of their use: after a crash the session goes on
 * behind the last one reserved, so that no revision ever stands for two states.
 */
import { storageProblem } from '../journal/files.ts';
import { revisionsReserved, type SessionRecord, writeRecord } from './session-record.ts';

export class Revisions {
  readonly #folder: string;
  #record: SessionRecord;
  #reserving: Promise<void> | undefined;

  constructor(folder: string, record: SessionRecord) {
    this.#folder = folder;
    this.#record = record;
  }

  /** Before revision `current + 1` is given out. Only if the disk lags behind half of the reserve is there a wait. */
  reserve(current: number): Promise<void> | undefined {
    const left = this.#record.revision_limit - current;
    if (left > revisionsReserved / 2) return undefined;
    this.#reserving ??= this.#write(current + revisionsReserved).finally(() => {
      this.#reserving = undefined;
    });
    if (left < 1) return this.#reserving;
    this.#reserving.catch(() => undefined);
    return undefined;
  }

  /** As `reserve`, and it is on the disk when this returns. */
  async reserveNow(current: number): Promise<void> {
    await this.#write(current + revisionsReserved);
  }

  /** Says that nothing came after `current`, which a checkpoint holds: the next start goes on with it. */
  async settle(current: number): Promise<void> {
    await this.#reserving?.catch(() => undefined);
    await this.#write(current);
  }

  async #write(limit: number): Promise<void> {
    const record = { ...this.#record, revision_limit: limit };
    try {
      await writeRecord(this.#folder, record);
    } catch (error) {
      throw storageProblem(error);
    }
    this.#record = record;
  }
}
