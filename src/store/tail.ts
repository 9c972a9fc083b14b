/**
 * The tail: records of level `everysec` once more, in a plain file, from when they are acknowledged until they are in the
 * journal. What is written, though not fsynced, survives the process that is killed. Frames follow each other from the
 * file's beginning; where one does not read, there are no more. Little-endian:
 *
 *      0  4  "TAIL"
 *      4  8  session
 *     12  4  bytes of the idempotency key, 0: none
 *     16  4  bytes of the record's head
 *     20  8  bytes of its data, a float64
 *     28  4  CRC-32 of the 28 bytes before
 *     32     key, head, data, each with its own checksum
 *
 * When all that is there is in the journal, the next frame begins at 0 again: what is left behind it is known already.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { SessionId } from './journal-entries.ts';
import { checkData, decodeHead, type ReadHead } from './record.ts';

export interface TailFrame {
  readonly session: SessionId;
  readonly key: Buffer | undefined;
  readonly head: Buffer;
  readonly data: readonly Uint8Array[];
}

const magic = 0x4c494154;
const fixedBytes = 32;
/** A file larger than that is cut off when it can be. */
const keptBytes = 64 * 1024 * 1024;

export class Tail {
  readonly #file: FileHandle;
  #at = 0;
  #size = 0;
  #frames = 0;
  #pending: { frame: TailFrame; resolve: () => void; reject: (error: unknown) => void }[] = [];
  #writing: Promise<void> | undefined;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  static async open(path: string): Promise<Tail> {
    return new Tail(await open(path, constants.O_RDWR | constants.O_CREAT));
  }

  /** Resolves when the frame, and all before it, are written. `settled` says that it is not needed any more. */
  append(frame: TailFrame, settled: Promise<unknown>): Promise<void> {
    this.#frames++;
    const settle = (): void => {
      this.#frames--;
    };
    settled.then(settle, settle);
    return new Promise((resolve, reject) => {
      this.#pending.push({ frame, resolve, reject });
      this.#writing ??= this.#write();
    });
  }

  /** The frames that a killed process has left. */
  async *frames(): AsyncGenerator<{
    session: SessionId;
    key: Buffer | undefined;
    head: ReadHead;
    headBytes: Buffer;
    data: Buffer;
  }> {
    const { size } = await this.#file.stat();
    for (let at = 0; at + fixedBytes <= size; ) {
      const fixed = await this.#read(at, fixedBytes);
      if (fixed.readUInt32LE(0) !== magic || fixed.readUInt32LE(28) !== crc32(fixed.subarray(0, 28))) return;
      const keyBytes = fixed.readUInt32LE(12);
      const headBytes = fixed.readUInt32LE(16);
      const dataBytes = fixed.readDoubleLE(20);
      const end = at + fixedBytes + keyBytes + headBytes + dataBytes;
      if (end > size) return;
      const rest = await this.#read(at + fixedBytes, end - at - fixedBytes);
      const headPart = rest.subarray(keyBytes, keyBytes + headBytes);
      const data = rest.subarray(keyBytes + headBytes);
      let head: ReadHead;
      try {
        head = decodeHead(headPart);
        checkData(head, data);
      } catch {
        return;
      }
      const key = keyBytes === 0 ? undefined : rest.subarray(0, keyBytes);
      yield { session: Buffer.from(fixed.subarray(4, 12)), key, head, headBytes: headPart, data };
      at = end;
    }
  }

  /** Forgets all frames. */
  async clear(): Promise<void> {
    await this.#file.truncate(0);
    await this.#file.sync();
    this.#at = 0;
    this.#size = 0;
  }

  async close(): Promise<void> {
    await this.#writing?.catch(() => undefined);
    await this.#file.close();
  }

  /** Writes what waits, all at once, until nothing does. */
  async #write(): Promise<void> {
    // Whoever comes in the same turn of the event loop shares the first call.
    await setImmediate();
    while (this.#pending.length > 0) {
      const group = this.#pending;
      this.#pending = [];
      try {
        if (this.#frames === group.length) {
          this.#at = 0;
          if (this.#size > keptBytes) await this.#file.truncate(0);
        }
        const views = group.flatMap(({ frame }) => viewsOf(frame));
        await this.#writeAll(views);
        for (const { resolve } of group) resolve();
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#writing = undefined;
  }

  async #writeAll(views: readonly Uint8Array[]): Promise<void> {
    // A system call takes 1024 pieces at most.
    for (let first = 0; first < views.length; first += 1000) {
      let left = views.slice(first, first + 1000);
      while (left.length > 0) {
        const { bytesWritten } = await this.#file.writev(left, this.#at);
        this.#at += bytesWritten;
        left = behind(left, bytesWritten);
      }
    }
    this.#size = Math.max(this.#size, this.#at);
  }

  async #read(position: number, bytes: number): Promise<Buffer> {
    const to = Buffer.allocUnsafeSlow(bytes);
    for (let from = 0; from < bytes; ) {
      const { bytesRead } = await this.#file.read(to, from, bytes - from, position + from);
      if (bytesRead === 0) throw new Error('the tail must not shrink while it is read');
      from += bytesRead;
    }
    return to;
  }
}

function viewsOf({ session, key, head, data }: TailFrame): Uint8Array[] {
  const fixed = Buffer.allocUnsafe(fixedBytes);
  fixed.writeUInt32LE(magic, 0);
  session.copy(fixed, 4);
  fixed.writeUInt32LE(key?.length ?? 0, 12);
  fixed.writeUInt32LE(head.length, 16);
  fixed.writeDoubleLE(
    data.reduce((sum, { length }) => sum + length, 0),
    20,
  );
  fixed.writeUInt32LE(crc32(fixed.subarray(0, 28)), 28);
  return [fixed, ...(key === undefined ? [] : [key]), head, ...data].filter(({ length }) => length > 0);
}

/** The views without their first `bytes` bytes. */
function behind(views: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skipped = bytes;
  const left: Uint8Array[] = [];
  for (const view of views) {
    const taken = Math.min(skipped, view.length);
    skipped -= taken;
    if (taken < view.length) left.push(view.subarray(taken));
  }
  return left;
}
