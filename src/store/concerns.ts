/**
 * The sessions that a damaged file of the journal may have cost something, noted beside it until they have been brought back: a
 * crash in between must not make the next start take what is left for all that there was.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { removeDurably, writeFileDurably } from '../journal/files.ts';

export interface Concern {
  readonly reason: string;
  /** Where the damaged file lies now. */
  readonly file: string;
}

/** By the sessions' ids in the journal. */
export type Concerns = ReadonlyMap<string, Concern>;

const name = 'concerned.json';

export async function noteConcerns(folder: string, concerns: Concerns): Promise<void> {
  if (concerns.size > 0) await writeFileDurably(join(folder, name), JSON.stringify([...concerns]));
}

/** Those that were noted and not forgotten. */
export async function notedConcerns(folder: string): Promise<Concerns> {
  try {
    return new Map(JSON.parse(await readFile(join(folder, name), 'utf8')) as [string, Concern][]);
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw error;
  }
}

export async function forgetConcerns(folder: string): Promise<void> {
  await removeDurably(join(folder, name));
}
