/**
 * The room on the disk that the data folder is on, so that it is never filled blindly. It is looked at once a second, and what
 * is about to be written in between is counted. The less is left, the more is refused: new sessions first, then what changes
 * the others; what makes room, and reads, never. It comes back by itself. A disk that fills all the same, since others write to
 * it too, is left to the journal (journal/room.ts), which takes no changes then.
 */
import { Problem } from '../errors.ts';
import { diskSpace } from '../journal/files.ts';
import type { Log } from './log.ts';

/** `low`: a warning. `scarce`: no new sessions. `short`: no changes that need room. */
export type DiskLevel = 'ample' | 'low' | 'scarce' | 'short';

/** How much stays free behind what each use takes, in multiples of the least that is to stay free. */
const floors = {
  session: 2,
  change: 1,
  /** A checkpoint that is due may take of what is kept free: it makes needless what lies in the journal. */
  checkpoint: 1 / 2,
};
export type DiskUse = keyof typeof floors;

const warnedBelow = 4;
/** From the worst, with what each begins below, as above, and what is refused at it. */
const levels: readonly { name: DiskLevel; below: number; refused: readonly DiskUse[] }[] = [
  { name: 'short', below: 1, refused: ['session', 'change'] },
  { name: 'scarce', below: 2, refused: ['session'] },
  { name: 'low', below: warnedBelow, refused: [] },
];
const ample = { name: 'ample', below: Number.POSITIVE_INFINITY, refused: [] } as const;
/** A level ends when there is so much more than it began with, so that it does not come and go with every request. */
const leftAt = 1.125;

/** Bytes that are free for this server, on the disk that a folder is on; `undefined` where it does not say. */
export type Measure = (folder: string) => Promise<number | undefined>;

const measureFree: Measure = async (folder) => (await diskSpace(folder))?.free;

export class DiskSpace {
  /** What is to stay free whatever is changed; 0: nothing is refused. */
  readonly minBytes: number;
  readonly #folder: string;
  readonly #log: Log;
  readonly #measure: Measure;
  /** Unknown until the first look. */
  #seen = Number.POSITIVE_INFINITY;
  /** Written since the last look. */
  #spent = 0;
  /** Set aside for what is being written. */
  #reserved = 0;
  #at: (typeof levels)[number] = ample;
  #looking: Promise<void> | undefined;

  constructor(folder: string, minBytes: number, log: Log, measure = measureFree) {
    this.#folder = folder;
    this.minBytes = minBytes;
    this.#log = log;
    this.#measure = measure;
  }

  /** Free, as far as is known: at the last look, without what has been taken since. */
  get freeBytes(): number {
    return Math.max(0, this.#seen - this.#spent - this.#reserved);
  }

  get level(): DiskLevel {
    return this.#at.name;
  }

  /** Whether `bytes` may be written for this now. */
  allows(use: DiskUse, bytes: number): boolean {
    return this.minBytes === 0 || this.freeBytes - bytes >= this.#floor(use);
  }

  /** Throws `insufficient_storage` where `bytes` may not be written for this now. */
  require(use: DiskUse, bytes: number): void {
    if (this.allows(use, bytes)) return;
    const rule = `${this.#floor(use)} bytes must stay free on the disk behind what is written (DISK_FREE_BYTES_MIN)`;
    throw new Problem('insufficient_storage', `${rule}. Received: ${bytes} bytes, where ${this.freeBytes} are free`);
  }

  /** As `require`, for what is written at once. */
  take(use: DiskUse, bytes: number): void {
    this.require(use, bytes);
    this.#spent += bytes;
    this.#judge();
  }

  /** As `require`, for what takes its time; returns what is to be called, once, when it is written. */
  reserve(use: DiskUse, bytes: number): () => void {
    this.require(use, bytes);
    this.#reserved += bytes;
    this.#judge();
    return () => {
      this.#reserved -= bytes;
      this.#spent += bytes;
    };
  }

  /**
   * Looks at the disk, unless that is under way: a disk that does not answer must not be asked again and again. Where it does not
   * say, what was known before holds: what fails there shows when it is written to.
   */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    const spent = this.#spent;
    const free = await this.#measure(this.#folder);
    if (free === undefined) return;
    this.#seen = free;
    this.#spent -= spent;
    this.#judge();
  }

  /** What must stay free: more where it was less just now. */
  #floor(use: DiskUse): number {
    const bytes = floors[use] * this.minBytes;
    return this.#at.refused.includes(use) ? Math.ceil(bytes * leftAt) : bytes;
  }

  #judge(): void {
    const free = this.freeBytes;
    if (this.#at === ample && free >= warnedBelow * this.minBytes) return;
    const before = levels.indexOf(this.#at);
    const isAt = (below: number, index: number) =>
      free < below * this.minBytes * (before >= 0 && index >= before ? leftAt : 1);
    const now = levels.find(({ below }, index) => isAt(below, index)) ?? ample;
    if (now === this.#at) return;
    this.#at = now;
    const fields = { freeBytes: free, minBytes: this.minBytes, level: now.name };
    if (now === ample) this.#log.info(fields, 'the disk has room again');
    else this.#log.warn(fields, told[now.name as keyof typeof told]);
  }
}

const told = {
  low: 'the disk is filling up',
  scarce: 'the disk is filling up: no new sessions are taken',
  short: 'the disk is nearly full: no changes are taken that need room',
};
