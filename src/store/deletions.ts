/**
 * Deleting sessions. A deletion is decided when it is in the journal, with the keys of the requests that must not make or delete
 * the session again; a crash after that does not bring it back. Then its files go, by one rename.
 */
import { rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder, syncFolder } from '../journal/files.ts';
import type { Journal } from '../journal/journal.ts';
import type { Catalogue, Deletion } from './catalogue.ts';
import type { KeyEntry } from './idempotency.ts';
import { readRecord, recordFile } from './session-record.ts';

export class Deletions {
  readonly #folder: string;
  readonly #journal: Journal;
  readonly #catalogue: Catalogue;

  /** `folder`: the data folder. */
  constructor(folder: string, journal: Journal, catalogue: Catalogue) {
    this.#folder = folder;
    this.#journal = journal;
    this.#catalogue = catalogue;
  }

  /** Decides one; resolves to what removes the files, which is done at the next start where it fails. */
  async decide(deletion: Deletion, keys: readonly KeyEntry[]): Promise<() => Promise<void>> {
    const { finished } = await this.#catalogue.delete(deletion, keys);
    return async () => {
      const aside = await this.#putAside(deletion);
      await this.#journal.forget(Buffer.from(deletion.journal, 'hex'));
      finished();
      await rm(aside, { recursive: true, force: true });
    };
  }

  /** At the start: finishes those that were decided. */
  async finishAll(): Promise<void> {
    const deletions = this.#catalogue.deletions();
    for (const deletion of deletions) {
      const record = await readRecord(this.#path(deletion.name)).catch(() => undefined);
      if (record?.journal === deletion.journal) await this.#putAside(deletion);
    }
    if (deletions.length > 0) await this.#catalogue.clear();
  }

  /** Moves what is to go to the trash, durably. */
  async #putAside({ name, journal, keep_checkpoints }: Deletion): Promise<string> {
    const folder = this.#path(name);
    const path = keep_checkpoints ? join(folder, recordFile) : folder;
    const aside = join(this.#folder, 'trash', `${name}-${journal}`);
    await makeFolder(dirname(aside));
    await rename(path, aside);
    await syncFolder(dirname(path));
    return aside;
  }

  #path(name: string): string {
    return join(this.#folder, 'sessions', name);
  }
}
