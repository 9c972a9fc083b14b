// npm start [-- mnist | embeddings | --compare]: starts a server, runs the examples against it (both, unless one is named),
// stops it. Exits with 1 where the digit classifier falls short of what it should reach.

import { compareModes } from './compare.ts';
import { trainEmbeddings } from './embeddings.ts';
import { trainDigits } from './mnist.ts';
import { startServer } from './server-process.ts';

const ACCURACY_MIN = 0.9;

const examples: Record<string, (url: string) => Promise<void>> = {
  mnist: async (url) => {
    const accuracy = await trainDigits(url);
    if (accuracy >= ACCURACY_MIN) return;
    console.error(`accuracy must be at least ${ACCURACY_MIN}. Received: ${accuracy}`);
    process.exitCode = 1;
  },
  embeddings: trainEmbeddings,
};
const all = { ...examples, '--compare': compareModes };

const [chosen, ...rest] = process.argv.slice(2);
const selected = chosen === undefined ? Object.values(examples) : [all[chosen]];
if (rest.length > 0 || selected.includes(undefined)) {
  console.error(`usage: npm start [-- ${Object.keys(all).join(' | ')}]`);
  process.exit(2);
}

const startedAt = performance.now();
const server = await startServer();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void server.stop().finally(() => process.exit(1)));
}
try {
  for (const example of selected) {
    await example?.(server.url);
    console.log();
  }
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await server.stop();
}
console.log(`Total: ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
