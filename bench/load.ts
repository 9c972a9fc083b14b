/**
 * A child: posts a dense gradient over several connections at once, as often as it is told to, and answers with the
 * seconds that it took. It has a process of its own since it works as hard as the server does.
 */
import { denseBody } from './bodies.ts';
import { Poster } from './post.ts';

export interface LoadOrder {
  readonly port: number;
  readonly path: string;
  readonly times: number;
}

const [floats, connections] = process.argv.slice(2).map(Number) as [number, number];
const body = denseBody(floats);
const posters = new Map<string, Poster>();

process.on('message', async ({ port, path, times }: LoadOrder) => {
  const key = `${port}${path}`;
  const poster = posters.get(key) ?? new Poster(port, path, connections);
  posters.set(key, poster);
  process.send?.(await poster.flood(body, connections, times));
});
process.on('disconnect', () => process.exit());
