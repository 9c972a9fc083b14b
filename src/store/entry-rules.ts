/**
 * What the journal's entries must be, each by itself and with those around it: a key of a known form, under which a value says
 * that it belongs, and records whose pieces are all there. So a key that is another one than was written is noticed by its value.
 */
import { entryKey, formatKey, isSealed, journalFormat, keyPrefix, recordPrefix } from './journal-entries.ts';
import { glanceAt } from './record.ts';
import type { Fault, FoundEntry, Range } from './tree-walk.ts';

const keyBytes = 21;

/** Of the record whose pieces are read. */
interface Pieces {
  /** Without the number of the piece. */
  readonly key: Buffer;
  readonly dataBytes: number;
  next: number;
  bytes: number;
  /** Whether its head is none, so that its pieces are nothing. */
  readonly isLost: boolean;
}

export class EntryRules {
  readonly #onFault: (fault: Fault) => void;
  #before: Buffer | undefined;
  /** What is wrong with the entries behind `#before`: the one that was written may be anywhere up to the next good one. */
  #wrong: string | undefined;
  #record: Pieces | undefined;
  #hasFormat = false;

  constructor(onFault: (fault: Fault) => void) {
    this.#onFault = onFault;
  }

  /** Takes the next entry; whether it is one. `value`: all of it, for an idempotency key. */
  take(entry: FoundEntry, value: Buffer | undefined): boolean {
    if (!this.#isOne(entry, value)) return false;
    const key = Buffer.from(entry.key);
    this.#settle(key);
    this.#before = key;
    return true;
  }

  /** There are no more. */
  end(): void {
    this.#endRecord();
    this.#settle(undefined);
    if (!this.#hasFormat)
      this.#onFault({ reason: `a journal must have the format "${journalFormat}". It has another`, range: undefined });
  }

  #settle(next: Buffer | undefined): void {
    if (this.#wrong === undefined) return;
    const isInOrder = this.#before === undefined || next === undefined || Buffer.compare(this.#before, next) <= 0;
    const [low, high] = isInOrder ? [this.#before, next] : [next, this.#before];
    this.#onFault({ reason: this.#wrong, range: { low, high } });
    this.#wrong = undefined;
  }

  #isOne({ key, size, start }: FoundEntry, value: Buffer | undefined): boolean {
    if (key.equals(formatKey)) {
      this.#hasFormat = start.toString('latin1') === journalFormat;
      return true;
    }
    const number = key.length === keyBytes ? key.readDoubleBE(9) : Number.NaN;
    const [prefix] = key;
    if (!Number.isSafeInteger(number) || number < 0 || (prefix !== recordPrefix && prefix !== keyPrefix))
      return this.#blameAround('an entry must have a key of a known form. One has another');
    const piece = key.readUInt32BE(17);
    if (prefix === recordPrefix)
      return piece === 0 ? this.#isHead(key, number, size, start) : this.#isPiece(key, number, piece, size);
    if (piece === 0 && value !== undefined && isSealed(key, value)) return true;
    return this.#blameAround(
      `an idempotency key must have the checksum that it carries. It has another (key ${number})`,
    );
  }

  #isHead(key: Buffer, revision: number, size: number, start: Buffer): boolean {
    this.#endRecord();
    const head = glanceAt(start);
    const data = head === undefined ? 0 : size - head.headBytes;
    const isOwn = head?.session.equals(key.subarray(1, 9)) && head.revision === revision && data >= 0;
    const isWhole = isOwn === true && (data === 0 || data === head?.dataBytes);
    this.#record = {
      key: Buffer.from(key.subarray(0, 17)),
      dataBytes: data === 0 ? (head?.dataBytes ?? 0) : 0,
      next: 1,
      bytes: 0,
      isLost: !isWhole,
    };
    if (isWhole) return true;
    const reason = `a record must stand under its session and revision, whole. It does not (record ${revision})`;
    // Either may be the one that was damaged.
    if (head !== undefined) this.#blame(reason, entryKey(recordPrefix, head.session, 0, 0));
    return this.#blame(reason, key);
  }

  #isPiece(key: Buffer, revision: number, piece: number, size: number): boolean {
    const record = this.#record;
    const isIts = record !== undefined && key.subarray(0, 17).equals(record.key);
    if (isIts && !record.isLost && piece === record.next) {
      record.next++;
      record.bytes += size;
      return true;
    }
    if (isIts && record.isLost) return false;
    return this.#blame(`a piece of a record must follow the one before. It does not (record ${revision})`, key);
  }

  #blame(reason: string, key: Buffer): false {
    const own = Buffer.from(key);
    this.#onFault({ reason, range: { low: own, high: own } });
    return false;
  }

  /** Where the key may be another one than was written. */
  #blameAround(reason: string): false {
    this.#wrong ??= reason;
    return false;
  }

  #endRecord(): void {
    const record = this.#record;
    this.#record = undefined;
    if (record === undefined || record.isLost || record.bytes === record.dataBytes) return;
    const range: Range = { low: record.key, high: Buffer.concat([record.key, Buffer.alloc(4, 0xff)]) };
    const reason = `a record must have ${record.dataBytes} bytes of data. It has ${record.bytes} (record ${record.key.readDoubleBE(9)})`;
    this.#onFault({ reason, range });
  }
}

/** Whether the session, by its id, can have entries in that range. */
export function concerns({ low, high }: Range, session: Buffer): boolean {
  return [recordPrefix, keyPrefix].some((prefix) => {
    const begin = Buffer.concat([Buffer.from([prefix]), session]);
    const end = Buffer.concat([begin, Buffer.alloc(keyBytes, 0xff)]);
    return (
      (low === undefined || Buffer.compare(low, end) <= 0) && (high === undefined || Buffer.compare(high, begin) >= 0)
    );
  });
}
