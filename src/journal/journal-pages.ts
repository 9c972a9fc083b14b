/**
 * The journal's file read page by page, before lmdb is shown it: its pages have no checksums, so a damaged one would hide records,
 * bring back older ones, or end the process. Everything that its newest transaction uses is looked at (tree-walk.ts,
 * entry-rules.ts), but for the insides of large values, which the records that they belong to have checksums of.
 */
import { setImmediate } from 'node:timers/promises';
import { concerns, EntryRules } from './entry-rules.ts';
import { keyPrefix } from './journal-entries.ts';
import { headerBytes, type Meta, metaBytes, PageFault, readHeader, readMeta } from './lmdb-page.ts';
import { PageFile } from './page-file.ts';
import { PageUse } from './page-use.ts';
import { all, type Fault, type FoundEntry, TreeWalk } from './tree-walk.ts';

/** Milliseconds' work before others have their turn with the thread. */
const turnMs = 10;
/** Beyond so many, all sessions are concerned. */
const faultsMax = 1_000;
const txnBytes = 8;
/** No value of an idempotency key is larger. */
const keySizeMax = 1024 * 1024;

/** What one of the two meta pages leads to. */
interface Examined {
  readonly meta: Meta;
  readonly faults: Fault[];
  /** Sound ones. */
  readonly entries: number;
  /** Whether there must be others that cannot be found from its root. */
  readonly isLost: boolean;
}

export interface SoundEntry {
  readonly key: Buffer;
  readonly value: Buffer;
}

export class JournalPages {
  /** What is wrong with it. */
  readonly faults: readonly Fault[];
  readonly #file: PageFile;
  readonly #examined: Examined | undefined;

  private constructor(file: PageFile, examined: Examined | undefined, faults: readonly Fault[]) {
    this.#file = file;
    this.#examined = examined;
    this.faults = faults;
  }

