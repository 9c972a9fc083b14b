/**
 * What the journal knows of sessions that are no more: deletions that are on the disk and may have to be finished, and the keys
 * of requests that have made or deleted sessions which are gone. It stands there as the session of id 0.
 */

import type { Journal } from '../journal/journal.ts';
import type { SessionId } from '../journal/journal-entries.ts';
import type { JournalFile } from '../journal/journal-file.ts';
import { encodeHead } from '../journal/record.ts';
import { decodeEntry, encodeEntry, type KeyEntry } from './idempotency.ts';

export interface Deletion {
  readonly name: string;
  /** Hexadecimal, of the session's journal. */
  readonly journal: string;
  readonly keep_checkpoints: boolean;
}

const catalogueId: SessionId = Buffer.alloc(8);

export class Catalogue {
  readonly #journal: Journal;
  #deletions: number;
  #keys: number;

  constructor(journal: Journal) {
    this.#journal = journal;
    this.#deletions = journal.file.lastRevision(catalogueId);
    this.#keys = journal.file.lastKey(catalogueId);
  }

  /** Decides a deletion, and remembers these keys; both are on the disk when this returns. `finished` is told of its end. */
  async delete(deletion: Deletion, keys: readonly KeyEntry[]): Promise<{ finished(): void }> {
    const number = ++this.#deletions;
    const head = encodeHead({
      kind: 'delete',
      chain: 0,
      session: catalogueId,
      previous: number - 1,
      revision: number,
      iterations: 0,
      description: deletion,
      dataBytes: 0,
      dataChecksum: 0,
    });
    await this.#journal.submit((file) => {
      file.putRecord(catalogueId, number, head.bytes, []);
      this.put(file, keys);
    });
    const forget = () => this.#journal.removeRecords(catalogueId, number, number);
    return { finished: () => void forget().catch(() => undefined) };
  }

  /** Those that were decided and may not be finished. */
  deletions(): Deletion[] {
    return Catalogue.deletionsIn(this.#journal.file);
  }

  static deletionsIn(file: JournalFile): Deletion[] {
    return [...file.heads(catalogueId, -1)].map(({ description }) => description as Deletion);
  }

  /** All that were decided are finished. */
  async clear(): Promise<void> {
    await this.#journal.removeRecords(catalogueId, 0, Number.POSITIVE_INFINITY);
  }

  keys(): KeyEntry[] {
    return [...this.#journal.file.keys(catalogueId)].flatMap(({ value }) => decodeEntry(value) ?? []);
  }

  /** In a transaction: puts keys. */
  put(file: JournalFile, keys: readonly KeyEntry[]): void {
    for (const entry of keys) file.putKey(catalogueId, ++this.#keys, encodeEntry(entry));
    const { keysMax } = this.#journal;
    if (keys.length > 0 && this.#keys > keysMax)
      this.#journal.removeKeys(catalogueId, this.#keys - keysMax).catch(() => undefined);
  }

  /** Hexadecimal. */
  static get id(): string {
    return catalogueId.toString('hex');
  }

  static isIts(session: SessionId): boolean {
    return session.equals(catalogueId);
  }
}
