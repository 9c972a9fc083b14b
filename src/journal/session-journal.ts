/**
 * One session's part of the journal: its records, each chained to the one before, and its idempotency keys. Behind these
 * three calls, `append`, `read` and `trim`, another log can take lmdb's place.
 */

import { setImmediate } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { ArrivedData } from './arrived-data.ts';
import { type Change, decodeChange } from './changes.ts';
import type { DataFile } from './data-file.ts';
import type { Journal } from './journal.ts';
import type { SessionId } from './journal-entries.ts';
import { JournalDamage, type JournalFile, type StoredRecord } from './journal-file.ts';
import { Reach } from './reach.ts';
import { encodeHead, type Kind, type ReadHead } from './record.ts';

/** Where a change takes a session. */
export interface Place {
  /** The revision that it starts from. */
  readonly previous: number;
  readonly revision: number;
  readonly iterations: number;
}

export interface Appended {
  /** Resolves when the change may be acknowledged. */
  readonly acknowledged: Promise<void>;
  /** Settled when the tensors' memory is not read any more. */
  readonly committed: Promise<void>;
}

/** The data of a record: in memory, or none if they have a file of their own. */
export interface RecordData {
  readonly bytes: number;
  readonly checksum: number;
  readonly views: readonly Uint8Array[];
}

/** `everysec`: how far what is fsynced may lie behind. */
const behindMsMax = 800;
/** The oldest keys are removed when so many more have come. */
const keysForgottenAtOnce = 1_000;
/** Of an entry besides its record. */
const entryBytes = 1_024;
/** Bytes summed in one turn of the event loop. */
const summedAtOnce = 4 * 1024 * 1024;

export class SessionJournal {
  readonly id: SessionId;
  readonly #journal: Journal;
  /** The checksum of the last record. */
  #chain = 0;
  /** The number of the last idempotency key. */
  #keys = 0;
  /** The revision of the last record, if it is known. */
  #revision: number | undefined;
  /** When the last record may be acknowledged. */
  #acknowledged = Promise.resolve();
  #reach = new Reach();
  /** When the oldest record of `everysec` that is not fsynced was appended, and its transaction. */
  #behind: { since: number; committed: Promise<void> } | undefined;

  constructor(journal: Journal, id: SessionId) {
    this.#journal = journal;
    this.id = id;
  }

  /** How far the records have come that lead on from each other; another one when they begin anew. */
  get reach(): Reach {
    return this.#reach;
  }

  /** The number of the tail's last frame that is fsynced. */
  get synced(): number {
    return this.#journal.tail.synced;
  }

  /** Throws where the disk does not take changes now. */
  requireWritable(): void {
    this.#journal.requireWritable();
  }

  /** A file for so many bytes of data that are about to come, if they are to have one of their own. */
  begin(bytes: number): DataFile | undefined {
    return this.#journal.begin(bytes);
  }

  /**
   * The data of the change that comes to `revision`, as `append` takes them; large ones are on the disk then. `arrived`: a file
   * that may have them already. Others have their turn with the thread meanwhile.
   */
  async take(data: readonly Uint8Array[], revision: number, arrived?: ArrivedData): Promise<RecordData> {
    const bytes = data.reduce((sum, { length }) => sum + length, 0);
    const file = arrived?.fileOf(data) ?? this.begin(bytes);
    if (file === undefined) return { bytes, checksum: await checksumOf(data), views: data };
    if (file.bytes === 0) await inTurns(data, (piece) => file.put(piece));
    await this.#journal.keep(file, this.id, revision);
    return { bytes, checksum: file.checksum, views: [] };
  }