  /** Looks at all of it; to be closed. Throws only where that is no matter of its pages. */
  static async examine(path: string): Promise<JournalPages> {
    const file = PageFile.open(path);
    try {
      const faults: Fault[] = [];
      const [newest, older] = choose(file, faults);
      let examined = newest && (await examine(file, newest));
      if (examined?.isLost && older !== undefined) {
        // The transaction before it may be whole: what it has is never written over by the next one.
        const before = await examine(file, older);
        if (before.faults.length === 0 && before.entries > examined.entries) {
          faults.push(...examined.faults);
          examined = before;
        }
      }
      faults.push(...(examined?.faults ?? []));
      return new JournalPages(file, examined, faults);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Why a session may have lost something of what it had in the journal. */
  reasonFor(session: Buffer): string | undefined {
    return this.faults.find(({ range }) => range !== undefined && concerns(range, session))?.reason;
  }

  /** The entries that nothing was found wrong with. */
  *sound(): Generator<SoundEntry> {
    if (this.#examined === undefined) return;
    const { meta } = this.#examined;
    const ignore = (): void => undefined;
    const use = new PageUse(this.#file.pages, meta.lastPage);
    const rules = new EntryRules(ignore);
    for (const entry of new TreeWalk(this.#file, meta.main, meta.transaction, use, ignore).entries()) {
      if (!take(this.#file, rules, entry)) continue;
      const value = tryReading(this.#file, entry);
      if (value !== undefined) yield { key: Buffer.from(entry.key), value };
    }
  }

  close(): void {
    this.#file.close();
  }
}

/** The newer of the two meta pages, as lmdb picks it, and the other one, as far as there are such. */
function choose(file: PageFile, faults: Fault[]): [Meta?, Meta?] {
  const metas: Meta[] = [];
  for (const number of [0, 1]) {
    try {
      metas.push(readMeta(file.read(number, Buffer.alloc(metaBytes)), number, file.pageSize));
    } catch (error) {
      if (!(error instanceof PageFault)) throw error;
      faults.push({ reason: error.message, range: all });
    }
  }
  const [zero, one] = metas;
  if (zero === undefined || one === undefined) return metas as [Meta?];
  const isSame =
    zero.free.flags === one.free.flags && [zero, one].every(({ main }) => main.flags === 0 && main.pad === 0);
  if (!isSame) faults.push({ reason: 'the meta pages must agree on what the file is. They differ', range: undefined });
  const [even, odd] = [zero.transaction, one.transaction];
  if (Math.abs(even - odd) === 1 && even % 2 === 0) return even > odd ? [zero, one] : [one, zero];
  const reason = `the meta pages must be of two transactions, one after the other. They are of ${even} and ${odd}`;
  faults.push({ reason, range: all });
  // The roots are as new as the transaction.
  return rootsTransaction(file, zero) > rootsTransaction(file, one) ? [zero, one] : [one, zero];
}

function rootsTransaction(file: PageFile, { free, main }: Meta): number {
  const transactions = [free.root, main.root].map((root) => {
    try {
      return root === undefined ? 0 : readHeader(file.read(root, Buffer.alloc(headerBytes))).transaction;
    } catch {
      return 0;
    }
  });
  return Math.max(...transactions);
}

async function examine(file: PageFile, meta: Meta): Promise<Examined> {
  const faults: Fault[] = [];
  const add = (fault: Fault): void => {
    if (faults.length < faultsMax) faults.push(fault);
    else if (faults.length === faultsMax)
      faults.push({ reason: `more than ${faultsMax} things are wrong`, range: all });
  };
  const turns = new Turns();
  const use = new PageUse(file.pages, meta.lastPage);
  const addFree = ({ reason }: Fault): void =>
    add({ reason: `in the list of free pages: ${reason}`, range: undefined });
  for (const entry of new TreeWalk(file, meta.free, meta.transaction, use, addFree, sortableNumber).entries()) {
    const wrong = takeFree(file, entry, meta.transaction, use);
    if (wrong !== undefined) addFree({ reason: wrong, range: undefined });
    await turns.next();
  }
  if (!use.isLast(meta.lastPage))
    add({ reason: `the last page must be in the file, or free. It is ${meta.lastPage}`, range: undefined });
  const rules = new EntryRules(add);
  const walk = new TreeWalk(file, meta.main, meta.transaction, use, add);
  let entries = 0;
  for (const entry of walk.entries()) {
    if (take(file, rules, entry)) entries++;
    if (turns.isOver) await turns.next();
  }
  rules.end();
  return { meta, faults, entries, isLost: walk.isLost };
}

function take(file: PageFile, rules: EntryRules, entry: FoundEntry): boolean {
  const isKey = entry.key[0] === keyPrefix && entry.size <= keySizeMax;
  const value = !isKey ? undefined : entry.overflow === undefined ? entry.start : tryReading(file, entry);
  return rules.take(entry, value);
}

/** All of an entry's value. */
function tryReading(file: PageFile, { overflow, size, start }: FoundEntry): Buffer | undefined {
  if (overflow === undefined) return Buffer.from(start);
  try {
    return file.read(overflow, Buffer.allocUnsafeSlow(size), headerBytes);
  } catch (error) {
    if (error instanceof PageFault) return undefined;
    throw error;
  }
}

/**
 * An entry of the list of free pages: the transaction that freed them, and how many numbers follow, of which 0 is none, and a
 * negative one says how many pages there are from the next number on. Returns what is wrong with it.
 */
function takeFree(file: PageFile, entry: FoundEntry, last: number, use: PageUse): string | undefined {
  const value = tryReading(file, entry);
  const { key } = entry;
  if (value === undefined || key.length !== txnBytes || value.length < txnBytes || value.length % txnBytes !== 0)
    return 'an entry must be of numbers. One is not';
  const numbers = new BigInt64Array(value.length / txnBytes);
  new Uint8Array(numbers.buffer).set(value);
  const [count = 0, ...ids] = Array.from(numbers, Number);
  if (count < 0 || count > ids.length)
    return `an entry of ${ids.length} numbers must not claim more. It claims ${count}`;
  if (Number(key.readBigUInt64LE()) > last) return 'an entry must be of a transaction that was. One is of a later one';
  for (let k = 0; k < count; k++) {
    const number = ids[k] as number;
    if (number === 0) continue;
    if (number < 0) k++;
    const wrong =
      k < count ? use.free(ids[k] as number, number < 0 ? -number : 1) : 'a block must have a number. One has none';
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

/** lmdb sorts transactions as numbers. */
function sortableNumber(key: Buffer): Buffer {
  return key.length === txnBytes ? Buffer.from(key).swap64() : key;
}

/** Others have their turn with the thread now and then. */
class Turns {
  #since = performance.now();

  get isOver(): boolean {
    return performance.now() - this.#since > turnMs;
  }

  async next(): Promise<void> {
    if (!this.isOver) return;
    await setImmediate();
    this.#since = performance.now();
  }
}
