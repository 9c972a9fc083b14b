/** What a soak has seen: latencies and memory, by minute, and what they say about whether memory is flat and latencies are stable. */
import { type Latencies, summary } from '../../bench/latency.ts';

export type Kind = 'push' | 'read';
const MiB = 2 ** 20;
/** More than this is growth: V8 and the allocator come and go by less. */
const growthBytesMax = 24 * MiB;
/** The worst minute's p99 may be so many times that of the one in the middle. */
const unsteadyMax = 2;

interface Slice {
  readonly taken: Record<Kind, number[]>;
  readonly counts: Record<string, number>;
  readonly memory: number[];
  /** Whether the server was restarted in it. */
  restarts: number;
}

export class Figures {
  readonly #sliceMs: number;
  readonly #start = performance.now();
  readonly #slices: Slice[] = [];
  /** Of the life that is measured: when it began, and what it held from then on. */
  #life: { at: number; bytes: number }[] = [];
  readonly #names = new Set<string>();
  #isOver = false;

  constructor(sliceMs: number) {
    this.#sliceMs = sliceMs;
  }

  /** Nothing counts any more. */
  end(): void {
    this.#isOver = true;
  }

  took(kind: Kind, milliseconds: number): void {
    if (!this.#isOver) this.#slice.taken[kind].push(milliseconds);
  }

  count(what: string): void {
    if (this.#isOver) return;
    this.#names.add(what);
    this.#slice.counts[what] = (this.#slice.counts[what] ?? 0) + 1;
  }

  restarted(): void {
    if (this.#isOver) return;
    this.#slice.restarts++;
    this.#life = [];
  }

  /** What the server's process has for itself. */
  holds(bytes: number): void {
    if (this.#isOver) return;
    this.#slice.memory.push(bytes);
    this.#life.push({ at: performance.now(), bytes });
  }

  /** The least memory after a warm-up of the last life, and in the end of it. */
  get floors(): readonly [before: number, after: number] {
    const [first, last] = [this.#life[0]?.at ?? 0, this.#life.at(-1)?.at ?? 0];
    const between = (from: number, to: number) => {
      const [begin, end] = [first + from * (last - first), first + to * (last - first)];
      return Math.min(...this.#life.filter(({ at }) => at >= begin && at <= end).map(({ bytes }) => bytes));
    };
    return [between(0.25, 0.5), between(0.75, 1)];
  }

  faults(): string[] {
    const [before, after] = this.floors;
    const steady = this.#slices.filter(({ restarts, taken }) => restarts === 0 && taken.push.length > 0).slice(0, -1);
    const p99s = steady.map(({ taken }) => summary(taken.push).p99).sort((a, b) => a - b);
    const [middle, worst] = [p99s[Math.floor(p99s.length / 2)] ?? Number.NaN, p99s.at(-1) ?? Number.NaN];
    return [
      ...(after - before <= growthBytesMax
        ? []
        : [`memory must be flat. It grew from ${MB(before)} to ${MB(after)} MB`]),
      ...(worst <= unsteadyMax * middle
        ? []
        : [`p99 must be stable. It was ${middle.toFixed(1)} ms, and ${worst.toFixed(1)} in the worst minute`]),
    ];
  }

  /** A row for each minute, as Markdown. */
  table(unit: string): string {
    const names = [...this.#names];
    const head = [unit, 'restarts', 'pushes', 'p50 / p99, ms', 'reads', 'p50 / p99, ms', 'memory, MB', ...names];
    const rows = this.#slices.map(({ taken, counts, memory, restarts }, nth) => [
      nth + 1,
      restarts,
      taken.push.length,
      pair(summary(taken.push)),
      taken.read.length,
      pair(summary(taken.read)),
      memory.length === 0 ? '–' : `${MB(Math.min(...memory))}–${MB(Math.max(...memory))}`,
      ...names.map((name) => counts[name] ?? 0),
    ]);
    return [head, head.map(() => '--:'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
  }

  get #slice(): Slice {
    const nth = Math.floor((performance.now() - this.#start) / this.#sliceMs);
    while (this.#slices.length <= nth)
      this.#slices.push({ taken: { push: [], read: [] }, counts: {}, memory: [], restarts: 0 });
    return this.#slices[nth] as Slice;
  }
}

export function MB(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}

function pair({ median, p99 }: Latencies): string {
  return median === undefined ? '–' : `${median.toFixed(1)} / ${p99.toFixed(1)}`;
}
