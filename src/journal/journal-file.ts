/**
 * One file of the journal: records and idempotency keys of all sessions in one lmdb database. A transaction is on the disk,
 * fsynced, when its `commit` is over. Keys of the database, big-endian, so that they sort:
 *
 *     1  session (8 bytes)  revision (float64)    a record; large data are in a file of their own (data-folder.ts)
 *     2  session (8 bytes)  number (float64)      an idempotency key, sealed
 *     0                                           the format, in ASCII
 */
import { dirname } from 'node:path';
import * as lmdb from 'lmdb';
import { bodyPool } from '../tensor/buffer-pool.ts';
import { DataFolder } from './data-folder.ts';
import {
  behind,
  databaseOptions,
  entryKey,
  formatKey,
  isSealed,
  journalFormat,
  keyPrefix,
  numberOf,
  range,
  recordPrefix,
  type SessionId,
  seal,
  sealBytes,
} from './journal-entries.ts';
import { checkData, decodeHead, type ReadHead } from './record.ts';
import { Room } from './room.ts';

export interface StoredRecord {
  readonly head: ReadHead;
  /** Good until the next record is asked for. */
  readonly data: Uint8Array;
}

type Entry = { readonly key: Buffer; readonly value: Buffer };

/** Where the file says something that cannot be. `revision`: of the record, if it is one. */
export class JournalDamage extends Error {
  override readonly name = 'JournalDamage';
  readonly revision: number | undefined;

  constructor(reason: string, revision?: number) {
    super(reason);
    this.revision = revision;
  }
}

/** Of the pages that a transaction writes anew besides what it puts: of the tree, and of the list of free ones. */
const changedPagesBytes = 256 * 1024;
/** Keys, and bytes of entries, that are listed at a time. */
const keysAtOnce = 1_000;
const readAtOnce = 8 * 1024 * 1024;

export class JournalFile {
  readonly path: string;
  readonly #db: lmdb.RootDatabase<Buffer, Buffer>;
  readonly #room: Room;
  readonly #data: DataFolder;

  /**
   * Throws for a file of another format. A damaged one ends the process: its pages must have been looked at before
   * (journal-pages.ts). With `make`, it may be empty or not there.
   */
  constructor(path: string, { make = false } = {}) {
    this.path = path;
    this.#data = new DataFolder(dirname(path));
    this.#db = lmdb.open({ path, ...databaseOptions });
    this.#room = new Room(path, () => (this.#stats().lastPageNumber + 1) * this.#stats().pageSize);
    const format = this.#db.getBinary(formatKey)?.toString('ascii');
    if (format === journalFormat) return;
    if (format === undefined && make) this.#db.putSync(formatKey, Buffer.from(journalFormat));
    else
      throw new JournalDamage(
        `a journal must have the format "${journalFormat}". Received: ${JSON.stringify(format ?? 'none')}`,
      );
  }

