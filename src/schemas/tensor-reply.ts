/**
 * A reply that carries tensors, in the format that was asked for. It tells the session where to put the values, which then
 * go out as they stand: a safetensors reply is one buffer, filled in place, whose beginning can leave before its end is there.
 */
import type { Readable } from 'node:stream';
import { Type } from 'typebox';
import { Problem } from '../errors.ts';
import { blockElements } from '../kernel/bank.ts';
import type { Values } from '../kernel/blocks.ts';
import type { Range } from '../kernel/threads.ts';
import { writeIndices } from '../optimizer/indexed-slices.ts';
import type { Head, Outgoing, Receive } from '../session/session.ts';
import { bodyPool, copyBytes } from '../tensor/buffer-pool.ts';
import { bytesPerElement, type FloatDtype } from '../tensor/dtype.ts';
import { layoutSafetensors, type TensorPlan } from '../tensor/safetensors.ts';
import { byteLength, elementCount } from '../tensor/tensor.ts';
import { FillingFile } from './filling-file.ts';
import { Indices } from './slices.ts';
import { DtypeName, Shape } from './tensor.ts';
import { type Filled, type Refuse, tensorsJson, textBytesMax } from './tensor-text.ts';

/** Of the two body formats; `application/octet-stream` is the second under another name. */
export type ReplyFormat = 'application/json' | 'application/vnd.safetensors' | 'application/octet-stream';

const headMembers = {
  session: Type.String(),
  revision: Type.Integer({ description: 'Grows by one with every change; also the ETag.' }),
  iterations: Type.Integer({ description: 'Applied steps.' }),
  learning_rate: Type.Number({
    description: 'The rate that this step used or, in a read, that the next one will use.',
  }),
};

/** A reply about a session that carries no tensors. */
export const HeadReply = Type.Object(headMembers, {
  $id: 'Head',
  additionalProperties: false,
  examples: [{ session: 'mnist', revision: 43, iterations: 42, learning_rate: 0.001 }],
});

export const TensorsReply = Type.Object(
  {
    ...headMembers,
    complete: Type.Optional(
      Type.Boolean({
        description:
          'Of a read with `since`: false, only what has changed is here; true, the server can no longer tell, and everything is.',
      }),
    ),
    variables: Type.Optional(
      Type.Record(
        Type.String(),
        Type.Object(
          {
            dtype: DtypeName,
            shape: Shape,
            indices: Type.Optional(Indices),
            values: Type.Array(Type.Number(), {
              description:
                'Flat, in row-major order, with the fewest digits that are read as the same F64 or, of any other dtype, F32.',
            }),
          },
          { additionalProperties: false },
        ),
        { description: 'By variable name. Rows bear their `indices`. Absent from a minimal reply.' },
      ),
    ),
  },
  {
    $id: 'Tensors',
    additionalProperties: false,
    examples: [
      {
        session: 'mnist',
        revision: 43,
        iterations: 42,
        learning_rate: 0.001,
        variables: { w: { dtype: 'F32', shape: [3], values: [0.5, -1.25, 3] } },
      },
    ],
  },
);

export class TensorReply {
  readonly #format: ReplyFormat;
  readonly #dtype: FloatDtype | undefined;
  readonly #lend: (bytes: number) => void;
  #head: Head | undefined;
  #file: Buffer | undefined;
  #filled: Filled[] | undefined;
  /** Where the file is sent while it is filled: who waits for its beginning, and how far it has come. */
  #begin: (() => void) | undefined;
  #filling: FillingFile | undefined;
  /** What became of it, once it was asked for. */
  #payload: Buffer | string | Problem | undefined;

  /**
   * `dtype`: of all tensors in the reply; each variable's own if not given. `lend` is asked before so many bytes of memory
   * are taken, and throws if they may not be.
   */
  constructor(format: ReplyFormat, dtype: FloatDtype | undefined, lend: (bytes: number) => void) {
    this.#format = format;
    this.#dtype = dtype;
    this.#lend = lend;
  }

  /** Makes room for the tensors; handed to the session, which fills it. */
  readonly receive: Receive = (head, tensors) => {
    this.#head = head;
    const places =
      this.#format === 'application/json' ? this.#separatePlaces(tensors) : this.#placesInFile(head, tensors);
    this.#filled = tensors.map((outgoing, index) => ({ outgoing, place: places[index] as Values }));
    return places;
  };

