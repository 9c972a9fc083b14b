/**
 * A reply's bytes while they are being filled in, from several places at once: what is there from the start on can be sent
 * already. The bytes are never copied; who fills them, and with what, is left to others.
 */
import { Readable } from 'node:stream';
import { replyPieceBytes } from '../limits.ts';

export class FillingFile {
  readonly bytes: Buffer;
  /** Ends of the stretches that are filled, by their starts; stretches do not overlap. */
  readonly #filled = new Map<number, number>();
  #there = 0;
  #stream: Readable | undefined;
  #sent = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** Bytes `start` to `end` (exclusive) are there now. */
  fill(start: number, end: number): void {
    if (start < end) this.#filled.set(start, end);
    for (let next = this.#filled.get(this.#there); next !== undefined; next = this.#filled.get(this.#there)) {
      this.#there = next;
    }
    this.#send();
  }

  /** All bytes are there now, or (`error`) will never be. */
  finish(error?: Error): void {
    if (error === undefined) this.#there = this.bytes.length;
    else this.#stream?.destroy(error);
    this.#send();
  }

  /** The bytes in order, each as soon as it is there. To be called once at most. */
  stream(): Readable {
    this.#stream = new Readable({ read: () => undefined });
    this.#send();
    return this.#stream;
  }

  #send(): void {
    if (this.#stream === undefined || this.#stream.destroyed || this.#sent === this.bytes.length) return;
    while (this.#sent < this.#there) {
      const end = Math.min(this.#there, this.#sent + replyPieceBytes);
      this.#stream.push(this.bytes.subarray(this.#sent, end));
      this.#sent = end;
    }
    if (this.#sent === this.bytes.length) this.#stream.push(null);
  }
}
