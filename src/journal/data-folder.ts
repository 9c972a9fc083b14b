/**
 * The files of large records' data (data-file.ts), beside the journal's own:
 *
 *     journal/data/<session>-<revision>    of the record at that revision, which has its head alone in lmdb
 *     journal/data/arriving-<number>       of one that is not in the journal yet
 *
 * A file is on the disk before its record, and goes after it: one without a record is nobody's.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Histogram, secondsBounds } from '../histogram.ts';
import { bodyPool } from '../tensor/buffer-pool.ts';
import { DataFile } from './data-file.ts';
import { makeFolder } from './files.ts';
import type { SessionId } from './journal-entries.ts';

interface Named {
  readonly name: string;
  readonly session: string;
  readonly revision: number;
}

export class DataFolder {
  readonly path: string;
  #arrived = 0;
  /** Bytes of each file, by name. */
  readonly #sizes = new Map<string, number>();
  /** How long it took until what was left of a file when its data were there was on the disk. */
  readonly keepSeconds = new Histogram(secondsBounds);

  /** In the journal's folder; it is made by `open`. */
  constructor(journal: string) {
    this.path = join(journal, 'data');
  }

  /** Of all files that records have. */
  get bytes(): number {
    return [...this.#sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Makes the folder, or removes what a crash left half arrived. */
  async open(): Promise<void> {
    await makeFolder(this.path);
    for (const name of await readdir(this.path))
      if (name.startsWith('arriving-')) await rm(join(this.path, name), { force: true });
      else this.#sizes.set(name, (await stat(join(this.path, name))).size);
  }

  /** A file for data that are about to come. `onWrite` is told of bytes before they are written. */
  begin(onWrite: (bytes: number) => void): DataFile {
    return new DataFile(join(this.path, `arriving-${++this.#arrived}`), onWrite);
  }

  /** Resolves when the data of the session's record at `revision` are on the disk. */
  async keep(data: DataFile, session: SessionId, revision: number): Promise<void> {
    const path = this.pathOf(session, revision);
    const started = performance.now();
    await data.keepAs(path);
    this.keepSeconds.observe((performance.now() - started) / 1000);
    this.#sizes.set(basename(path), data.bytes);
  }

  pathOf(session: SessionId, revision: number): string {
    return join(this.path, `${session.toString('hex')}-${revision}`);
  }

  /** All of a record's data, in a buffer of the pool's. Throws where they are not there, or not so many bytes. */
  read(session: SessionId, revision: number, bytes: number): Buffer {
    const path = this.pathOf(session, revision);
    const file = openSync(path, 'r');
    try {
      const { size } = fstatSync(file);
      if (size !== bytes) throw new Error(`${basename(path)} must have ${bytes} bytes. It has ${size}`);
      const data = bodyPool.take(bytes);
      for (let at = 0; at < bytes; ) {
        const read = readSync(file, data, at, Math.min(bytes - at, 2 ** 30), at);
        if (read === 0) throw new Error(`${basename(path)} must have ${bytes} bytes. It has ${at}`);
        at += read;
      }
      return data;
    } finally {
      closeSync(file);
    }
  }

  /** Removes those that are `toGo`, all by default, or brings them into the folder `aside`. */
  async clear(
    aside: string | undefined,
    toGo: (session: SessionId, revision: number) => boolean = () => true,
  ): Promise<void> {
    for (const { name, session, revision } of await this.#list()) {
      if (!toGo(Buffer.from(session, 'hex'), revision)) continue;
      const path = join(this.path, name);
      this.#sizes.delete(name);
      if (aside === undefined) await rm(path, { force: true });
      else {
        await makeFolder(aside);
        await rename(path, join(aside, name));
      }
    }
  }

  async #list(): Promise<Named[]> {
    return (await readdir(this.path)).flatMap((name) => {
      const [, session, revision] = /^([0-9a-f]{16})-(\d+)$/.exec(name) ?? [];
      return session === undefined ? [] : { name, session, revision: Number(revision) };
    });
  }
}
