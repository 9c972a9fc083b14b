/**
 * The JSON of a reply that carries tensors, written into one buffer: text of this length made of strings would be copied
 * several times, each time into fresh memory. Which tensors those are, and what the head says, is tensor-reply.ts's.
 */
import { blockElements } from '../kernel/bank.ts';
import type { Values } from '../kernel/blocks.ts';
import { decimalBytesMax, writeDecimals } from '../kernel/decimal.ts';
import type { Outgoing } from '../session/session.ts';
import { copyBytes } from '../tensor/buffer-pool.ts';
import type { FloatDtype } from '../tensor/dtype.ts';
import { elementCount } from '../tensor/tensor.ts';

/** A tensor of the reply and its values, as they are to travel. */
export interface Filled {
  readonly outgoing: Outgoing;
  readonly place: Values;
}

/** Makes the error for a value that is not finite, which JSON has no word for. */
export type Refuse = (variable: string, value: number, element: number) => Error;

/** "-2.2250738585072014e-308" and a comma. */
const doubleBytesMax = 25;

/** The most that one value takes, with its comma. */
export function textBytesMax(dtype: FloatDtype): number {
  return dtype === 'F64' ? doubleBytesMax : decimalBytesMax;
}

/** The members of `head`, and `variables`. All names are ASCII. Throws what `refuse` makes of a value that is not finite. */
export function tensorsJson(head: object, tensors: readonly Filled[], refuse: Refuse): Buffer {
  const start = `${JSON.stringify(head).slice(0, -1)},"variables":{`;
  const openings = tensors.map(({ outgoing, place }, index) => `${index === 0 ? '' : ','}${opening(outgoing, place)}`);
  let room = start.length + 2;
  for (const [index, { outgoing, place }] of tensors.entries()) {
    room += (openings[index] as string).length + elementCount(outgoing.shape) * textBytesMax(place.dtype) + 2;
  }
  // Not from the pool, since Fastify takes a buffer of shared memory for an object. What is not written costs nothing.
  const text = Buffer.allocUnsafe(room);
  let at = text.write(start, 'latin1');
  for (const [index, { outgoing, place }] of tensors.entries()) {
    const write = place.dtype === 'F64' ? writeDoubles : writeDecimals;
    at += text.write(openings[index] as string, at, 'latin1');
    at = write(place, elementCount(outgoing.shape), text, at, (value, element) =>
      refuse(outgoing.variable, value, element),
    );
    at += text.write(']}', at, 'latin1');
  }
  at += text.write('}}', at, 'latin1');
  return text.subarray(0, at);
}

function opening({ variable, shape, rows }: Outgoing, { dtype }: Values): string {
  const indices = rows === undefined ? '' : `"indices":${JSON.stringify(Array.from(rows))},`;
  return `${JSON.stringify(variable)}:{"dtype":"${dtype}","shape":${JSON.stringify(shape)},${indices}"values":[`;
}

/** As `writeDecimals`, for F64. */
function writeDoubles(
  { bytes }: Values,
  count: number,
  to: Buffer,
  at: number,
  refuse: (value: number, element: number) => Error,
): number {
  const block = new Float64Array(Math.min(count, blockElements));
  const blockBytes = new Uint8Array(block.buffer);
  let next = at;
  for (let first = 0; first < count; first += block.length) {
    const n = Math.min(block.length, count - first);
    copyBytes(bytes.subarray(first * 8, (first + n) * 8), blockBytes, 0);
    const numbers = Array.from(block.subarray(0, n));
    const element = numbers.findIndex((value) => !Number.isFinite(value));
    if (element >= 0) throw refuse(numbers[element] as number, first + element);
    if (first > 0) next += to.write(',', next);
    next += to.write(doublesJson(numbers), next, 'latin1');
  }
  return next;
}

/** JSON.stringify is several times as fast as `join`, but both write -0 as 0. */
function doublesJson(numbers: number[]): string {
  if (numbers.some((value) => Object.is(value, -0))) {
    return numbers.map((value) => (Object.is(value, -0) ? '-0' : value)).join();
  }
  return JSON.stringify(numbers).slice(1, -1);
}
