/**
 * The checkpoints of a session as they lie in its folder, for those who must leave it as it is: what cannot be read stays where
 * it is, and is named.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Problem } from '../errors.ts';
import { readCheckpointFile } from './checkpoint-file.ts';
import {
  type CheckpointInfo,
  idOf,
  type LoadedCheckpoint,
  numberOf,
  numbersAmong,
  readCheckpointInfo,
} from './checkpoint-folder.ts';
import type { CheckpointDescription } from './checkpoint-format.ts';
import type { Findings } from './findings.ts';

export interface DescribedCheckpoint extends CheckpointInfo {
  readonly revision: number;
  readonly description: CheckpointDescription;
}

export class CheckpointReader {
  readonly #path: string;
  readonly #session: string;
  readonly #findings: Findings;
  /** Newest first. */
  readonly #known: DescribedCheckpoint[] = [];

  private constructor(path: string, session: string, findings: Findings) {
    this.#path = path;
    this.#session = session;
    this.#findings = findings;
  }

  /** Reads headers only. */
  static async open(path: string, session: string, findings: Findings): Promise<CheckpointReader> {
    const reader = new CheckpointReader(path, session, findings);
    const files = await readdir(path);
    for (const number of numbersAmong(files)) {
      try {
        const { info, description } = await readCheckpointInfo(path, number);
        reader.#known.unshift({ ...info, revision: description.revision, description });
      } catch (error) {
        reader.#blame(idOf(number), error);
      }
    }
    for (const file of files) {
      const [, id] = /^(ckpt-\d{6,})\.safetensors\.sha256$/.exec(file) ?? [];
      if (id === undefined || files.includes(`${id}.safetensors`)) continue;
      // Where a crash came while the checkpoint was written.
      if (files.includes(`${id}.safetensors.tmp`)) continue;
      reader.#blame(id, new Error('a checkpoint must lie beside its .sha256 file. It is missing'));
    }
    return reader;
  }

  /** What the session is in the journal, as the newest checkpoint has it. */
  get journal(): string | undefined {
    return this.#known[0]?.description.journal;
  }

  /** Those numbered `from` or later, newest first. */
  since(from: number): DescribedCheckpoint[] {
    return this.#known.filter(({ id }) => numberOf(id) >= from);
  }

  /** Throws `checkpoint_not_found`. */
  find(id: string): DescribedCheckpoint {
    const found = this.#known.find((each) => each.id === id);
    if (found !== undefined) return found;
    throw new Problem('checkpoint_not_found', `the checkpoint ${id} must be there to be used. It is not`);
  }

  /** Verified against its SHA-256 while it is read. A damaged one is named, and the error says what is wrong with it. */
  async load(id: string): Promise<LoadedCheckpoint> {
    const { sha256 } = this.find(id);
    try {
      return await readCheckpointFile(this.pathOf(id), sha256);
    } catch (error) {
      this.#blame(id, error);
      throw error;
    }
  }

  /** The newest numbered `from` or later that can be read. */
  async loadNewest(from: number): Promise<LoadedCheckpoint | undefined> {
    for (const { id } of this.since(from)) {
      const loaded = await this.load(id).catch(() => undefined);
      if (loaded !== undefined) return loaded;
    }
    return undefined;
  }

  pathOf(id: string): string {
    return join(this.#path, `${id}.safetensors`);
  }

  #blame(id: string, error: unknown): void {
    this.#findings.add(this.pathOf(id), this.#session, (error as Error).message);
  }
}
