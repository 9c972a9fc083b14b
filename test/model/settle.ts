/** Holds the server against the model, when both have done all that there is to do. */
import assert from 'node:assert/strict';
import { rounding } from '../support/reference-adamax.ts';
import type { Shapes } from './plain-reduction.ts';
import type { Values } from './plain-variables.ts';
import type { Answered, PushClient } from './push-client.ts';
import type { ServedSession } from './served-session.ts';
import type { Applied, Outcome, Push, SharedSession } from './shared-session.ts';

type Answers = ReadonlyMap<Push, PushClient>;

export async function settle(model: SharedSession, real: ServedSession, answers?: Answers): Promise<void> {
  compare(model, real, answers ?? (await real.quiet()));
}

/** All are told to go, and nothing has changed. */
export function expectAll(model: SharedSession, answers: Answers, code: string): void {
  assert.deepEqual(
    [...answers.values()].map(({ answered }) => answered?.json.code),
    [...model.pending].map(() => code),
  );
}

function compare(model: SharedSession, real: ServedSession, answers: Answers): void {
  const outcomes = model.settle(inOrder(answers));
  for (const push of new Set([...answers.keys(), ...outcomes.keys()])) {
    const answered = answers.get(push)?.answered;
    const outcome = outcomes.get(push);
    const told = [answered && codeOf(answered), outcome?.code];
    const what = `${push.worker}, base ${push.base}, key ${push.key}`;
    assert.equal(told[0] ?? 'waits', told[1] ?? 'waits', `${what}: ${JSON.stringify(answered?.json)}`);
    if (answered?.status === 200) assertSameReply(answered, outcome as Applied, model.variables.shapes);
  }
  assertSameState(model, real);
}

export function assertSameState(model: SharedSession, real: ServedSession): void {
  const { revision, iterations, variables } = model;
  assert.deepEqual(real.state, { revision, iterations, bits: variables.bits });
}

/** Those that were applied, in the order of their steps. */
function inOrder(answers: Answers): Push[] {
  const applied = [...answers].filter(([, { answered }]) => answered?.status === 200 && !answered.isReplayed);
  const at = (client: PushClient): number => client.answered?.json.iterations;
  return applied.sort(([, a], [, b]) => at(a) - at(b)).map(([push]) => push);
}

function codeOf({ status, isReplayed, json }: Answered): Outcome['code'] {
  if (status !== 200) return json.code;
  return isReplayed ? 'replayed' : 'applied';
}

function assertSameReply({ json }: Answered, { iterations, rate, variables }: Applied, shapes: Shapes): void {
  assert.deepEqual([json.iterations, Math.fround(json.learning_rate)], [iterations, rate]);
  if (json.variables === undefined || variables === undefined) return;
  const replied = Object.entries(json.variables as Record<string, Values>).map(([name, { values, indices }]) => {
    const given = values.map(rounding((shapes[name] as Shapes[string]).dtype));
    return [name, indices === undefined ? { values: given } : { indices, values: given }];
  });
  assert.deepEqual(plain(Object.fromEntries(replied)), plain(variables));
}

/** JSON has one zero. */
function plain(variables: Readonly<Record<string, Values>>): object {
  return JSON.parse(JSON.stringify(variables));
}