  /** Told of blocks of whole variables that are in place, by the variables' number. */
  readonly progress = (ranges: readonly Range[]): void => {
    for (const { work, first, last } of ranges) {
      const filled = this.#filled?.[work];
      if (this.#filling === undefined || filled === undefined || filled.outgoing.rows !== undefined) continue;
      const { dtype, bytes } = filled.place;
      const blockBytes = blockElements * bytesPerElement[dtype];
      const start = bytes.byteOffset - this.#filling.bytes.byteOffset;
      this.#filling.fill(start + first * blockBytes, start + Math.min(bytes.length, last * blockBytes));
    }
  };

  /**
   * For a reply that is to be streamed, before the session gets `receive`: resolves when `begin` is called. From then on there
   * is a head, and nothing fails.
   */
  begun(): Promise<void> {
    return new Promise((resolve) => {
      this.#begin = resolve;
    });
  }

  /** The values are about to be put in place. */
  readonly begin = (): void => this.#begin?.();

  get head(): Head {
    if (this.#head === undefined) throw new Error('nothing was received');
    return this.#head;
  }

  /** The body, and its bytes in order as they come; `applied`: when all are there. Not for JSON. */
  stream(applied: Promise<unknown>): { bytes: Buffer; stream: Readable } {
    const file = this.#filling;
    if (file === undefined) throw new Error('only a file that has begun can be sent while it is filled');
    applied.then(
      () => file.finish(),
      (error: Error) => file.finish(error),
    );
    return { bytes: file.bytes, stream: file.stream() };
  }

  /** For a minimal reply: takes the head alone. */
  readonly receiveNothing: Receive = (head) => {
    this.#head = head;
    if (this.#format !== 'application/json') this.#placesInFile(head, []);
    return [];
  };

  /**
   * The body, which each caller gives back to the pool: who asks for it again gets the same. Throws `not_acceptable` for a value
   * that JSON cannot carry; `applied` goes into that problem.
   */
  payload(applied: boolean): Buffer | string {
    if (this.#payload === undefined) this.#payload = this.#file ?? this.#makeText(applied);
    else if (Buffer.isBuffer(this.#payload)) bodyPool.share(this.#payload);
    if (this.#payload instanceof Problem) throw this.#payload;
    return this.#payload;
  }

  #makeText(applied: boolean): Buffer | string | Problem {
    if (this.#filled === undefined) return JSON.stringify(headJson(this.head));
    const refuse: Refuse = (...received) => notAcceptable(...received, applied);
    try {
      return tensorsJson(headJson(this.head), this.#filled, refuse);
    } catch (problem) {
      if (problem instanceof Problem) return problem;
      throw problem;
    } finally {
      for (const { place } of this.#filled) bodyPool.give(place.bytes as Buffer);
    }
  }

  #separatePlaces(tensors: readonly Outgoing[]): Values[] {
    return tensors.map((tensor) => {
      const dtype = this.#dtype ?? tensor.dtype;
      const bytes = byteLength(dtype, tensor.shape);
      this.#lend(bytes + elementCount(tensor.shape) * textBytesMax(dtype));
      return { dtype, bytes: bodyPool.take(bytes) };
    });
  }

  #placesInFile(head: Head, tensors: readonly Outgoing[]): Values[] {
    const plans: TensorPlan[] = [];
    for (const { variable, shape, dtype, rows } of tensors) {
      if (rows !== undefined) plans.push({ name: `${variable}:indices`, dtype: 'I64', shape: [rows.length] });
      plans.push({ name: rows === undefined ? variable : `${variable}:values`, dtype: this.#dtype ?? dtype, shape });
    }
    const layout = layoutSafetensors(headMetadata(head), plans);
    this.#lend(layout.totalBytes);
    const file = bodyPool.take(layout.totalBytes);
    copyBytes(layout.header, file, 0);
    const at = (name: string, bytes: number): Uint8Array => {
      const start = layout.offsets.get(name) as number;
      return file.subarray(start, start + bytes);
    };
    this.#file = file;
    if (this.#begin !== undefined) {
      this.#filling = new FillingFile(file);
      this.#filling.fill(0, layout.header.length);
    }
    return tensors.map(({ variable, shape, dtype: own, rows }) => {
      const dtype = this.#dtype ?? own;
      if (rows !== undefined) copyBytes(writeIndices(rows).bytes, at(`${variable}:indices`, rows.length * 8), 0);
      return { dtype, bytes: at(rows === undefined ? variable : `${variable}:values`, byteLength(dtype, shape)) };
    });
  }
}

/** What a safetensors reply says in `__metadata__`. */
function headMetadata(head: Head): Record<string, string> {
  return {
    session: head.session,
    revision: String(head.revision),
    iterations: String(head.iterations),
    learning_rate: String(head.learningRate),
    ...(head.complete === undefined ? {} : { complete: String(head.complete) }),
  };
}

export function headJson(head: Head): Record<string, unknown> {
  const { session, revision, iterations, learningRate, complete } = head;
  const members = { session, revision, iterations, learning_rate: learningRate };
  return complete === undefined ? members : { ...members, complete };
}

function notAcceptable(variable: string, value: number, element: number, applied: boolean): Problem {
  const what = `${JSON.stringify(variable)} must be finite to travel as JSON. Received: ${value} at element ${element}`;
  const done = applied ? '; the step was applied' : '';
  return new Problem('not_acceptable', `${what}${done}; safetensors carries it`, { applied });
}
