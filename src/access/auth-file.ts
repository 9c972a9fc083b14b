/**
 * The tokens of AUTH_FILE, as the file stands: it is read again every second, so that whatever way of replacing it is seen. A
 * file with a fault changes nothing, since a slip of an operator must neither let anybody in nor shut everybody out.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Log } from '../store/log.ts';
import type { Token } from './token.ts';
import { parseTokenFile } from './token-file.ts';

const everyMs = 1000;

export class AuthFile {
  readonly #path: string;
  readonly #log: Log;
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> | undefined;
  #text: string;
  #tokens: readonly Token[];
  #fault: string | undefined;

  private constructor(path: string, text: string, log: Log) {
    this.#path = path;
    this.#log = log;
    this.#text = text;
    this.#tokens = parseTokenFile(text);
  }

  /** Throws where the file cannot be read or has a fault. `onReload` is told how many tokens there are then. */
  static async open(path: string, log: Log, onReload: (tokens: number) => void): Promise<AuthFile> {
    try {
      const file = new AuthFile(path, await readFile(path, 'utf8'), log);
      file.#timer = setInterval(() => {
        file.#reading ??= file.#readAgain(onReload).finally(() => {
          file.#reading = undefined;
        });
      }, everyMs).unref();
      return file;
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

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#reading;
  }

  async #readAgain(onReload: (tokens: number) => void): Promise<void> {
    try {
      const text = await readFile(this.#path, 'utf8');
      if (text !== this.#text) {
        this.#tokens = parseTokenFile(text);
        this.#text = text;
        onReload(this.#tokens.length);
      }
      this.#fault = undefined;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#fault) {
        this.#log.error({ file: this.#path, error: message }, 'AUTH_FILE has a fault; the tokens stay as they were');
      }
      this.#fault = message;
    }
  }
}
