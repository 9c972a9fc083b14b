/** Small pushes over many connections: requests a second against a Fastify route that takes and returns as many bytes. */
import { againstFastify } from './flood.ts';
import type { Benchmark } from './row.ts';

export const manyConnections: Benchmark = {
  name: 'connections',
  notes: [
    'Requests over 16 connections come from a client in a process of its own, all to one session; each connection sends its next request when the reply to the last one is there. The Fastify route (`bench/fastify-server.ts`) takes the body as a buffer and sends it back.',
  ],
  async *rows(children) {
    yield {
      what: 'dense push and reply, 1,000 floats, 16 connections',
      against: 'Fastify route',
      target: { atLeast: 0.75 },
      result: await againstFastify(children, 'safetensors', 1_000, 16),
    };
  },
};
