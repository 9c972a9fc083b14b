/** Events on the wire: the `data` of each kind, and the event as server-sent events have it. */
import { type Static, Type } from 'typebox';
import type { SessionEvent, Told } from '../store/session-events.ts';
import { CheckpointInfo } from './checkpoint.ts';

const Norm = (description: string) => Type.Union([Type.Number(), Type.Null()], { description });

export const StepEventJson = Type.Object(
  {
    revision: Type.Integer({ description: 'That the step led to.' }),
    iterations: Type.Integer({ description: 'After the step.' }),
    learning_rate: Type.Number({ description: 'That the step used.' }),
    gradient_norm: Norm('The length of the gradients, all together, before `clipnorm`; null where it is infinite.'),
    update_norm: Norm('The length of what was added to the variables, all together; null where it is infinite.'),
    worker: Type.Union([Type.String(), Type.Null()], {
      description: 'Who pushed; null if it did not say, and for a step that several workers made.',
    }),
    staleness: Type.Union([Type.Integer(), Type.Null()], {
      description: 'Steps between `base` and this one; null as for `worker`.',
    }),
    workers: Type.Optional(Type.Array(Type.String(), { description: 'Of a step that several workers made.' })),
  },
  {
    $id: 'StepEvent',
    additionalProperties: false,
    description: 'The `data` of an event `step`.',
    examples: [
      {
        revision: 1201,
        iterations: 1201,
        learning_rate: 0.001,
        gradient_norm: 0.73,
        update_norm: 0.02,
        worker: 'w1',
        staleness: 0,
      },
    ],
  },
);

export const CheckpointEventJson = Type.Object(
  {
    revision: Type.Integer({ description: 'That the checkpoint has; steps may have gone on from there meanwhile.' }),
    ...CheckpointInfo.properties,
  },
  { $id: 'CheckpointEvent', additionalProperties: false, description: 'The `data` of an event `checkpoint`.' },
);

export const SessionEventJson = Type.Object(
  {
    revision: Type.Integer(),
    iterations: Type.Integer(),
    change: Type.Enum(['patched', 'assigned', 'restored', 'quarantined', 'released', 'deleted', 'events_lost'], {
      description:
        '`deleted` is the last event. `events_lost` answers a `Last-Event-ID` that the server cannot go on from; what it still has from `revision` on follows.',
    }),
    worker: Type.Optional(Type.String({ description: 'Of `quarantined` and `released`.' })),
  },
  { $id: 'SessionEvent', additionalProperties: false, description: 'The `data` of an event `session`.' },
);

const texts = new WeakMap<Told, string>();

/** An event as text, which is made once, however many want it. */
export function encodeEvent(told: Told): string {
  let text = texts.get(told);
  if (text === undefined) {
    const id = told.id === undefined ? '' : `id: ${told.id}\n`;
    text = `${id}event: ${told.event.kind}\ndata: ${JSON.stringify(dataOf(told.event))}\n\n`;
    texts.set(told, text);
  }
  return text;
}

/** JSON.stringify makes null of an infinity. */
function dataOf(
  event: SessionEvent,
): Static<typeof StepEventJson> | Static<typeof CheckpointEventJson> | Static<typeof SessionEventJson> {
  switch (event.kind) {
    case 'step':
      return {
        revision: event.revision,
        iterations: event.iterations,
        learning_rate: event.learningRate,
        gradient_norm: event.gradientNorm,
        update_norm: event.updateNorm,
        worker: event.worker,
        staleness: event.staleness,
        ...(event.workers === undefined ? {} : { workers: [...event.workers] }),
      };
    case 'checkpoint':
      return { revision: event.revision, ...event.info };
    case 'session':
      return {
        revision: event.revision,
        iterations: event.iterations,
        change: event.change,
        ...(event.worker === undefined ? {} : { worker: event.worker }),
      };
  }
}
