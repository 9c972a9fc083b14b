/**
 * The data folder of a server that is not running, for an operator who wants to know what is in it: locked, so that none starts
 * meanwhile, and otherwise left as it is.
 */
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { CheckpointReader } from './checkpoint-reader.ts';
import { DataLock, FolderInUse } from './data-lock.ts';
import { Findings } from './findings.ts';
import { JournalReader } from './journal-reader.ts';
import { readRecordAsItIs, recordFile, type SessionRecord } from './session-record.ts';

export interface StoredSession {
  readonly name: string;
  readonly path: string;
  /** `undefined` where there are only checkpoints, kept when their session was deleted. */
  readonly record: SessionRecord | undefined;
  readonly checkpoints: CheckpointReader;
}

export interface StoredFile {
  /** From the data folder. */
  readonly file: string;
  readonly bytes: number;
}

export class StoppedFolder {
  readonly path: string;
  /** What is wrong with sessions and their checkpoints. */
  readonly findings: Findings;
  /** What is wrong with the journal. */
  readonly journalFindings: Findings;
  readonly #lock: DataLock;
  #journal: JournalReader | undefined;

  private constructor(path: string, lock: DataLock) {
    this.path = path;
    this.findings = new Findings(path);
    this.journalFindings = new Findings(path);
    this.#lock = lock;
  }

  /** Throws where that is no data folder, or a server is using it. */
  static async open(path: string): Promise<StoppedFolder> {
    const rule = 'DATA_DIR must be the data folder of a server';
    const isFolder = await stat(join(path, 'sessions')).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isFolder) throw new Error(`${rule}. Received: ${path} (there is no folder "sessions" in it)`);
    try {
      return new StoppedFolder(path, await DataLock.acquire(path));
    } catch (error) {
      const { message } = error as Error;
      if (error instanceof FolderInUse)
        throw new Error(`DATA_DIR must not be in use: stop the server first. Received: ${path}`, { cause: error });
      throw new Error(`${rule}, which can be locked. Received: ${path} (${message})`, { cause: error });
    }
  }

  /** By name; those of which only checkpoints are left too. */
  async sessions(): Promise<StoredSession[]> {
    const entries = await readdir(join(this.path, 'sessions'), { withFileTypes: true });
    const names = entries.flatMap((entry) => (entry.isFile() ? [] : [entry.name])).sort();
    const sessions: StoredSession[] = [];
    for (const name of names) {
      const path = join(this.path, 'sessions', name);
      const checkpoints = await CheckpointReader.open(path, name, this.findings);
      sessions.push({ name, path, checkpoints, record: await this.#record(name, path, checkpoints) });
    }
    return sessions;
  }

  /** All of it, read once. */
  async journal(sessions: readonly StoredSession[]): Promise<JournalReader> {
    const names = new Map(sessions.map(({ name, record }) => [record?.journal, name]));
    this.#journal = await JournalReader.open(join(this.path, 'journal'), this.journalFindings, names);
    return this.#journal;
  }

  /** What was set aside. */
  async damaged(): Promise<StoredFile[]> {
    const folder = join(this.path, 'damaged');
    const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
    const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    return Promise.all(
      files.sort().map(async (file) => ({ file: relative(this.path, file), bytes: (await stat(file)).size })),
    );
  }

  async close(): Promise<void> {
    await this.#journal?.close();
    await this.#lock.release();
  }

  /** One that cannot be read is what a start would take in its place. */
  async #record(name: string, path: string, { journal }: CheckpointReader): Promise<SessionRecord | undefined> {
    try {
      return (await readRecordAsItIs(path))?.record;
    } catch (error) {
      this.findings.add(join(path, recordFile), name, (error as Error).message);
      return { format: 2, journal: journal ?? '', first_checkpoint: 1, revision_limit: Number.POSITIVE_INFINITY };
    }
  }
}
