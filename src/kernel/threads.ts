/**
 * Who does the work: the calling thread where it is little, else a fixed set of threads, piece by piece, so that the calling
 * thread (the one with the sockets) goes on meanwhile. Several runs at once share the threads evenly. What the threads do is
 * thread.ts; they start when they are needed first.
 */
import { Worker } from 'node:worker_threads';
import { onReclaim, reclaim } from '../tensor/reclaim.ts';
import type { BankMemory } from './bank.ts';
import type { MemoryLayout, VariableMemory } from './variable-memory.ts';
import { announce, blocksOf, canBeShared, costOf, costPerBlock, perform, type Work } from './work.ts';

/** So many blocks, or what costs as much, a millisecond's work, are done sooner than they are handed over. */
export const blocksHere = 64;
/** What a piece costs, in blocks: not so little that handing it over shows, nor so much that copies for a snapshot precede it by far. */
const pieceCostMin = 8;
const pieceCostMax = 32;
/** Of a short run, each thread gets so many pieces, so that all end at about the same time. */
const piecesPerThread = 4;
/** Pieces that a thread has at a time: one to do, and one so that it never waits. */
const piecesAhead = 2;

/** Blocks `first` to `last` (exclusive) of one work of a run. */
export interface Range {
  readonly work: number;
  readonly first: number;
  readonly last: number;
}

/** Some blocks are done. */
export type Progress = (done: readonly Range[]) => void;

export interface Executor {
  /** Resolves when all works are done; they must not concern one another. `progress` is told as blocks are done, in any order. */
  run(works: readonly Work[], progress?: Progress): Promise<void>;
  /** To be called when variables are gone for good: their memory is given back to the system soon. */
  forget(memories: Iterable<VariableMemory>): void;
}

/** Does all work at once, in the calling thread. */
export const here: Executor = {
  async run(works, progress) {
    performHere(works, progress);
  },
  forget: reclaim,
};

/** To a thread. */
export type Order =
  | { readonly start: number; readonly works: readonly Work<MemoryLayout>[]; readonly banks: readonly BankMemory[] }
  | { readonly run: number; readonly piece: number; readonly ranges: readonly Range[] }
  | { readonly end: number }
  | { readonly forget: readonly number[] }
  | { readonly collect: true };

/** From a thread. */
export interface Done {
  readonly run: number;
  readonly piece: number;
}

interface Run {
  readonly id: number;
  readonly works: readonly Work[];
  readonly pieces: readonly (readonly Range[])[];
  readonly progress: Progress | undefined;
  readonly finished: (error?: Error) => void;
  next: number;
  done: number;
}

interface Thread {
  readonly worker: Worker;
  /** Ids of the banks and runs that it has been told of. */
  readonly banks: Set<number>;
  readonly runs: Set<number>;
  ahead: number;
}

export class Threads implements Executor {
  readonly #count: number;
  #threads: Thread[] = [];
  #listenNoMore: (() => void) | undefined;
  /** Those with pieces to give out, the one to be asked next first. */
  #waiting: Run[] = [];
  readonly #running = new Map<number, Run>();
  #runs = 0;

  /** `count`: threads besides the calling one, at most `threadsMax`; with none, all is done in the calling one. */
  constructor(count: number) {
    this.#count = count;
  }

