/** Calls of the file system that fail on demand: counted from the moment of arming, the n-th one, or all from it on. */
import promises, { type FileHandle, open } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { devNull } from 'node:os';
import type { TestContext } from 'node:test';

/** Of node:fs/promises and of its file handles. */
export type Operation = 'open' | 'rename' | 'rm' | 'write' | 'writeFile' | 'sync';

export interface Failure {
  /** Those that count. */
  readonly operations: readonly Operation[];
  /** Which call fails, from 0 on; none if there are fewer. */
  readonly at: number;
  readonly code: 'EIO' | 'ENOSPC';
  readonly lasting?: boolean;
}

export class FailingDisk {
  #failure: Failure | undefined;
  #count = 0;

  private constructor() {}

  /** Until the test ends, calls can be made to fail. */
  static async install(t: TestContext): Promise<FailingDisk> {
    const disk = new FailingDisk();
    const file = await open(devNull, 'r');
    const handle: FileHandle = Object.getPrototypeOf(file);
    await file.close();
    const before = (operation: Operation) => {
      const error = disk.#called(operation);
      if (error !== undefined) throw error;
    };
    for (const name of ['open', 'rename', 'rm'] as const) wrap(t, promises, name, () => before(name));
    for (const name of ['write', 'writeFile', 'sync'] as const) wrap(t, handle, name, () => before(name));
    syncBuiltinESMExports();
    t.after(() => {
      t.mock.restoreAll();
      syncBuiltinESMExports();
    });
    return disk;
  }

  /** How many calls `task` makes. */
  async count(operations: readonly Operation[], task: () => Promise<unknown>): Promise<number> {
    const { calls, error } = await this.during({ operations, at: Number.POSITIVE_INFINITY, code: 'EIO' }, task);
    if (error !== undefined) throw error;
    return calls;
  }

  /** Runs `task` with the failure; what it threw, and how many calls there were. */
  async during(failure: Failure, task: () => Promise<unknown>): Promise<{ calls: number; error: unknown }> {
    this.#failure = failure;
    this.#count = 0;
    const error = await task().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    this.#failure = undefined;
    return { calls: this.#count, error };
  }

  #called(operation: Operation): Error | undefined {
    if (!this.#failure?.operations.includes(operation)) return undefined;
    const index = this.#count++;
    const { at, code, lasting = false } = this.#failure;
    if (index !== at && !(lasting && index > at)) return undefined;
    return Object.assign(new Error(`${code}: injected into ${operation}`), { code, syscall: operation });
  }
}

function wrap<T extends object>(t: TestContext, target: T, name: keyof T & string, before: () => void): void {
  const original = target[name] as (...values: unknown[]) => Promise<unknown>;
  t.mock.method(
    target as Record<string, (...values: unknown[]) => Promise<unknown>>,
    name,
    async function (this: T, ...values: unknown[]) {
      before();
      return original.apply(this, values);
    },
  );
}
