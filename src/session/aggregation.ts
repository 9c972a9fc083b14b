/**
 * How many workers share a session, as its settings say it: each push a step on arrival (`async`), one step of several
 * workers' gradients (`sync`), or steps on arrival that keep within reach of each other (`ssp`). Who waits, and for how long,
 * is left to the store.
 */
import { Problem } from '../errors.ts';

export interface Quarantine {
  /** So many gradients in a row that are not finite put a worker aside; never, where it is absent. */
  readonly quarantine_after?: number;
}

export interface AsyncAggregation extends Quarantine {
  readonly mode: 'async';
  /** Steps that others may have made since the variables were read that a gradient is of. */
  readonly max_staleness?: number;
  /** What happens to a gradient beyond it: it is refused, or its rate divided by its staleness. */
  readonly staleness_policy?: 'reject' | 'scale';
}

export interface SyncAggregation extends Quarantine {
  readonly mode: 'sync';
  /** Gradients that make a step. */
  readonly replicas_to_aggregate: number;
  /** Workers that there are; those beyond `replicas_to_aggregate` are backups for the slowest. */
  readonly total_num_replicas: number;
  readonly reduction: 'mean' | 'sum';
  readonly timeout_ms: number;
}

export interface SspAggregation extends Quarantine {
  readonly mode: 'ssp';
  /** Steps of its own that a worker may be ahead of the slowest before it waits. */
  readonly max_lead: number;
  /** A worker that was silent for so long does not hold up the others. */
  readonly worker_timeout_ms: number;
  readonly timeout_ms: number;
}

export type Aggregation = AsyncAggregation | SyncAggregation | SspAggregation;
type Mode = Aggregation['mode'];
type Member = Exclude<keyof AsyncAggregation | keyof SyncAggregation | keyof SspAggregation, 'mode'>;

/** As a creation or a merge patch gives it: null stands for what is absent. */
export type GivenAggregation = { readonly mode?: Mode | null } & {
  readonly [member in Member]?: number | string | null;
};

export const defaultAggregation: Aggregation = { mode: 'async' };
const timeoutMsDefault = 30_000;

/** The members of each mode, with their defaults; null: it must be given, `undefined`: it may be absent. */
const membersOf: Readonly<Record<Mode, Readonly<Partial<Record<Member, number | string | null | undefined>>>>> = {
  async: { max_staleness: undefined, staleness_policy: undefined, quarantine_after: undefined },
  sync: {
    replicas_to_aggregate: null,
    total_num_replicas: undefined,
    reduction: 'mean',
    timeout_ms: timeoutMsDefault,
    quarantine_after: undefined,
  },
  ssp: {
    max_lead: null,
    worker_timeout_ms: timeoutMsDefault,
    timeout_ms: timeoutMsDefault,
    quarantine_after: undefined,
  },
};

/**
 * Complete, with defaults for what is not given; each value is of its own type and range. Throws `invalid_argument` for a
 * member that the mode does not have, or lacks, and for fewer replicas than make a step.
 */
export function newAggregation(given: GivenAggregation): Aggregation {
  const mode = given.mode ?? defaultAggregation.mode;
  const members = membersOf[mode];
  for (const [name, value] of Object.entries(given)) {
    if (name === 'mode' || value === null || value === undefined || Object.hasOwn(members, name)) continue;
    const known = Object.keys(members).join(', ');
    throw invalid(`aggregation of mode "${mode}" must have no members but ${known}`, name);
  }
  const complete: Record<string, unknown> = { mode };
  for (const [name, otherwise] of Object.entries(members)) {
    const value = given[name as Member] ?? otherwise;
    if (value === null) throw invalid(`aggregation of mode "${mode}" must have "${name}"`, 'none');
    if (value !== undefined) complete[name] = value;
  }
  const aggregation = complete as unknown as Aggregation;
  return aggregation.mode === 'sync' ? withReplicas(aggregation) : aggregation;
}

/** By the rules of JSON Merge Patch, but that another mode replaces what there was. */
export function mergeAggregation(aggregation: Aggregation, patch: GivenAggregation): Aggregation {
  const mode = patch.mode === null ? defaultAggregation.mode : (patch.mode ?? aggregation.mode);
  return newAggregation(mode === aggregation.mode ? { ...aggregation, ...patch, mode } : { ...patch, mode });
}

function withReplicas(given: SyncAggregation): SyncAggregation {
  const { replicas_to_aggregate: needed, total_num_replicas: total = needed } = given;
  if (total < needed) throw invalid(`total_num_replicas must be at least replicas_to_aggregate, ${needed}`, total);
  return { ...given, total_num_replicas: total };
}

function invalid(rule: string, received: unknown): Problem {
  return new Problem('invalid_argument', `${rule}. Received: ${received}`);
}
