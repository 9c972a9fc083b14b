/**
 * The contents of a file as a disk may have them: by sectors, each with what is durable and the versions that were written
 * since. Without a sync a sector may be at any of its versions, whatever its neighbours are at, since the system writes it
 * when it likes; and so may the size. That makes torn and reordered writes.
 */

/** What a disk writes whole. */
export const sectorBytes = 512;

/** How many of `pending` versions have come to the disk: 0 to `pending`. */
export type Survivors = (pending: number) => number;

interface Version {
  readonly position: number;
  /** In the sector. */
  readonly from: number;
  readonly bytes: Uint8Array;
}

interface Sector {
  durable: Buffer;
  pending: Version[];
}

interface Resize {
  readonly position: number;
  /** A write makes the file at least so long, a truncation exactly so long. */
  readonly size: number;
  readonly exact: boolean;
}

export class SimulatedFile {
  /** Written through memory, so that its contents are unknown. */
  mapped = false;
  readonly #sectors = new Map<number, Sector>();
  readonly #unsynced = new Map<number, Sector>();
  #resizes: Resize[] = [];
  #durableSize: number;
  #size: number;

  constructor(contents: Buffer = Buffer.alloc(0)) {
    this.#durableSize = contents.length;
    this.#size = contents.length;
    for (let at = 0; at < contents.length; at += sectorBytes) {
      const durable = Buffer.alloc(sectorBytes);
      contents.copy(durable, 0, at, at + sectorBytes);
      this.#sectors.set(at / sectorBytes, { durable, pending: [] });
    }
  }

  write(position: number, offset: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const index = Math.floor((offset + at) / sectorBytes);
      const from = (offset + at) % sectorBytes;
      const piece = bytes.subarray(at, at + sectorBytes - from);
      this.#change(index, { position, from, bytes: piece });
      at += piece.length;
    }
    if (offset + bytes.length > this.#size) this.#resize({ position, size: offset + bytes.length, exact: false });
  }

  truncate(position: number, size: number): void {
    const first = Math.floor(size / sectorBytes);
    for (const index of this.#sectors.keys()) {
      const from = index === first ? size % sectorBytes : 0;
      if (index >= first) this.#change(index, { position, from, bytes: Buffer.alloc(sectorBytes - from) });
    }
    this.#resize({ position, size, exact: true });
  }

  /** Makes everything durable that was done before `position`. */
  sync(position: number): void {
    for (const [index, sector] of this.#unsynced) this.#settle(index, sector, position);
    const settled = this.#resizes.filter((resize) => resize.position < position);
    this.#durableSize = settled.reduce(sizeAfter, this.#durableSize);
    this.#resizes = this.#resizes.slice(settled.length);
  }

  /** Makes one write durable, with the sectors that it lies in, and no other write. */
  syncWrite(position: number): void {
    const truncated = this.#resizes.findLast((resize) => resize.exact && resize.position < position);
    if (truncated !== undefined) this.sync(truncated.position + 1);
    for (const [index, sector] of this.#unsynced) {
      const version = sector.pending.find((each) => each.position === position);
      if (version === undefined) continue;
      this.#settle(index, sector, position + 1);
      this.#durableSize = Math.max(this.#durableSize, index * sectorBytes + version.from + version.bytes.length);
    }
  }

  /** What the disk may have. `sectors` side by side are taken to be written together. */
  contents(survivors: Survivors, sectors = 1): Buffer {
    const resized = this.#resizes.slice(0, survivors(this.#resizes.length));
    const contents = Buffer.alloc(resized.reduce(sizeAfter, this.#durableSize));
    const cuts = new Map<number, number>();
    for (const [index, { durable, pending }] of this.#sectors) {
      const group = Math.floor(index / sectors);
      const cut = pending.length === 0 ? 0 : (cuts.get(group) ?? this.#cut(group, sectors, survivors));
      if (pending.length > 0) cuts.set(group, cut);
      const sector = versionBefore(durable, pending, cut);
      sector.copy(contents, index * sectorBytes);
    }
    return contents;
  }

  /** The position in the log up to which the group's sectors were written. */
  #cut(group: number, sectors: number, survivors: Survivors): number {
    const positions = new Set<number>();
    for (let index = group * sectors; index < (group + 1) * sectors; index++) {
      for (const { position } of this.#unsynced.get(index)?.pending ?? []) positions.add(position);
    }
    const surviving = survivors(positions.size);
    return surviving === 0 ? 0 : ([...positions].sort((a, b) => a - b)[surviving - 1] as number) + 1;
  }

  #change(index: number, version: Version): void {
    const sector = this.#sectors.get(index) ?? { durable: Buffer.alloc(sectorBytes), pending: [] };
    sector.pending.push(version);
    this.#sectors.set(index, sector);
    this.#unsynced.set(index, sector);
  }

  #settle(index: number, sector: Sector, position: number): void {
    sector.durable = versionBefore(sector.durable, sector.pending, position);
    sector.pending = sector.pending.filter((version) => version.position >= position);
    if (sector.pending.length === 0) this.#unsynced.delete(index);
  }

  #resize(resize: Resize): void {
    this.#resizes.push(resize);
    this.#size = sizeAfter(this.#size, resize);
  }
}

function versionBefore(durable: Buffer, pending: readonly Version[], position: number): Buffer {
  const contents = Buffer.from(durable);
  for (const version of pending) {
    if (version.position < position) contents.set(version.bytes, version.from);
  }
  return contents;
}

function sizeAfter(size: number, resize: Resize): number {
  return resize.exact ? resize.size : Math.max(size, resize.size);
}
