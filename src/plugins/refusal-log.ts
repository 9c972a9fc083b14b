/**
 * Refusals for overload in the log: summed up in one line a second, since a line for each would be load in itself. Who
 * refuses, and why, is up to others.
 */
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';

const lineEveryMs = 1_000;

export class RefusalLog {
  readonly #log: FastifyBaseLogger;
  #refused = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(log: FastifyBaseLogger) {
    this.#log = log;
  }

  note(): void {
    this.#refused++;
    this.#timer ??= setTimeout(() => this.flush(), lineEveryMs).unref();
  }

  /** What has not been told yet. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#refused > 0) this.#log.warn({ refused: this.#refused }, 'overloaded: requests were refused');
    this.#refused = 0;
  }
}

export const refusalLog = fp(async (app: FastifyInstance) => {
  const refusals = new RefusalLog(app.log);
  app.decorate('refusals', refusals);
  app.addHook('onClose', async () => refusals.flush());
});

declare module 'fastify' {
  interface FastifyInstance {
    refusals: RefusalLog;
  }
}
