/**
 * One checkpoint file, written and read piece by piece with its SHA-256 on the way: neither needs the session twice in
 * memory, and between two pieces everything else goes on.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { Problem } from '../errors.ts';
import { blockElements } from '../kernel/bank.ts';
import type { SessionContents } from '../session/session.ts';
import type { SessionSnapshot } from '../session/snapshot.ts';
import { allocateVariables, type Variable } from '../session/variable.ts';
import { bytesPerElement } from '../tensor/dtype.ts';
import {
  layoutSafetensors,
  readHeaderLength,
  readSafetensorsHeader,
  type SafetensorsHeader,
} from '../tensor/safetensors.ts';
import {
  type CheckpointDescription,
  type CheckpointNote,
  checkpointMetadata,
  checkpointTensors,
  describeCheckpoint,
  splitTensorName,
} from './checkpoint-format.ts';

/** Bytes written at a time: large enough for the disk, small enough that to copy and hash them holds up no request. */
const pieceBytes = 256 * 1024;
/** Bytes read at a time: while a session is read, nobody asks for it. */
const readBytes = 1024 * 1024;
/** Bytes after which what is written is forced to the disk beside the writing, so that little is left to wait for at the end. */
const syncedBytes = 16 * 1024 * 1024;
/** Pieces that are being read at a time, by as many of the system's threads. */
const readsAhead = 4;

export interface FileDigest {
  readonly bytes: number;
  /** Hexadecimal. */
  readonly sha256: string;
}

/** Writes the file and forces it to the disk. `giveUp` is asked between pieces; the error it returns is thrown. */
export async function writeCheckpointFile(
  path: string,
  snapshot: SessionSnapshot,
  note: CheckpointNote,
  giveUp: () => Error | undefined,
): Promise<FileDigest> {
  const layout = layoutSafetensors(checkpointMetadata(snapshot, note), checkpointTensors(snapshot));
  const file = await open(path, 'w');
  const writer = new HashingWriter(file);
  try {
    await writer.write(layout.header);
    const names = [...layout.offsets].sort(([, a], [, b]) => a - b).map(([name]) => name);
    for (const name of names) {
      const { variable, part } = splitTensorName(name);
      const blocks = snapshot.variables.get(variable);
      if (blocks === undefined || part === undefined) throw new Error(`no snapshot of ${name}`);
      const blockBytes = blockElements * bytesPerElement[blocks.memory.dtype];
      for (let block = 0; block < blocks.blocks; ) {
        const count = Math.min(blocks.blocks - block, Math.floor(writer.room / blockBytes));
        if (count > 0) writer.advance(blocks.take(part, block, count, writer.free));
        else await writer.flush();
        block += count;
        const error = giveUp();
        if (error !== undefined) throw error;
      }
    }
    return await writer.finish();
  } finally {
    await writer.idle();
    await file.close();
  }
}

/** Two pieces in turn: while one is on its way to the disk, the other is filled and hashed. */
class HashingWriter {
  readonly #file: FileHandle;
  readonly #hash = createHash('sha256');
  #piece = Buffer.allocUnsafe(pieceBytes);
  #other = Buffer.allocUnsafe(pieceBytes);
  #filled = 0;
  #written = 0;
  #writing: Promise<void> = Promise.resolve();
  #syncedFrom = 0;
  #syncing: Promise<void> = Promise.resolve();

  constructor(file: FileHandle) {
    this.#file = file;
  }

  get room(): number {
    return this.#piece.length - this.#filled;
  }

  /** Where the next bytes go; `advance` says how many have been put there. */
  get free(): Uint8Array {
    return this.#piece.subarray(this.#filled);
  }