  async run(works: readonly Work[], progress?: Progress): Promise<void> {
    const cost = costOf(works);
    if (this.#count === 0 || cost <= blocksHere || !works.every(canBeShared)) {
      performHere(works, progress);
      return;
    }
    const pieces = cut(works, Math.ceil(cost / (this.#count * piecesPerThread)));
    if (this.#threads.length === 0) this.#start();
    await new Promise<void>((resolve, reject) => {
      const finished = (error?: Error) => (error === undefined ? resolve() : reject(error));
      const run = { id: ++this.#runs, works, pieces, progress, finished, next: 0, done: 0 };
      this.#running.set(run.id, run);
      this.#waiting.push(run);
      for (const thread of this.#threads) this.#feed(thread);
    });
  }

  forget(memories: Iterable<VariableMemory>): void {
    const banks = new Set<number>();
    for (const { segments } of memories) for (const { bank } of segments) banks.add(bank.id);
    for (const { worker, banks: known } of this.#threads) {
      const forget = [...banks].filter((id) => known.delete(id));
      if (forget.length > 0) worker.postMessage({ forget } satisfies Order);
    }
    reclaim();
  }

  /** Ends the threads; nothing may be running. */
  async close(): Promise<void> {
    const threads = this.#threads;
    this.#threads = [];
    this.#listenNoMore?.();
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
  }

  #start(): void {
    for (let thread = 1; thread <= this.#count; thread++) {
      const file = import.meta.url.replace(/threads(\.\w+)$/, 'thread$1');
      const worker = new Worker(new URL(file), { workerData: { thread } });
      const entry: Thread = { worker, banks: new Set(), runs: new Set(), ahead: 0 };
      worker.on('message', (done: Done) => this.#done(entry, done));
      worker.on('error', (error) => this.#failed(entry, error));
      worker.unref();
      this.#threads.push(entry);
    }
    this.#listenNoMore = onReclaim(() => {
      for (const { worker } of this.#threads) worker.postMessage({ collect: true } satisfies Order);
    });
  }

  /** Gives a thread pieces, of one run after the other. */
  #feed(thread: Thread): void {
    while (thread.ahead < piecesAhead) {
      const run = this.#waiting.shift();
      if (run === undefined) return;
      const piece = run.next++;
      const ranges = run.pieces[piece] as readonly Range[];
      if (run.next < run.pieces.length) this.#waiting.push(run);
      for (const { work, first, last } of ranges) announce(run.works[work] as Work, first, last);
      this.#introduce(thread, run);
      if (thread.ahead++ === 0) thread.worker.ref();
      thread.worker.postMessage({ run: run.id, piece, ranges } satisfies Order);
    }
  }

  #introduce({ worker, banks, runs }: Thread, run: Run): void {
    if (runs.has(run.id)) return;
    runs.add(run.id);
    const unknown = new Map<number, BankMemory>();
    for (const work of run.works) {
      if (!('memory' in work)) continue;
      for (const { bank } of work.memory.segments) {
        if (!banks.has(bank.id)) unknown.set(bank.id, { id: bank.id, memory: bank.memory });
      }
    }
    for (const id of unknown.keys()) banks.add(id);
    worker.postMessage({ start: run.id, works: run.works.map(told), banks: [...unknown.values()] } satisfies Order);
  }

  #done(thread: Thread, { run: id, piece }: Done): void {
    if (!this.#threads.includes(thread)) return;
    if (--thread.ahead === 0) thread.worker.unref();
    const run = this.#running.get(id);
    if (run !== undefined) {
      run.progress?.(run.pieces[piece] as readonly Range[]);
      if (++run.done === run.pieces.length) this.#finish(run);
    }
    this.#feed(thread);
  }

  #finish(run: Run, error?: Error): void {
    this.#running.delete(run.id);
    for (const { worker, runs } of this.#threads) {
      if (runs.delete(run.id)) worker.postMessage({ end: run.id } satisfies Order);
    }
    run.finished(error);
  }

  /** A thread ends by a fault of this program only, and may leave a step half done. The others end with it. */
  #failed(thread: Thread, error: Error): void {
    if (!this.#threads.includes(thread)) return;
    this.#waiting = [];
    void this.close();
    for (const run of [...this.#running.values()]) this.#finish(run, error);
  }
}

function performHere(works: readonly Work[], progress: Progress | undefined): void {
  for (const [index, work] of works.entries()) {
    const last = blocksOf(work);
    announce(work, 0, last);
    perform(work, 0, last);
    progress?.([{ work: index, first: 0, last }]);
  }
}

/** Cuts the works, one after the other, into pieces that cost the same, `fairCost` within bounds; small works share a piece. */
function cut(works: readonly Work[], fairCost: number): Range[][] {
  const pieceCost = Math.min(pieceCostMax, Math.max(pieceCostMin, fairCost));
  const pieces: Range[][] = [];
  let room = 0;
  works.forEach((work, index) => {
    const blocks = blocksOf(work);
    const cost = costPerBlock(work);
    for (let first = 0; first < blocks; ) {
      if (room < cost) {
        pieces.push([]);
        room = pieceCost;
      }
      const last = Math.min(blocks, first + Math.max(1, Math.floor(room / cost)));
      pieces.at(-1)?.push({ work: index, first, last });
      room -= (last - first) * cost;
      first = last;
    }
  });
  return pieces;
}

function told(work: Work): Work<MemoryLayout> {
  return 'memory' in work ? { ...work, memory: work.memory.layout } : work;
}
