/**
 * How far a session's records have come on their way to the disk: what survives a killed process, what a power cut, and where it
 * lies. It counts for as long as the records lead on from something that the disk has, which is left to the store.
 */
import type { Position } from '../session/session.ts';

/** `journal`: its database. */
export type RecordPlace = 'journal' | 'journal tail';

export class Reach {
  /** The last record that is written, and its frame in the tail, if it went there. */
  #written: Position | undefined;
  #frame: number | undefined;
  /** The last one that was fsynced in the tail, as far as its own level asked for that. */
  #synced: Position | undefined;
  /** The last record that the database has, fsynced. */
  #committed: Position | undefined;

  /** The record that leads to `position`, and all before it, are written; `frame`: its number in the tail, where it may be fsynced. */
  wrote(position: Position, frame: number | undefined, isSynced: boolean): void {
    this.#written = position;
    this.#frame = frame;
    if (isSynced) this.#synced = position;
  }

  /** The database has the record that leads to `position`, and all before it. */
  committed(position: Position): void {
    this.#committed = position;
  }

  /** What a killed process leaves. */
  get written(): Position | undefined {
    return later(this.#committed, this.#written);
  }

  /** What a power cut leaves, where the tail's frames are fsynced up to `synced`. */
  durable(synced: number): { position: Position; in: RecordPlace } | undefined {
    const isSynced = this.#frame !== undefined && this.#frame <= synced;
    const position = later(this.#committed, isSynced ? this.#written : this.#synced);
    return position && { position, in: position === this.#committed ? 'journal' : 'journal tail' };
  }
}

/** The first, unless the second is behind it. */
function later(first: Position | undefined, second: Position | undefined): Position | undefined {
  return (second?.revision ?? -1) > (first?.revision ?? -1) ? second : first;
}