  advance(bytes: number): void {
    this.#filled += bytes;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length; ) {
      if (this.room === 0) await this.flush();
      const part = bytes.subarray(from, from + this.room);
      this.free.set(part);
      this.advance(part.length);
      from += part.length;
    }
  }

  async flush(): Promise<void> {
    const bytes = this.#piece.subarray(0, this.#filled);
    this.#hash.update(bytes);
    await this.#writing;
    this.#writing = writeFully(this.#file, bytes, this.#written);
    // Whoever comes next meets the error; until then it is nobody's.
    this.#writing.catch(() => undefined);
    this.#written += bytes.length;
    this.#filled = 0;
    [this.#piece, this.#other] = [this.#other, this.#piece];
    if (this.#written - this.#syncedFrom >= syncedBytes) await this.#sync();
  }

  /** Begins to force to the disk what is written, once that of before is there. */
  async #sync(): Promise<void> {
    await this.#syncing;
    this.#syncing = this.#file.sync();
    this.#syncing.catch(() => undefined);
    this.#syncedFrom = this.#written;
  }

  /** Resolves when nothing is on its way any more, even if that has failed. */
  async idle(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#syncing.catch(() => undefined);
  }

  async finish(): Promise<FileDigest> {
    await this.flush();
    await this.#writing;
    await this.#syncing;
    await this.#file.sync();
    return { bytes: this.#written, sha256: this.#hash.digest('hex') };
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let from = 0; from < bytes.length; ) {
    from += (await file.write(bytes, from, bytes.length - from, position + from)).bytesWritten;
  }
}

/** Reads just the header. Throws a Problem for a file that is no checkpoint. */
export async function readCheckpointDescription(path: string): Promise<CheckpointDescription & { bytes: number }> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const { header } = await readHeader(file, size);
    return { ...describeCheckpoint(header.metadata, header.entries), bytes: size };
  } finally {
    await file.close();
  }
}

/** Reads a checkpoint into fresh memory. Throws a Problem where the file is not the one that `sha256` was taken of. */
export async function readCheckpointFile(
  path: string,
  sha256: string,
): Promise<{ description: CheckpointDescription; contents: SessionContents }> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const { header, bytes, dataStart } = await readHeader(file, size);
    const description = describeCheckpoint(header.metadata, header.entries);
    const variables = allocateVariables(description.variables);
    const inOrder = [...header.entries].sort(([, a], [, b]) => a.begin - b.begin);
    const places = inOrder.flatMap(([name]) => placesOf(variables, name));
    const hash = createHash('sha256').update(bytes);
    for await (const piece of readInto(file, places, dataStart)) hash.update(piece);
    const actual = hash.digest('hex');
    if (actual !== sha256) {
      throw new Problem('malformed_body', `a checkpoint must have the SHA-256 ${sha256}. Received: ${actual}`);
    }
    const { optimizer, iterations, settings, workers } = description;
    return { description, contents: { variables, optimizer, iterations, settings, workers } };
  } finally {
    await file.close();
  }
}

/** The memory that a tensor of the file is read into. */
function placesOf(variables: ReadonlyMap<string, Variable>, name: string): Buffer[] {
  const { variable, part } = splitTensorName(name);
  const target = variables.get(variable);
  if (target === undefined || part === undefined) {
    throw new Problem('malformed_body', `a checkpoint's slots must belong to a variable. Received: "${name}"`);
  }
  return target.memory.bytesOf(part);
}

/** Fills the places with what the file has from `position` on, piece by piece; the next ones are read meanwhile. */
async function* readInto(file: FileHandle, places: readonly Buffer[], position: number): AsyncGenerator<Buffer> {
  const reads: Promise<Buffer>[] = [];
  try {
    for (const piece of piecesOf(places)) {
      const read = readFully(file, piece, position).then(() => piece);
      // The first failure is met in its turn, and then nobody waits for the others.
      read.catch(() => undefined);
      reads.push(read);
      position += piece.length;
      if (reads.length >= readsAhead) yield await (reads.shift() as Promise<Buffer>);
    }
    while (reads.length > 0) yield await (reads.shift() as Promise<Buffer>);
  } finally {
    await Promise.allSettled(reads);
  }
}

function* piecesOf(places: readonly Buffer[]): Generator<Buffer> {
  for (const place of places) {
    for (let at = 0; at < place.length; at += readBytes) yield place.subarray(at, at + readBytes);
  }
}

/** The header, its raw bytes (length and JSON), and where the data starts. */
async function readHeader(
  file: FileHandle,
  fileBytes: number,
): Promise<{ header: SafetensorsHeader; bytes: Buffer; dataStart: number }> {
  const start = Buffer.alloc(Math.min(8, fileBytes));
  await readFully(file, start, 0);
  const length = readHeaderLength(start, fileBytes);
  const bytes = Buffer.alloc(8 + length);
  await readFully(file, bytes, 0);
  return { header: readSafetensorsHeader(bytes.subarray(8), fileBytes - bytes.length), bytes, dataStart: bytes.length };
}

async function readFully(file: FileHandle, to: Uint8Array, position: number): Promise<void> {
  for (let from = 0; from < to.length; ) {
    const { bytesRead } = await file.read(to, from, to.length - from, position + from);
    if (bytesRead === 0)
      throw new Problem('malformed_body', 'a checkpoint must not end within its data. It was cut off');
    from += bytesRead;
  }
}
