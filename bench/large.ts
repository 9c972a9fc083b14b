/** A session larger than one WASM memory, through its whole life: the same bits as a plain loop, and how long a push takes. */
import { freemem } from 'node:os';
import { denseBody } from './bodies.ts';
import type { Children } from './children.ts';
import { asMeasured, compare, type Pair } from './pairs.ts';
import { plainSteps } from './plain-steps.ts';
import { type Body, Poster, type Receive } from './post.ts';
import { lackOfRoom } from './room.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

const floats = 400_000_000;
const pairsTaken = 3;
/** State, and a second one while it is restored; body and echo. */
const memoryBytes = (2 * 12 + 2 * 4) * floats + 1e9;
/** The checkpoint of the creation goes when the next one is whole. */
const diskBytes = 2 * 12 * floats + 1e9;
/** What the gradient is multiplied with, step by step: powers of two, so that it stays exact. */
const factors = [1, -0.5, 0.25] as const;

export const large: Benchmark = {
  name: 'large',
  notes: [
    'The large session has 4.8 GB of state, more than one WASM memory can hold. It is created, takes two steps, is checkpointed, takes the steps that are timed, is restored and takes a third step. Each element of each of the three replies must have the bits of a plain loop in JavaScript (`bench/plain-steps.ts`) that begins with zeros, else the run fails; the last one has them only if the checkpoint brought `w`, `m` and `v` back.',
    `Its pushes are timed as other dense ones are, one push a sample, ${pairsTaken} pairs. A machine with less than ${(memoryBytes / 1e9).toFixed(0)} GB of free memory or ${(diskBytes / 1e9).toFixed(0)} GB of free disk is not asked.`,
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const push = { what: 'dense push and reply, 400,000,000 floats (4.8 GB of state)', against: 'node:http echo' };
  const bits = {
    what: 'elements with the same bits, 400,000,000 floats, three steps and a restore',
    against: 'a plain float32 loop',
    target: { atLeast: 1 },
  };
  const lack = whatIsMissing(children.folder);
  if (lack !== undefined) {
    yield { ...push, result: lack };
    yield { ...bits, result: lack };
    return;
  }
  const server = await startServer(children);
  const session = await server.createSession({ w: [floats] });
  const poster = new Poster(server.port, `${session}/gradients`, 1);
  const body = denseBody(floats);
  let same = 0;
  const checkedStep = async (step: number): Promise<void> => {
    if (step > 0) scale(body, (factors[step] as number) / (factors[step - 1] as number));
    const check = new BitCheck(factors.slice(0, step + 1));
    await poster.post(body, check.receive);
    same += check.same;
  };
  await checkedStep(0);
  await checkedStep(1);
  await server.call('POST', `${session}/checkpoints`);
  const echo = new Poster(await children.forkServer('echo-server.ts', String(body.bytes.length)), '/', 1);
  const [pushed, echoed] = [poster.inTurn([body]), echo.inTurn([body])];
  // The server is warm by now.
  await echoed(1);
  const pairs: Pair[] = [];
  while (pairs.length < pairsTaken) pairs.push({ measured: await pushed(1), reference: await echoed(1) });
  yield { ...push, result: compare(pairs, 's', (seconds) => seconds) };
  await server.call('POST', `${session}/checkpoints/latest/restore`);
  await checkedStep(2);
  yield { ...bits, result: asMeasured(same / 1e6, (factors.length * floats) / 1e6, 'M elements') };
}

function whatIsMissing(folder: string): string | undefined {
  return freemem() < memoryBytes ? 'not enough memory here' : lackOfRoom(folder, diskBytes);
}

/** In place, since a second body would take as much memory again. */
function scale({ bytes, replyBytesMin }: Body, factor: number): void {
  const data = bytes.subarray(bytes.length - replyBytesMin);
  const values = new Float32Array(data.buffer, data.byteOffset, data.length / 4);
  for (let k = 0; k < values.length; k++) values[k] = (values[k] as number) * factor;
}

/** Compares a reply as it comes, piece by piece; an element that is cut by two pieces is computed for both. */
class BitCheck {
  /** Elements. */
  same = 0;
  readonly #factors: readonly number[];

  constructor(stepFactors: readonly number[]) {
    this.#factors = stepFactors;
  }

  readonly receive: Receive = (chunk, at) => {
    const start = Math.max(at, 0);
    const received = chunk.subarray(start - at);
    const first = Math.floor(start / 4);
    const expected = new Float32Array(Math.ceil((start + received.length) / 4) - first);
    plainSteps(expected, first, this.#factors);
    const from = start - 4 * first;
    if (!Buffer.from(expected.buffer, from, received.length).equals(received)) {
      throw new Error(`a plain loop must give the same bits. It does not near element ${first}`);
    }
    this.same += received.length / 4;
  };
}