  /** Puts one change, with the idempotency keys that it came with, behind all that there are. */
  append(
    kind: Kind,
    description: unknown,
    { bytes: dataBytes, checksum: dataChecksum, views }: RecordData,
    place: Place,
    level: 'always' | 'everysec',
    keys: readonly Buffer[],
  ): Appended {
    const head = encodeHead({
      kind,
      chain: this.#chain,
      session: this.id,
      ...place,
      description,
      dataBytes,
      dataChecksum,
    });
    this.#chain = head.checksum;
    this.#revision = place.revision;
    const hasFile = views.length === 0 && dataBytes > 0;
    const bytes = head.bytes.length + (hasFile ? 0 : dataBytes) + entryBytes;
    // The tail knows a session by its changes.
    const isFromTail = kind !== 'create' && !hasFile && (level === 'everysec' || this.#journal.isQuick(bytes));
    const put = (file: JournalFile): void => {
      file.putRecord(this.id, place.revision, head.bytes, views);
      this.#putKeys(file, keys);
    };
    const committed = this.#journal.submit(put, bytes, !isFromTail);
    const frame = { session: this.id, keys, head: head.bytes, data: views };
    const own = isFromTail ? this.#journal.write(frame, level === 'always', committed) : committed;
    // A change is nothing without those before it, and the tail may take it when lmdb has failed to take one of them.
    const reach = this.#reach;
    const acknowledged = Promise.all([this.#acknowledged, own]).then(([, number]) =>
      reach.wrote(place, number ?? undefined, level === 'always'),
    );
    committed.then(
      () => reach.committed(place),
      () => undefined,
    );
    acknowledged.catch(() => undefined);
    this.#acknowledged = acknowledged;
    return {
      acknowledged: level === 'always' ? acknowledged : this.#withinASecond(acknowledged, committed),
      committed,
    };
  }

  /** Puts the key of a change that has no record. */
  appendKey(key: Buffer): Promise<void> {
    const written = this.#journal.submit((file) => this.#putKeys(file, [key]));
    written.catch(() => undefined);
    return written;
  }

  /** The changes behind revision `after`, in order, as far as they lead on from it. Throws `JournalDamage` where one is damaged. */
  read(after: number): Generator<{ head: ReadHead; change: Change }> {
    return changesOf(this.#journal.file.records(this.id, after), after);
  }

  /** The idempotency keys that are remembered, oldest first, and their numbers. */
  readKeys(): { number: number; value: Buffer }[] {
    const keys = [...this.#journal.file.keys(this.id)];
    this.#keys = keys.at(-1)?.number ?? 0;
    return keys;
  }

  /** Removes one idempotency key. */
  async forgetKey(number: number): Promise<void> {
    const entries = this.#journal.file.keyEntries(this.id, number, number, 1);
    await this.#journal.submit((file) => file.remove(entries));
  }

  /** For a new file of the journal: puts the session's keys there, and goes on without any record. */
  moveTo(file: JournalFile, keys: readonly Buffer[]): void {
    this.#keys = 0;
    this.#putKeys(file, keys);
    this.#goOn(0, undefined);
  }

  /** The heads of the records behind revision `after`, in order. */
  heads(after: number): Generator<ReadHead> {
    return this.#journal.file.heads(this.id, after);
  }

  /** Removes the records up to revision `to`, included. */
  trim(to: number): Promise<void> {
    return this.#journal.removeRecords(this.id, 0, to);
  }

  /** The next record leads on from `revision`, the last one that the journal has if it has any. */
  goOnFrom(revision: number): void {
    // The last one may be in the tail alone.
    const chain = revision === this.#revision ? this.#chain : this.#journal.file.headAt(this.id, revision)?.checksum;
    this.#goOn(chain ?? 0, revision);
  }

  /** As `goOnFrom`, where the last record was read just now. */
  goOnBehind(head: ReadHead): void {
    this.#goOn(head.checksum, head.revision);
    this.#reach.committed(head);
  }

  /** Resolves when what is read has all that was appended before. */
  flush(): Promise<void> {
    return this.#journal.flush();
  }

  #goOn(chain: number, revision: number | undefined): void {
    this.#chain = chain;
    this.#revision = revision;
    this.#reach = new Reach();
    this.#acknowledged = Promise.resolve();
    this.#behind = undefined;
  }

  #putKeys(file: JournalFile, keys: readonly Buffer[]): void {
    for (const key of keys) {
      file.putKey(this.id, ++this.#keys, key);
      const forgotten = this.#keys - this.#journal.keysMax;
      if (forgotten <= 0 || forgotten % keysForgottenAtOnce !== 0) continue;
      this.#journal.removeKeys(this.id, forgotten).catch(() => undefined);
    }
  }

  /** Resolves when `written` does and, if it would be more than a second late, what is behind is fsynced. */
  async #withinASecond(written: Promise<void>, committed: Promise<void>): Promise<void> {
    const now = performance.now();
    this.#behind ??= { since: now, committed };
    const { since, committed: oldest } = this.#behind;
    const forget = (): void => {
      if (this.#behind?.committed === oldest) this.#behind = undefined;
    };
    if (oldest === committed) committed.then(forget, forget);
    await written;
    if (now - since > behindMsMax) await oldest;
  }
}

/** CRC-32. */
async function checksumOf(data: readonly Uint8Array[]): Promise<number> {
  let sum = 0;
  await inTurns(data, (piece) => {
    sum = crc32(piece, sum);
  });
  return sum;
}

/** Gives out what there is bit by bit, so that others have their turn meanwhile. */
async function inTurns(data: readonly Uint8Array[], take: (piece: Uint8Array) => void): Promise<void> {
  let left = summedAtOnce;
  for (const view of data) {
    for (let at = 0; at < view.length; ) {
      const piece = view.subarray(at, at + left);
      take(piece);
      at += piece.length;
      left -= piece.length;
      if (left > 0) continue;
      await setImmediate();
      left = summedAtOnce;
    }
  }
}

/** What these records behind revision `after` stand for. Throws `JournalDamage` at the first that does not lead on. */
export function* changesOf(
  records: Iterable<StoredRecord>,
  after: number,
): Generator<{ head: ReadHead; change: Change }> {
  let chain: number | undefined;
  let previous = after;
  for (const { head, data } of records) {
    if (head.previous !== previous || (chain !== undefined && head.chain !== chain)) throw strayed(head, previous);
    yield { head, change: decodeChange(head.kind, head.description, data) };
    chain = head.checksum;
    previous = head.revision;
  }
}

/** A record that does not lead on from the one before, at revision `previous`. */
export function strayed(head: ReadHead, previous: number): JournalDamage {
  return new JournalDamage(
    `a record must lead on from the one before, at revision ${previous}. It leads on from ${head.previous}`,
    head.revision,
  );
}
