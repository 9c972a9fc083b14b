/**
 * Shared memory is garbage that V8 does not count: what nothing refers to any more would lie about until some other need
 * makes it collect. So whoever makes shared memory says so here, and whoever lets go of it, and it is collected in every
 * thread: a moment after it was let go or, in case nobody said so, when much has been made since.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Long enough for what is let go at the same time, and for the request that let go to be answered. */
const delayMs = 500;
const madeBytesMax = 1024 ** 3;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const listeners = new Set<() => void>();
let waiting = false;
let madeBytes = 0;

/** Collects garbage now, in this thread alone; takes some tens of milliseconds. */
export function collectNow(): void {
  collect();
}

/** Collects garbage soon; several calls until then are one. */
export function reclaim(): void {
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    madeBytes = 0;
    collect();
    for (const listener of listeners) listener();
  }, delayMs).unref();
}

/** Counts shared memory that has been made. */
export function made(bytes: number): void {
  madeBytes += bytes;
  if (madeBytes > madeBytesMax) reclaim();
}

/** `listener` is called at every collection, to pass it on to other threads, until what this returns is called. */
export function onReclaim(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
