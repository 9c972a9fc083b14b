/**
 * Contents that are looked at again and again, those of files that an operator replaces: what is new is judged, once, when two
 * looks in a row have found it, since what is still being written has changed by the next. Contents are compared, not times,
 * since those say little through links and copies. What they mean is left to whoever watches.
 */
export interface Watched<T> {
  readonly everyMs: number;
  readonly read: () => Promise<T>;
  /** The same for the same contents. */
  readonly textOf: (content: T) => string;
  /** Told of what is new. Throws where it is no good. */
  readonly use: (content: T) => void;
  /** Told, once, why what is new is no good, or cannot be read. */
  readonly onFault: (error: Error) => void;
}

export class ContentWatch<T> {
  readonly #watched: Watched<T>;
  readonly #timer: NodeJS.Timeout;
  /** What was judged last, or why it could not be read. */
  #judged: string;
  /** The same at the last look. */
  #seen: string;
  #looking: Promise<void> | undefined;

  /** `first` is in use already. */
  constructor(first: T, watched: Watched<T>) {
    this.#watched = watched;
    this.#judged = watched.textOf(first);
    this.#seen = this.#judged;
    this.#timer = setInterval(() => {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = undefined;
      });
    }, watched.everyMs).unref();
  }

  /** Resolves when nothing is being read any more. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    const { read, textOf, use, onFault } = this.#watched;
    const found = await read().catch((error: Error) => error);
    const text = found instanceof Error ? found.message : textOf(found);
    const isStable = text === this.#seen;
    this.#seen = text;
    if (!isStable || text === this.#judged) return;
    this.#judged = text;
    try {
      if (found instanceof Error) throw found;
      use(found);
    } catch (error) {
      onFault(error as Error);
    }
  }
}
