/**
 * How a session's changes get into its journal, by its level of durability. Under `checkpoint` they do not. When it is left,
 * records begin with the next checkpoint's snapshot and count from when that is on the disk, since they lead on from it.
 */

import { ArrivedData } from '../journal/arrived-data.ts';
import { type Change, encodeChange } from '../journal/changes.ts';
import type { Reach } from '../journal/reach.ts';
import type { Appended, Place, SessionJournal } from '../journal/session-journal.ts';
import type { Position } from '../session/session.ts';
import type { Durability } from '../session/settings.ts';
import { encodeEntry, type KeyEntry } from './idempotency.ts';

const done = Promise.resolve();

export class ChangeLog {
  readonly journal: SessionJournal;
  /** `starting`: the checkpoint that the records lead on from is being written. */
  #state: 'off' | 'starting' | 'on';
  /** How far the records have come that lead on from what the disk has. */
  #reach: Reach;
  /** The last key that has no record. */
  #keyWritten: Promise<void> = done;

  /** `on`: whether the journal leads on from what the disk has. */
  constructor(journal: SessionJournal, on: boolean) {
    this.journal = journal;
    this.#reach = journal.reach;
    this.#state = on ? 'on' : 'off';
  }

  /** What holds now of a session whose settings ask for `wanted`. */
  level(wanted: Durability): Durability {
    return this.#state === 'on' ? wanted : 'checkpoint';
  }

  /** Whether changes are put in the journal. */
  get isOn(): boolean {
    return this.#state !== 'off';
  }

  /** What of the session's changes its records bring back. */
  get reach(): Reach {
    return this.#reach;
  }

  /** To be told that the journal's file has all that memory has, and is gone on with. */
  goOnFrom(position: Position): void {
    this.journal.goOnFrom(position.revision);
    if (this.#state !== 'on') return;
    this.journal.reach.committed(position);
    this.#reach = this.journal.reach;
  }

  /** To be told that the journal leads on from a checkpoint of the session as it is. */
  beganAnew(wanted: Durability): void {
    this.#state = wanted === 'checkpoint' ? 'off' : 'on';
    this.#reach = this.journal.reach;
  }

  /** For the gradients in a body of so many bytes that is about to arrive, if they are to go to the disk meanwhile. */
  begin(bodyBytes: number): ArrivedData | undefined {
    const file = this.#state === 'off' ? undefined : this.journal.begin(bodyBytes);
    return file && new ArrivedData(file, bodyBytes);
  }

  /** Whether a checkpoint is needed for that which the settings ask for. */
  lacksCheckpoint(wanted: Durability): boolean {
    return this.#state === 'off' && wanted !== 'checkpoint';
  }

  /**
   * Puts a change that has been checked, and can be applied when it is acknowledged, with the keys of those who asked for it.
   * `arrived`: what has been written of its data already.
   */
  async append(
    change: Change,
    place: Place,
    wanted: Durability,
    entries: readonly KeyEntry[],
    arrived?: ArrivedData,
  ): Promise<Appended & { level: Durability }> {
    const level = this.level(wanted);
    const keys = entries.map(encodeEntry);
    if (this.#state === 'off') {
      for (const key of keys) this.#keyWritten = this.journal.appendKey(key);
      return { ...nothing, level };
    }
    const { description, data } = encodeChange(change);
    const taken = await this.journal.take(data, place.revision, arrived);
    const appended = this.journal.append(
      change.kind,
      description,
      taken,
      place,
      wanted === 'everysec' ? wanted : 'always',
      keys,
    );
    if (level !== 'checkpoint') return { ...appended, level };
    appended.committed.catch(() => undefined);
    return { ...nothing, committed: appended.committed, level };
  }

  /** Resolves when the keys of changes without a record are written, or the disk takes none. */
  async keysWritten(): Promise<void> {
    await this.#keyWritten.catch(() => undefined);
  }

  /** To be told of every change of the level that is asked for, when it holds. */
  levelChanged(wanted: Durability): void {
    if (wanted === 'checkpoint') this.#state = 'off';
  }

  /** To be told when a snapshot for a checkpoint is taken, at `revision`. */
  snapshotTaken(wanted: Durability, revision: number): void {
    if (!this.lacksCheckpoint(wanted)) return;
    this.#state = 'starting';
    this.journal.goOnFrom(revision);
  }

  /** To be told what has become of that checkpoint. */
  checkpointOver(written: boolean): void {
    if (this.#state !== 'starting') return;
    this.#state = written ? 'on' : 'off';
    if (written) this.#reach = this.journal.reach;
  }
}

const nothing = { acknowledged: done, committed: done };
