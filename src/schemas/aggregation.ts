/** How many workers share a session, on the wire: one object, whose `mode` says which members it has. */
import { type TProperties, Type } from 'typebox';
import { aggregationTimeoutMsMax, replicasMax, workerTimeoutMsMax } from '../limits.ts';

const mode = Type.Enum(['async', 'sync', 'ssp'], {
  description:
    'async: each push is a step on arrival. `sync`: a step takes the gradients of several workers. `ssp`: each push is a step on arrival, but a worker that is far ahead of the slowest waits.',
});

const members = {
  max_staleness: Type.Integer({
    minimum: 0,
    maximum: Number.MAX_SAFE_INTEGER,
    description:
      '`async`: how many steps others may have made since the variables were read (`iterations - base`). Each push must then give its `base`. Unbounded by default.',
  }),
  staleness_policy: Type.Enum(['reject', 'scale'], {
    description:
      '`async`: a push beyond `max_staleness` is refused, or its learning rate is divided by its staleness; where there is no `max_staleness`, `scale` does so for every push.',
  }),
  replicas_to_aggregate: Type.Integer({
    minimum: 1,
    maximum: replicasMax,
    description: '`sync`: so many gradients, of as many workers, make a step.',
  }),
  total_num_replicas: Type.Integer({
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
    description:
      '`sync`: workers that there are. Those beyond `replicas_to_aggregate` are backups: the slowest do not hold up a step.',
  }),
  reduction: Type.Enum(['mean', 'sum'], {
    description:
      '`sync`: what the gradients come to. A worker that does not name a variable, or a row, counts as zeros.',
  }),
  max_lead: Type.Integer({
    minimum: 0,
    maximum: Number.MAX_SAFE_INTEGER,
    description: '`ssp`: a worker that is more than so many of its own steps ahead of the slowest live one waits.',
  }),
  worker_timeout_ms: Type.Integer({
    minimum: 1,
    maximum: workerTimeoutMsMax,
    description: '`ssp`: a worker that was silent for so long does not hold up the others. 30,000 by default.',
  }),
  timeout_ms: Type.Integer({
    minimum: 1,
    maximum: aggregationTimeoutMsMax,
    description: '`sync`, `ssp`: the longest that a push waits for other workers. 30,000 by default.',
  }),
  quarantine_after: Type.Integer({
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
    description:
      'So many gradients in a row that are not finite put their worker aside, until it is released. Never by default.',
  }),
};

const example = { mode: 'sync', replicas_to_aggregate: 4, total_num_replicas: 5, reduction: 'mean', timeout_ms: 30000 };

/** Of a session document. */
export const Aggregation = Type.Object(
  { mode, ...optional(members) },
  { additionalProperties: false, description: 'How workers share the session.', examples: [example] },
);

/** Of a creation or a merge patch: null stands for what is absent. */
export const AggregationGiven = Type.Object(orNull({ mode, ...members }), {
  additionalProperties: false,
  description: 'How workers share the session. In a patch, another `mode` replaces all that there was.',
  examples: [example],
});

function optional<P extends TProperties>(properties: P) {
  const entries = Object.entries(properties).map(([name, type]) => [name, Type.Optional(type)]);
  return Object.fromEntries(entries) as { [name in keyof P]: ReturnType<typeof Type.Optional<P[name]>> };
}

function orNull<P extends TProperties>(properties: P) {
  const entries = Object.entries(properties).map(([name, type]) => [
    name,
    Type.Optional(Type.Union([type, Type.Null()])),
  ]);
  return Object.fromEntries(entries) as { [name in keyof P]: ReturnType<typeof nullable<P[name]>> };
}

function nullable<T extends TProperties[string]>(type: T) {
  return Type.Optional(Type.Union([type, Type.Null()]));
}