  /**
   * One transaction of what `task` puts and removes, about so many bytes; resolves when it is on the disk. One at a time, since
   * lmdb would commit a later one although an earlier one has failed. When one has failed, nothing must be put any more but
   * the file closed.
   */
  async commit(task: () => void, bytes: number): Promise<void> {
    const needed = bytes + changedPagesBytes;
    if (!this.#room.take(needed)) await this.#room.require(needed);
    try {
      await this.#db.batch(task);
    } catch (error) {
      const { commitError } = error as { commitError?: Promise<never> };
      throw await (commitError?.catch((reason: unknown) => reason) ?? error);
    }
  }

  /** Whether there was room for so many bytes more, and plenty besides, when that was last looked at. */
  hasPlenty(bytes: number): boolean {
    return this.#room.hasPlenty(bytes + changedPagesBytes);
  }

  /** To be told of what others write to the same disk. */
  spend(bytes: number): void {
    this.#room.spend(bytes);
  }

  /** In `commit`: the format once more, so that there is something to write. */
  putFormat(): void {
    void this.#db.put(formatKey, Buffer.from(journalFormat));
  }

  /** In `commit`: a record, with its data unless they have a file of their own. */
  putRecord(session: SessionId, revision: number, head: Buffer, data: readonly Uint8Array[]): void {
    const value = data.length === 0 ? head : Buffer.concat([head, ...data]);
    void this.#db.put(entryKey(recordPrefix, session, revision), value);
  }

  /** In `commit`: an idempotency key. */
  putKey(session: SessionId, number: number, value: Buffer): void {
    const key = entryKey(keyPrefix, session, number);
    void this.#db.put(key, seal(key, value));
  }

  /** In `commit`: removes entries that were listed. */
  remove(entries: Iterable<Buffer>): void {
    for (const entry of entries) void this.#db.remove(entry);
  }

  /** The idempotency keys of a session, by number. Throws `JournalDamage` where one cannot be read. */
  *keys(session: SessionId): Generator<{ number: number; value: Buffer }> {
    for (const { key, value } of this.#db.getRange(range(keyPrefix, session, -1))) {
      const number = numberOf(key);
      const rule = 'an idempotency key must have the checksum that it carries';
      if (!isSealed(key, value)) throw new JournalDamage(`${rule}. It has another (key ${number})`);
      yield { number, value: value.subarray(sealBytes) };
    }
  }

  /** The number of the session's last idempotency key; 0 if it has none. */
  lastKey(session: SessionId): number {
    const { start, end } = range(keyPrefix, session, -1);
    const [last] = this.#db.getKeys({ start: end, end: start, reverse: true, limit: 1 });
    return last === undefined ? 0 : numberOf(last);
  }

  /** The records behind revision `after`, in order. Throws `JournalDamage` where one cannot be read. */
  *records(session: SessionId, after: number): Generator<StoredRecord> {
    const memory = new Scratch();
    for (let from = after; ; ) {
      const keys = [...this.#db.getKeys({ ...range(recordPrefix, session, from), limit: keysAtOnce })];
      for (const key of keys) {
        const value = memory.copyOf(this.#db.getBinaryFast(key));
        // Unless it was removed meanwhile.
        if (value !== undefined) yield* this.#whole(session, numberOf(key), value);
      }
      const last = keys.at(-1);
      if (last === undefined) return;
      from = numberOf(last);
    }
  }

  /** The head of the session's record at `revision`, if there is one. */
  headAt(session: SessionId, revision: number): ReadHead | undefined {
    const bytes = this.#db.getBinary(entryKey(recordPrefix, session, revision));
    return bytes && readHead(session, revision, bytes);
  }

  /** Whether there is a record at `revision` whose data have a file of their own, or a record that cannot be read. */
  hasDataFile(session: SessionId, revision: number): boolean {
    const value = this.#db.getBinary(entryKey(recordPrefix, session, revision));
    if (value === undefined) return false;
    try {
      return hasFile(readHead(session, revision, value), value);
    } catch {
      return true;
    }
  }

  /** The heads alone of the records behind revision `after`, in order. */
  *heads(session: SessionId, after: number): Generator<ReadHead> {
    for (const key of this.#db.getKeys(range(recordPrefix, session, after))) {
      yield readHead(session, numberOf(key), this.#db.getBinary(key) as Buffer);
    }
  }

  /** Of the session's last record; 0 if it has none. */
  lastRevision(session: SessionId): number {
    const { start, end } = range(recordPrefix, session, -1);
    const [last] = this.#db.getKeys({ start: end, end: start, reverse: true, limit: 1 });
    return last === undefined ? 0 : numberOf(last);
  }

  /** Up to `limit` entries of the session's records from revision `first` to `last`, both included, in order. */
  recordEntries(session: SessionId, first: number, last: number, limit: number): Buffer[] {
    const start = entryKey(recordPrefix, session, first);
    return [...this.#db.getKeys({ start, end: behind(entryKey(recordPrefix, session, last)), limit })];
  }

  /** Up to `limit` entries of the session's keys from number `first` to `last`, both included, in order. */
  keyEntries(session: SessionId, first: number, last: number, limit: number): Buffer[] {
    const start = entryKey(keyPrefix, session, first);
    return [...this.#db.getKeys({ start, end: behind(entryKey(keyPrefix, session, last)), limit })];
  }

  /** The sessions that there are entries of. */
  sessions(): SessionId[] {
    const found = new Map<string, SessionId>();
    for (const prefix of [recordPrefix, keyPrefix]) {
      let start: Buffer = Buffer.from([prefix]);
      for (;;) {
        const [key] = this.#db.getKeys({ start, end: Buffer.from([prefix + 1]), limit: 1 });
        if (key === undefined) break;
        const session = Buffer.from(key.subarray(1, 9));
        found.set(session.toString('hex'), session);
        start = behind(entryKey(prefix, session, Number.POSITIVE_INFINITY));
      }
    }
    return [...found.values()];
  }

  /** Entries as they stand, some megabytes of them, behind `after`; all but the format. */
  entries(after: Buffer = formatKey): Entry[] {
    const batch: Entry[] = [];
    let left = readAtOnce;
    for (const entry of this.#db.getRange({ start: behind(after) })) {
      batch.push(entry);
      left -= entry.value.length;
      if (left <= 0) break;
    }
    return batch;
  }

  /** In `commit`: an entry as it stands in another file. */
  putEntry({ key, value }: Entry): void {
    void this.#db.put(key, value);
  }

  async close(): Promise<void> {
    await this.#db.close();
  }

  #stats(): { lastPageNumber: number; pageSize: number } {
    return this.#db.getStats() as { lastPageNumber: number; pageSize: number };
  }

  /** One record with its data, checked. */
  *#whole(session: SessionId, revision: number, value: Buffer): Generator<StoredRecord> {
    const head = readHead(session, revision, value);
    if (!hasFile(head, value)) {
      const data = value.subarray(head.bytes);
      check(revision, () => checkData(head, data));
      yield { head, data };
      return;
    }
    const data = check(revision, () => this.#data.read(session, revision, head.dataBytes));
    try {
      check(revision, () => checkData(head, data));
      yield { head, data };
    } finally {
      bodyPool.give(data);
    }
  }
}

/** Memory for one value at a time: what lmdb has read goes with its next call, and fresh memory takes longer than a step. */
class Scratch {
  #memory = Buffer.alloc(65_536);

  copyOf(value: Buffer | undefined): Buffer | undefined {
    if (value === undefined) return;
    // It is all of lmdb's memory for values, with a length that says how much of it is one.
    const { buffer, byteOffset, length } = value;
    if (length > this.#memory.length) this.#memory = Buffer.alloc(2 * length);
    this.#memory.set(new Uint8Array(buffer, byteOffset, length));
    return this.#memory.subarray(0, length);
  }
}

function hasFile(head: ReadHead, value: Buffer): boolean {
  return head.dataBytes > 0 && value.length === head.bytes;
}

function readHead(session: SessionId, revision: number, bytes: Buffer): ReadHead {
  return check(revision, () => {
    const head = decodeHead(bytes);
    if (head.revision !== revision)
      throw new Error(`a record must stand under its revision, ${head.revision}. It stands under ${revision}`);
    if (!head.session.equals(session))
      throw new Error('a record must stand under its session. It stands under another');
    return head;
  });
}

function check<T>(revision: number, task: () => T): T {
  try {
    return task();
  } catch (error) {
    throw new JournalDamage((error as Error).message, revision);
  }
}
