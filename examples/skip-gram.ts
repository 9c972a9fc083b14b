// Skip-gram with negative sampling (Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their
// Compositionality"): a word's vector should tell its neighbours in the text (label 1) from random words (label 0).
// Batches and their gradient by hand, in plain arrays: no framework, and nothing about the server.

import type { Floats, Integers } from './safetensors.ts';
import type { Corpus } from './words.ts';

const WINDOW = 4;
const NEGATIVES = 3;
/** The negatives of a batch are drawn from this many words: the fewer there are, the sparser is the gradient. */
const NEGATIVE_POOL = 200;
/** Words that make up more of the text than this are thinned out. */
const FREQUENT = 2e-4;

/**
 * Pairs of words. The centre of pair `i` has `1 + NEGATIVES` neighbours, from `i * (1 + NEGATIVES)` on: a true one and then
 * random ones. `rows` are the rows that the batch needs, each once, ascending; `places` points into them.
 */
export interface Batch {
  centres: Indexed;
  neighbours: Indexed;
}

interface Indexed {
  rows: Integers;
  places: Integers;
}

/** Draws batches from stretches of the text. */
export class BatchSampler {
  readonly #keep: number[];
  readonly #noise: number[];

  constructor({ counts, tokens }: Corpus) {
    this.#keep = counts.map((count) => Math.sqrt((FREQUENT * tokens.length) / count));
    // Noise words by count^0.75, as in the paper: a word stands as often in the list as it should be drawn.
    this.#noise = counts.flatMap((count, word) => new Array<number>(Math.ceil(count ** 0.75)).fill(word));
  }

  sample(text: Int32Array): Batch {
    const kept = text.filter((word) => Math.random() < (this.#keep[word] as number));
    const pool = Array.from({ length: NEGATIVE_POOL }, () => pick(this.#noise));
    const centres: number[] = [];
    const neighbours: number[] = [];
    for (let i = 0; i < kept.length; i++) {
      const reach = 1 + Math.floor(Math.random() * WINDOW); // near neighbours come more often than far ones
      for (let j = Math.max(0, i - reach); j <= Math.min(kept.length - 1, i + reach); j++) {
        if (j === i) continue;
        centres.push(kept[i] as number);
        neighbours.push(kept[j] as number);
        for (let n = 0; n < NEGATIVES; n++) neighbours.push(pick(pool));
      }
    }
    return { centres: indexed(centres), neighbours: indexed(neighbours) };
  }
}

/**
 * The binary cross-entropy of the batch, per example, and the gradient of its sum. `words` and `contexts` are the rows
 * that the batch names, `[k, d]`, row-major; so are the gradients.
 */
export function skipGramGradients(
  { centres, neighbours }: Batch,
  words: Floats,
  contexts: Floats,
): { loss: number; words: Floats; contexts: Floats } {
  const d = words.length / centres.rows.length;
  const wordGradient = new Float32Array(words.length);
  const contextGradient = new Float32Array(contexts.length);
  let loss = 0;
  for (let i = 0; i < neighbours.places.length; i++) {
    const isNegative = i % (1 + NEGATIVES) !== 0;
    const w = (centres.places[Math.floor(i / (1 + NEGATIVES))] as number) * d;
    const c = (neighbours.places[i] as number) * d;
    let logit = 0;
    for (let k = 0; k < d; k++) logit += (words[w + k] as number) * (contexts[c + k] as number);
    const probability = 1 / (1 + Math.exp(-logit));
    const error = isNegative ? probability : probability - 1;
    loss += Math.log1p(Math.exp(isNegative ? logit : -logit));
    for (let k = 0; k < d; k++) {
      wordGradient[w + k] = (wordGradient[w + k] as number) + error * (contexts[c + k] as number);
      contextGradient[c + k] = (contextGradient[c + k] as number) + error * (words[w + k] as number);
    }
  }
  return { loss: loss / neighbours.places.length, words: wordGradient, contexts: contextGradient };
}

/** The rows that `values` name, and where each value stands among them. */
function indexed(values: number[]): Indexed {
  const rows = Int32Array.from(new Set(values)).sort();
  const place = new Map(Array.from(rows, (row, i) => [row, i]));
  return { rows, places: Int32Array.from(values, (value) => place.get(value) as number) };
}

function pick(from: number[]): number {
  return from[Math.floor(Math.random() * from.length)] as number;
}
