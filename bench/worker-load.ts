/**
 * A child: so many workers, each of which pushes its gradient, waits for the reply, and pushes the next one for the step that
 * this has led to. It makes as many rounds as it is told to, and answers with the seconds that they took.
 */
import { denseBody } from './bodies.ts';
import type { LoadOrder } from './load.ts';
import { Poster } from './post.ts';

const [floats, workers] = process.argv.slice(2).map(Number) as [number, number];
const body = denseBody(floats);
const posters = new Map<string, { poster: Poster; rounds: number }>();

process.on('message', async ({ port, path, times }: LoadOrder) => {
  const state = posters.get(path) ?? { poster: new Poster(port, path, workers), rounds: 0 };
  posters.set(path, state);
  const first = state.rounds;
  state.rounds += times;
  const start = performance.now();
  const work = async (_: unknown, worker: number): Promise<void> => {
    for (let round = first; round < first + times; round++) {
      await state.poster.post(body, undefined, `?worker=w${worker}&base=${round}`);
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  process.send?.((performance.now() - start) / 1000);
});
process.on('disconnect', () => process.exit());
