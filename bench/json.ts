/** As connections.ts, in JSON: requests a second against a Fastify route that parses a body and writes it again. */
import { againstFastify } from './flood.ts';
import type { Benchmark } from './row.ts';

export const json: Benchmark = {
  name: 'json',
  notes: [
    'A push in JSON writes each float with the fewest digits that are read as the same F32. Its Fastify route has neither schema nor logger and returns the parsed body, which Fastify writes with `JSON.stringify`; so the two replies hold as many numbers, not as many bytes.',
  ],
  async *rows(children) {
    yield {
      what: 'dense push and reply in JSON, 1,000 floats, 16 connections',
      against: 'Fastify route',
      target: { atLeast: 0.7 },
      result: await againstFastify(children, 'json', 1_000, 16),
    };
  },
};
