// Trains word embeddings on Moby Dick with sparse gradients. This process creates the session, looks on while two workers
// train it, and then pulls the vectors and prints the nearest neighbours of a few words.

import { AdamaxClient } from './client.ts';
import { Progress } from './progress.ts';
import type { Floats } from './safetensors.ts';
import { CONTEXT, type Corpus, DIMENSIONS, loadCorpus, STEPS, WORD } from './words.ts';
import { runWorkers } from './workers.ts';

const WORKERS = 2;
const SHOWN = ['whale', 'ship', 'captain', 'sea', 'boat', 'man', 'god', 'night', 'ahab'];
const NEIGHBOURS = 6;
/** Rarer words have no settled vector yet; they are not listed as neighbours. */
const NEIGHBOUR_COUNT_MIN = 30;

export async function trainEmbeddings(url: string): Promise<void> {
  const session = 'moby-dick';
  const client = new AdamaxClient(url, session);
  const corpus = loadCorpus();
  const { length } = corpus.vocabulary;
  console.log(`Moby Dick: ${corpus.tokens.length} words, ${length} different ones, ${WORKERS} workers`);

  const config = { initial_learning_rate: 0.1, end_learning_rate: 0.01, decay_steps: STEPS };
  await client.createSession({
    variables: {
      [WORD]: {
        shape: [length, DIMENSIONS],
        initializer: { class_name: 'RandomUniform', config: { minval: -0.01, maxval: 0.01 } },
      },
      [CONTEXT]: { shape: [length, DIMENSIONS], initializer: { class_name: 'Zeros', config: {} } },
    },
    optimizer: { class_name: 'Adamax', config: { learning_rate: { class_name: 'PolynomialDecay', config } } },
  });

  const progress = new Progress(STEPS);
  await runWorkers('embeddings-worker.ts', { url, session, workers: WORKERS }, (report) => progress.update(report));
  progress.finish();

  const { tensors } = await client.pull();
  const vectors = tensors[WORD]?.data as Floats;
  for (const word of SHOWN) console.log(`  ${word.padEnd(8)} ${nearest(word, vectors, corpus).join(', ')}`);
  await client.deleteSession();
}

/** The words whose vectors have the greatest cosine with that of `word`. */
function nearest(word: string, vectors: Floats, { vocabulary, counts }: Corpus): string[] {
  const vectorOf = (i: number) => vectors.subarray(i * DIMENSIONS, (i + 1) * DIMENSIONS);
  const target = vectorOf(vocabulary.indexOf(word));
  return vocabulary
    .map((candidate, i) => ({ candidate, count: counts[i] as number, cosine: cosine(target, vectorOf(i)) }))
    .filter(({ candidate, count }) => candidate !== word && count >= NEIGHBOUR_COUNT_MIN)
    .sort((a, b) => b.cosine - a.cosine)
    .slice(0, NEIGHBOURS)
    .map(({ candidate, cosine }) => `${candidate} ${cosine.toFixed(2)}`);
}

function cosine(a: Floats, b: Floats): number {
  const dot = (x: Floats, y: Floats) => x.reduce((sum, value, k) => sum + value * (y[k] as number), 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
