/** Requests by route, method and status, and problems by code: counted as replies go out. */
import type { Registry } from 'prom-client';
import type { ProblemCode } from '../../errors.ts';
import { Histogram, secondsBounds } from '../../histogram.ts';
import { newFigure, newHistogram } from './figure.ts';

interface Seen {
  readonly route: string;
  readonly method: string;
  readonly status: number;
}

export class RequestFigures {
  /** Requests that were answered. */
  answered = 0;
  /** Replies that were problems, by code. */
  readonly problems = new Map<ProblemCode, number>();
  readonly #seconds = new Map<string, readonly [Seen, Histogram]>();

  constructor(registry: Registry) {
    newHistogram(
      registry,
      'adamax_http_request_duration_seconds',
      'Requests by route, method and status; the time from the header to the end of the reply.',
      () =>
        [...this.#seconds.values()].map(([{ route, method, status }, seconds]) => [{ route, method, status }, seconds]),
    );
    newFigure(registry, 'counter', 'adamax_problems_total', 'Replies that were problems, by code.', () =>
      [...this.problems].map(([code, count]) => [{ code }, count] as const),
    );
  }

  note(route: string, method: string, status: number, seconds: number, problem: ProblemCode | undefined): void {
    this.answered++;
    const key = `${method} ${status} ${route}`;
    let found = this.#seconds.get(key);
    if (found === undefined) {
      found = [{ route, method, status }, new Histogram(secondsBounds)];
      this.#seconds.set(key, found);
    }
    found[1].observe(seconds);
    if (problem !== undefined) this.problems.set(problem, (this.problems.get(problem) ?? 0) + 1);
  }
}
