/** What can happen to a session, one thing after the other; after each the server is held against the model. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type GivenAggregation, mergeAggregation } from '../../src/session/aggregation.ts';
import * as drawn from './drawn.ts';
import type { Gradient, Gradients } from './plain-reduction.ts';
import type { Part } from './plain-variables.ts';
import type { Format } from './push-client.ts';
import type { ServedSession } from './served-session.ts';
import { assertSameState, expectAll, settle } from './settle.ts';
import type { Push, SharedSession } from './shared-session.ts';

/** The model, and what the clients remember. */
export interface Training {
  readonly model: SharedSession;
  /** Those with a key, which may be sent again. */
  readonly keyed: Push[];
}

type Command = fc.AsyncCommand<Training, ServedSession>;
type Run = (training: Training, real: ServedSession) => Promise<void>;

function command(name: string, check: (training: Training) => boolean, run: Run): Command {
  return { check, run, toString: () => name };
}

const always = () => true;
const somebodyWaits = ({ model }: Training) => model.pending.size > 0;

interface Pushing {
  readonly worker: string;
  /** Steps that `base` lies behind; `undefined`: the push does not say. */
  readonly lag: number | undefined;
  readonly gradients: Gradients;
  readonly format: Format;
  readonly hasKey: boolean;
  readonly asksRevision: boolean;
}

function send(given: Pushing): Command {
  const run: Run = (training, real) => sendNow(training, real, given);
  return command(`push(${printed(given)})`, ({ model }) => mayPush(model, given.worker), run);
}

async function sendNow(training: Training, real: ServedSession, given: Pushing): Promise<void> {
  const { model, keyed } = training;
  const { worker, lag, gradients, format, hasKey, asksRevision } = given;
  const base = lag === undefined ? undefined : Math.max(0, model.iterations - lag);
  const key = hasKey ? `key-${keyed.length}` : undefined;
  const push = { worker, base, gradients, key, ifMatch: asksRevision ? model.revision : undefined };
  if (hasKey) keyed.push(push);
  await arrive(model, real, push, format);
}

/** Each worker that does not wait pushes what is up to date. */
function round(given: readonly Pushing[]): Command {
  const run: Run = async (training, real) => {
    for (const each of given) {
      if (!training.model.isWaiting(each.worker)) await sendNow(training, real, { ...each, lag: 0 });
    }
  };
  return command(`round(${printed(given)})`, always, run);
}

/** Which of two pushes of one worker goes on first, where others let it, is nobody's promise. */
function mayPush(model: SharedSession, worker: string): boolean {
  return model.rules.mode === 'sync' || !model.isWaiting(worker);
}

async function arrive(model: SharedSession, real: ServedSession, push: Push, format: Format): Promise<void> {
  model.pending.add(push);
  real.send(push, format);
  await settle(model, real);
}

/** Sent once more as it was, whether it was answered or waits; its client may have hung up, or its server crashed. */
function repeat(nth: number, isMinimal: boolean, files: boolean): Command {
  const find = ({ keyed }: Training) => keyed[nth % keyed.length];
  const isUnderWay = ({ model }: Training, { key }: Push) => [...model.pending].some((each) => each.key === key);
  const check = (training: Training) => {
    const push = find(training);
    return push !== undefined && (isUnderWay(training, push) || mayPush(training.model, push.worker));
  };
  const run: Run = (training, real) => {
    const push = find(training) as Push;
    // The body must be the same; all of one session's clients speak one format.
    return arrive(training.model, real, { ...push }, { isFile: files, isMinimal });
  };
  return command(`repeat(${nth})`, check, run);
}

function hangUp(nth: number): Command {
  const run: Run = async ({ model }, real) => {
    const push = [...model.pending][nth % model.pending.size] as Push;
    model.pending.delete(push);
    await real.hangUp(push);
    await settle(model, real);
  };
  return command(`hangUp(${nth})`, somebodyWaits, run);
}

/** `mode`: the one that it is for, if it does not give one itself. */
function patch(given: GivenAggregation, mode = given.mode): Command {
  const run: Run = async ({ model }, real) => {
    await real.change('PATCH', '', { aggregation: given });
    model.patch(mergeAggregation(model.rules, given));
    await settle(model, real);
  };
  const check = ({ model }: Training) => given.mode !== undefined || model.rules.mode === mode;
  return command(`patch(${printed(given)})`, check, run);
}

function setIterations(by: number): Command {
  const run: Run = async ({ model }, real) => {
    const iterations = Math.max(0, model.iterations + by);
    await real.change('PATCH', '', { iterations });
    model.setIterations(iterations);
    await settle(model, real);
  };
  return command(`setIterations(${by})`, always, run);
}

function assign(part: Part, name: string, values: Gradient): Command {
  const given = part === 'v' ? { ...values, values: values.values.map(Math.abs) } : values;
  const run: Run = async ({ model }, real) => {
    const path = part === 'w' ? '/variables' : `/slots/${part}`;
    await real.change('PUT', path, { variables: { [name]: asJson(given) } });
    model.assign(part, name, asSent(given));
    await settle(model, real);
  };
  return command(`assign(${part}, ${name}, ${printed(given)})`, always, run);
}

