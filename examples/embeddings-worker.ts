// One worker of the word embeddings, a process of its own: node --import tsx embeddings-worker.ts URL SESSION WORKER WORKERS
// It never holds the embeddings. For each stretch of its share of the text it looks up the few hundred rows that it
// needs, computes their gradient, and pushes just those rows.

import { AdamaxClient, type Rows } from './client.ts';
import { BatchSampler, skipGramGradients } from './skip-gram.ts';
import { CONTEXT, loadCorpus, STEPS, WORD } from './words.ts';
import { report, workerArguments } from './workers.ts';

const STRETCH = 1000;

const { url, session, worker, workers } = workerArguments();
const client = new AdamaxClient(url, session);
const corpus = loadCorpus();
const sampler = new BatchSampler(corpus);
const part = corpus.tokens.length / workers;
const share = corpus.tokens.subarray(Math.floor(worker * part), Math.floor((worker + 1) * part));

for (let finished = false; !finished; ) {
  const start = Math.floor(Math.random() * (share.length - STRETCH));
  const batch = sampler.sample(share.subarray(start, start + STRETCH));
  const { rows, iterations: base } = await client.lookup({
    [WORD]: batch.centres.rows,
    [CONTEXT]: batch.neighbours.rows,
  });
  const gradient = skipGramGradients(batch, (rows[WORD] as Rows).values, (rows[CONTEXT] as Rows).values);
  const gradients = {
    [WORD]: { indices: batch.centres.rows, values: gradient.words },
    [CONTEXT]: { indices: batch.neighbours.rows, values: gradient.contexts },
  };
  const iterations = await client.pushSparseGradients(gradients, { worker: `w${worker}`, base });
  report({ iterations, loss: gradient.loss, staleness: iterations - 1 - base });
  finished = iterations >= STEPS;
}
