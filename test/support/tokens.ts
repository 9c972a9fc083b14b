/** Tokens for tests: a file of them, and their secrets by name. */
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryFolder } from './server-process.ts';

export interface GivenToken {
  readonly roles: readonly string[];
  readonly sessions: readonly string[];
  readonly [more: string]: unknown;
}

/** The secret of the token of this name, by which tests call it. */
export function secretOf(name: string): string {
  return `secret-of-${name}`;
}

/** The header of a request by the bearer of the token of this name. */
export function by(name: string): { readonly authorization: string } {
  return { authorization: `Bearer ${secretOf(name)}` };
}

export function tokenFileText(tokens: Readonly<Record<string, GivenToken>>): string {
  const entries = Object.entries(tokens).map(([name, token]) => {
    return { name, sha256: createHash('sha256').update(secretOf(name)).digest('hex'), ...token };
  });
  return JSON.stringify({ tokens: entries });
}

/** Writes a file of tokens that is removed when the test ends; returns its path. */
export async function tokenFile(
  t: { after(task: () => Promise<unknown>): void },
  tokens: Readonly<Record<string, GivenToken>>,
): Promise<string> {
  const path = join(await temporaryFolder(t), 'tokens.json');
  await writeFile(path, tokenFileText(tokens));
  return path;
}
