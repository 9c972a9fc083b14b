/**
 * What the journal's entries must be: a key of a known form, and a value that says that it belongs under it. So a key that is
 * another one than was written is noticed by its value.
 */
import { entryKey, formatKey, isSealed, journalFormat, keyPrefix, recordPrefix } from './journal-entries.ts';
import { glanceAt } from './record.ts';
import type { Fault, FoundEntry, Range } from './tree-walk.ts';

const keyBytes = 17;

export class EntryRules {
  readonly #onFault: (fault: Fault) => void;
  #before: Buffer | undefined;
  /** What is wrong with the entries behind `#before`: the one that was written may be anywhere up to the next good one. */
  #wrong: string | undefined;
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
    if (prefix === recordPrefix) return this.#isRecord(key, number, size, start);
    if (value !== undefined && isSealed(key, value)) return true;
    return this.#blameAround(
      `an idempotency key must have the checksum that it carries. It has another (key ${number})`,
    );
  }

  #isRecord(key: Buffer, revision: number, size: number, start: Buffer): boolean {
    const head = glanceAt(start);
    if (head?.session.equals(key.subarray(1, 9)) && head.revision === revision) {
      // Its data stand behind its head, or in a file of their own.
      if (size === head.headBytes || size === head.headBytes + head.dataBytes) return true;
    }
    const reason = `a record must stand under its session and revision, whole. It does not (record ${revision})`;
    // Either may be the one that was damaged.
    if (head !== undefined) this.#blame(reason, entryKey(recordPrefix, head.session, 0));
    return this.#blame(reason, key);
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
