/**
 * A training in which every push is another one, so that a state says which pushes it has come by, and in which order. The
 * states are worked out here by a session in memory.
 */
import { createHash } from 'node:crypto';
import { canonicalBytes } from '../../src/session/fingerprint.ts';
import type { Session } from '../../src/session/session.ts';
import { type Call, encodeFile, f32 } from '../support/api.ts';
import { applyStep, dense, sessionOf, sparse } from '../support/sessions.ts';
import { pathVariables } from '../support/training-path.ts';

export interface VariedPath {
  /** Of the creation, as JSON. */
  readonly variables: object;
  /** The push of that number. */
  push(number: number): Call;
  /** The fingerprints after 0, 1, 2... pushes with these numbers. */
  fingerprints(numbers: readonly number[]): Promise<string[]>;
}

/** A dense and a sparse gradient of a few numbers, which are multiples of 1/64. */
export const smallPath: VariedPath = {
  variables: pathVariables,
  push: (number) => ({ json: { gradients: smallGradients(number) } }),
  fingerprints: (numbers) =>
    fingerprints(sessionOf(pathVariables), numbers, (number) => {
      const { kernel, rows } = smallGradients(number);
      return { kernel: dense(kernel.values, [6, 4]), rows: sparse(rows.indices, rows.values, [3, 3]) };
    }),
};

const largeShape = [300_000];

/** A gradient of more than a megabyte. */
export const largePath: VariedPath = {
  variables: { w: { shape: largeShape } },
  push: (number) => ({
    bytes: encodeFile({ w: f32(largeGradient(number), largeShape) }),
    headers: { prefer: 'return=minimal', accept: 'application/json' },
  }),
  fingerprints: (numbers) =>
    fingerprints(sessionOf({ w: { shape: largeShape } }), numbers, (number) => ({
      w: dense(largeGradient(number), largeShape),
    })),
};

function smallGradients(number: number) {
  return {
    kernel: { shape: [6, 4], values: Array.from({ length: 24 }, (_, i) => (((i + 1) * number) % 13) / 64 - 6 / 64) },
    rows: {
      shape: [3, 3],
      indices: [number % 5, (number * 3) % 5, (number + 1) % 5],
      values: Array.from({ length: 9 }, (_, i) => (((i + 2) * number) % 11) / 64 - 5 / 64),
    },
  };
}

function largeGradient(number: number): number[] {
  return Array.from({ length: largeShape[0] as number }, (_, i) => ((i * 31 + number * 17) % 127) / 64 - 1);
}

async function fingerprints(
  session: Session,
  numbers: readonly number[],
  gradients: (number: number) => Parameters<typeof applyStep>[1],
): Promise<string[]> {
  const found = [fingerprint(session)];
  for (const number of numbers) {
    await applyStep(session, gradients(number));
    found.push(fingerprint(session));
  }
  return found;
}

function fingerprint({ contents }: Session): string {
  const hash = createHash('sha256');
  for (const bytes of canonicalBytes(contents.variables)) hash.update(bytes);
  return hash.digest('hex');
}
