/**
 * A child: posts one body over several connections at once, as often as it is told to, and answers with the seconds that
 * it took. It has a process of its own since it works as hard as the server does. Who gives the orders: flood.ts.
 */
import { denseBody, denseJsonBody } from './bodies.ts';
import { Poster } from './post.ts';

export interface LoadOrder {
  readonly port: number;
  readonly path: string;
  readonly times: number;
}

const [format, ...numbers] = process.argv.slice(2);
const [floats, connections] = numbers.map(Number) as [number, number];
const body = format === 'json' ? denseJsonBody(floats) : denseBody(floats);
const posters = new Map<string, Poster>();

process.on('message', async ({ port, path, times }: LoadOrder) => {
  const key = `${port}${path}`;
  const poster = posters.get(key) ?? new Poster(port, path, connections);
  posters.set(key, poster);
  process.send?.(await poster.flood(body, connections, times));
});
process.on('disconnect', () => process.exit());