function asJson({ values, indices }: Gradient): object {
  if (indices === undefined) return { values, shape: values.length === 10 ? [5, 2] : [values.length] };
  return { indices, values: indices.map((_, k) => values.slice(2 * k, 2 * k + 2)) };
}

/** JSON.stringify makes a 0 of -0. */
function asSent({ values, ...rest }: Gradient): Gradient {
  return { ...rest, values: values.map((x) => x + 0) };
}

function release(worker: string): Command {
  const run: Run = async ({ model }, real) => {
    await real.change('POST', `/workers/${encodeURIComponent(worker)}/release`);
    model.release(worker);
    await settle(model, real);
  };
  return command(`release(${worker})`, always, run);
}

/** All that wait have waited for too long; those who come later have time again. */
function timeOut(milliseconds: number): Command {
  const run: Run = async ({ model }, real) => {
    const set = async (timeout_ms: number) => {
      await real.change('PATCH', '', { aggregation: { timeout_ms } });
      model.patch(mergeAggregation(model.rules, { timeout_ms }));
    };
    await set(milliseconds);
    model.isOver = true;
    await settle(model, real, await real.answers());
    model.isOver = false;
    await set(drawn.timeout_ms);
    assertSameState(model, real);
  };
  return command(`timeOut(${milliseconds})`, somebodyWaits, run);
}

const restart = command('restart()', always, async ({ model }, real) => {
  expectAll(model, await real.restart(), 'shutting_down');
  model.restart();
  await settle(model, real);
});

const crash = command('crash()', always, async ({ model }, real) => {
  await real.crash();
  model.restart();
  await settle(model, real);
});

const compareWorkers = command('workers()', always, async ({ model }, real) => {
  assert.deepEqual(await real.workers(), model.workers);
});

function printed(given: unknown): string {
  return fc.stringify(given);
}

const worker = fc.constantFrom(...drawn.workers);

const pushes = (gradients: fc.Arbitrary<Gradients>, files: boolean): fc.Arbitrary<Pushing> =>
  fc.record({
    worker,
    lag: fc.oneof(
      { weight: 12, arbitrary: fc.constant(0) },
      { weight: 4, arbitrary: fc.constantFrom(1, 2, 4, -1, undefined) },
    ),
    gradients,
    format: fc.record({ isFile: fc.constant(files), isMinimal: fc.boolean() }),
    hasKey: fc.boolean(),
    asksRevision: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  });

const rounds = (files: boolean) =>
  fc.uniqueArray(pushes(drawn.someGradients, files), {
    selector: (each) => each.worker,
    minLength: 2,
    maxLength: drawn.workers.length,
  });

const assignments = fc
  .record({ part: fc.constantFrom('w' as const, 'm' as const, 'v' as const), gradients: drawn.gradients() })
  .map(({ part, gradients }) => {
    const [[name, values]] = Object.entries(gradients) as [[string, Gradient]];
    // Slot m of what huge gradients were for must not be divided by nothing.
    return assign(part === 'v' && name === 'kernel' ? 'w' : part, name, once(values));
  });

/** Each row once. */
function once({ values, indices }: Gradient): Gradient {
  if (indices === undefined) return { values };
  const firsts = indices.flatMap((row, k) => (indices.indexOf(row) === k ? [k] : []));
  return {
    indices: firsts.map((k) => indices[k] as number),
    values: firsts.flatMap((k) => values.slice(2 * k, 2 * k + 2)),
  };
}

const weighted = (files: boolean) => [
  { weight: 8, arbitrary: rounds(files).map(round) },
  { weight: 40, arbitrary: pushes(drawn.someGradients, files).map(send) },
  { weight: 5, arbitrary: pushes(drawn.badGradients, files).map(send) },
  { weight: 12, arbitrary: fc.tuple(fc.nat(), fc.boolean()).map(([nth, isMinimal]) => repeat(nth, isMinimal, files)) },
  { weight: 8, arbitrary: fc.nat().map(hangUp) },
  { weight: 6, arbitrary: drawn.rules.map((given) => patch(given)) },
  {
    weight: 4,
    arbitrary: fc.oneof(
      fc.constantFrom(1, 2, 3).map((needed) => {
        return patch({ replicas_to_aggregate: needed, total_num_replicas: null }, 'sync');
      }),
      fc.nat(3).map((max_lead) => patch({ max_lead }, 'ssp')),
      fc.constantFrom(null, 0, 2).map((max_staleness) => patch({ max_staleness }, 'async')),
    ),
  },
  { weight: 2, arbitrary: fc.constantFrom(-2, -1, 1, 3).map(setIterations) },
  { weight: 4, arbitrary: assignments },
  { weight: 4, arbitrary: worker.map(release) },
  { weight: 3, arbitrary: fc.constantFrom(1, 30).map(timeOut) },
  { weight: 1, arbitrary: fc.constant(restart) },
  { weight: 2, arbitrary: fc.constant(crash) },
  { weight: 2, arbitrary: fc.constant(compareWorkers) },
];

/** Of a session whose clients speak safetensors, or JSON. */
export function commands(files: boolean, most: number) {
  return fc.commands([fc.oneof(...weighted(files))], { maxCommands: most, size: 'max' });
}
