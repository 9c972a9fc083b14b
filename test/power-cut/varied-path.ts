/**
 * A training in which every push is another one, so that a state says which pushes it has come by, and in which order. What
 * the states are is learnt from a server that nothing happens to.
 */
import assert from 'node:assert/strict';
import { type Call, encodeFile, f32, f64, i64 } from '../support/api.ts';
import type { ServerProcess } from '../support/server-process.ts';

export interface VariedPath {
  /** Of the creation, as JSON. */
  readonly variables: object;
  /** The push of that number. */
  push(number: number): Call;
}

const headers = { prefer: 'return=minimal', accept: 'application/json' };
const largeCount = 300_000;

/** A dense and a sparse gradient of a few numbers. */
export const smallPath: VariedPath = {
  variables: {
    kernel: { values: sequence(24, (i) => (i - 12) / 64), shape: [6, 4], dtype: 'F64' },
    rows: { values: sequence(15, (i) => i / 64), shape: [5, 3] },
  },
  push: (number) => {
    const kernel = sequence(24, (i) => (((i + 1) * number) % 13) / 64 - 6 / 64);
    const rows = sequence(9, (i) => (((i + 2) * number) % 11) / 64 - 5 / 64);
    const indices = i64([number % 5, (number * 3) % 5, (number + 1) % 5]);
    return {
      bytes: encodeFile({ kernel: f64(kernel, [6, 4]), 'rows:indices': indices, 'rows:values': f32(rows, [3, 3]) }),
      headers,
    };
  },
};

/** A gradient of more than a megabyte. */
export const largePath: VariedPath = {
  variables: { w: { shape: [largeCount] } },
  push: (number) => ({
    bytes: encodeFile({ w: f32(sequence(largeCount, (i) => ((i * 31 + number * 17) % 127) / 64 - 1)) }),
    headers,
  }),
};

/** The fingerprints after 0, 1, 2... of the pushes with these numbers. `name`: of a session, to learn it from. */
export async function fingerprints(
  server: ServerProcess,
  name: string,
  path: VariedPath,
  numbers: readonly number[],
): Promise<string[]> {
  const session = `/v1/sessions/${name}`;
  const call = async (...request: Parameters<ServerProcess['call']>) => {
    const answer = await server.call(...request);
    assert.ok(answer.status < 300, answer.bytes.toString());
    return answer.json;
  };
  const fingerprint = async (): Promise<string> => (await call('GET', `${session}/fingerprint`)).sha256;
  await call('PUT', session, { json: { variables: path.variables, durability: 'checkpoint' } });
  const found = [await fingerprint()];
  for (const number of numbers) {
    await call('POST', `${session}/gradients`, path.push(number));
    found.push(await fingerprint());
  }
  return found;
}

function sequence(length: number, value: (index: number) => number): number[] {
  return Array.from({ length }, (_, index) => value(index));
}
