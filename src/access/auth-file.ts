/**
 * The tokens of AUTH_FILE, as the file stands: it is read again every second, so that whatever way of replacing it is seen. A
 * file with a fault changes nothing, since a slip of an operator must neither let anybody in nor shut everybody out.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { ContentWatch } from '../content-watch.ts';
import type { Log } from '../store/log.ts';
import type { Token } from './token.ts';
import { parseTokenFile } from './token-file.ts';

const everyMs = 1000;

export class AuthFile {
  readonly #watch: ContentWatch<string>;
  #tokens: readonly Token[];

  private constructor(path: string, text: string, log: Log, onReload: (tokens: number) => void) {
    this.#tokens = parseTokenFile(text);
    this.#watch = new ContentWatch(text, {
      everyMs,
      read: () => readFile(path, 'utf8'),
      textOf: (found) => found,
      use: (found) => {
        this.#tokens = parseTokenFile(found);
        onReload(this.#tokens.length);
      },
      onFault: ({ message: error }) => {
        log.error({ file: path, error }, 'AUTH_FILE has a fault; the tokens stay as they were');
      },
    });
  }

  /** Throws where the file cannot be read or has a fault. `onReload` is told how many tokens there are then. */
  static async open(path: string, log: Log, onReload: (tokens: number) => void): Promise<AuthFile> {
    try {
      return new AuthFile(path, await readFile(path, 'utf8'), log, onReload);
    } catch (error) {
      const rule = 'AUTH_FILE must be a file of tokens, {"tokens": [...]}';
      throw new Error(`${rule}. Received: ${path} (${(error as Error).message})`, { cause: error });
    }
  }

  /** Changes whenever the tokens do. */
  get tokens(): readonly Token[] {
    return this.#tokens;
  }

  /** The one whose secret this is, expired or not. All are compared, so that the time says nothing about any. */
  find(secret: string): Token | undefined {
    const digest = hash('sha256', secret, 'buffer');
    let found: Token | undefined;
    for (const token of this.#tokens) if (timingSafeEqual(token.digest, digest)) found = token;
    return found;
  }

  /** What the bearer of `token` has now: the file may have changed since. */
  current(token: Token): Token | undefined {
    return this.#tokens.find(({ digest }) => digest.equals(token.digest));
  }

  close(): Promise<void> {
    return this.#watch.close();
  }
}
