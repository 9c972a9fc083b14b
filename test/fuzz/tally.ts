/** How many replies of which status each operation gave. */
import type { Operation } from './operations.ts';
import type { Answered } from './oracle.ts';

const others = '(none of them)';

export class Tally {
  requests = 0;
  readonly #counts: Map<string, Map<number, number>>;

  constructor(operations: readonly Operation[]) {
    this.#counts = new Map([...operations.map(({ id }) => id), others].map((id) => [id, new Map<number, number>()]));
  }

  /** `undefined`: a request that nobody had to answer. */
  count(answered: Answered | undefined): void {
    this.requests++;
    if (answered === undefined) return;
    const counts = this.#counts.get(answered.operation?.id ?? others) as Map<number, number>;
    const { status } = answered.reply;
    counts.set(status, (counts.get(status) ?? 0) + 1);
  }

  /** Successes, or refusals, of an operation. */
  of(operation: string, isSuccess: boolean): number {
    const counts = [...(this.#counts.get(operation) ?? [])];
    return counts.filter(([status]) => status < 400 === isSuccess).reduce((sum, [, count]) => sum + count, 0);
  }

  toString(): string {
    const rows = [...this.#counts].map(([id, counts]) => {
      const sorted = [...counts].sort(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`);
      return `${id.padEnd(20)} ${sorted.join('  ')}`;
    });
    return [...rows, `${this.requests} requests`].join('\n');
  }
}
