/**
 * One step of several workers' gradients: reduced in the order of the workers' names, so that its bits do not depend on who
 * came first, put into the journal as one change, and applied once. All of them are answered with the same result; those
 * whose replies are the same bytes share them.
 */
import type { Values } from '../kernel/blocks.ts';
import type { SyncAggregation } from '../session/aggregation.ts';
import type { Outgoing, Position, Receive, Session } from '../session/session.ts';
import { bodyPool } from '../tensor/buffer-pool.ts';
import type { Applied, Barrier } from './barrier.ts';
import type { AdmittedStep, LiveSession } from './live-session.ts';
import type { StepReply } from './requests.ts';

type Places = ReturnType<Barrier['take']>;

/**
 * In the turn of the one who came last, whose reply is `own`; `onChecked` is told when only the step itself is left. Whatever
 * goes wrong is told to all. What several gradients come
 * to takes as much memory as one of them does, in the variables' dtypes.
 */
export async function stepTogether(
  live: LiveSession,
  places: Places,
  from: Position,
  { reduction }: SyncAggregation,
  own: StepReply,
  onChecked: () => void,
): Promise<() => Promise<Applied>> {
  const failing = async <T>(task: () => Promise<T>): Promise<T> => {
    try {
      return await task();
    } catch (error) {
      for (const { fail } of places) fail(error);
      throw error;
    }
  };
  const replies = new Replies(places.map(({ reply }) => reply));
  const admitted = await failing(() => admit(live, places, from, reduction, own, replies, onChecked));
  return () =>
    failing(async () => {
      await admitted.acknowledged;
      for (const { reply } of places) reply.begin?.(admitted.level, false);
      const head = await admitted.apply();
      await replies.fill(live.session);
      for (const { reply, answer } of places) answer({ head, reply: replies.leaderOf(reply) });
      return { head, reply: replies.leaderOf(own) };
    });
}

async function admit(
  live: LiveSession,
  places: Places,
  from: Position,
  reduction: SyncAggregation['reduction'],
  own: StepReply,
  replies: Replies,
  onChecked: () => void,
): Promise<AdmittedStep> {
  let memory: Buffer | undefined;
  const giveBack = () => {
    if (memory !== undefined) bodyPool.give(memory);
    memory = undefined;
  };
  try {
    const gradients = await live.session.reduce(
      places.map(({ checked }) => checked),
      reduction === 'mean' ? places.length : 1,
      (bytes) => {
        own.lend?.(bytes);
        memory = bodyPool.take(bytes);
        return memory;
      },
    );
    const checked = await live.session.check(gradients);
    onChecked();
    const admitted = await live.admit(
      {
        gradients,
        checked,
        origin: { by: places.map(({ worker }) => ({ worker, staleness: 0, clock: undefined })), rateDivisor: 1 },
        keys: places.flatMap(({ request }) => request.key ?? []),
        receive: replies.receive,
      },
      from,
    );
    return {
      ...admitted,
      async apply() {
        try {
          return await admitted.apply();
        } finally {
          // The journal may have to put its record still.
          void admitted.committed.then(giveBack, giveBack);
        }
      },
    };
  } catch (error) {
    giveBack();
    throw error;
  }
}

/** Replies to one step, of which those of the same kind are made once. */
class Replies {
  readonly #leaders = new Map<string | StepReply, StepReply>();
  #tensors: readonly Outgoing[] = [];
  /** Places that the step itself does not fill. */
  #unfilled: (readonly Values[])[] = [];

  constructor(replies: readonly StepReply[]) {
    for (const reply of replies) {
      const kind = reply.kind ?? reply;
      if (!this.#leaders.has(kind)) this.#leaders.set(kind, reply);
    }
  }

  /** The one whose bytes it goes out with. */
  leaderOf(reply: StepReply): StepReply {
    return this.#leaders.get(reply.kind ?? reply) as StepReply;
  }

  readonly receive: Receive = (head, tensors) => {
    this.#tensors = tensors;
    const [first = [], ...others] = [...this.#leaders.values()].map((reply) => reply.receive(head, tensors));
    this.#unfilled = others.filter(({ length }) => length > 0);
    return first;
  };

  /** When the step has been applied, and nothing else. */
  async fill(session: Session): Promise<void> {
    for (const places of this.#unfilled) await session.read('w', this.#tensors, () => places);
  }
}
