/** load.ts as a process: dense gradients over several connections, and what they are compared with most. */
import type { ChildProcess } from 'node:child_process';
import { type Children, doneBy } from './children.ts';
import type { LoadOrder } from './load.ts';
import { asRate, type Comparison, comparePairs, type Work } from './pairs.ts';
import { startServer } from './server.ts';

export type Format = 'safetensors' | 'json';

export class Flood {
  readonly #child: ChildProcess;

  constructor(children: Children, format: Format, floats: number, connections: number) {
    this.#child = children.fork('load.ts', format, String(floats), String(connections));
  }

  requests(port: number, path: string): Work {
    return doneBy(this.#child, (times) => ({ port, path, times }) satisfies LoadOrder);
  }
}

/** Pushes to one session, in requests a second, against the Fastify route that takes and returns the same format. */
export async function againstFastify(
  children: Children,
  format: Format,
  floats: number,
  connections: number,
): Promise<Comparison> {
  const server = await startServer(children);
  const session = await server.createSession({ w: [floats] });
  const reference = await children.forkServer('fastify-server.ts');
  const flood = new Flood(children, format, floats, connections);
  const pairs = await comparePairs(
    flood.requests(server.port, `${session}/gradients`),
    flood.requests(reference, `/${format}`),
  );
  return asRate(pairs, 1, 'requests');
}
