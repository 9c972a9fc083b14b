/**
 * TensorFlow's own numbers (fixtures/adamax-vectors.json), run through a session: bit for bit where a float32 implementation
 * in TensorFlow's order can be (`exact`), within the case's tolerance where not. The one `quirk` among them, duplicate rows
 * summed in float32 from first to last, is followed.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Slices } from '../../src/session/gradient.ts';
import { applyStep, dense, patch, sessionOf, sparse, valuesOf } from '../support/sessions.ts';

type Nested = number | readonly Nested[];
type ByVariable = Record<string, Nested>;
type Grad = { dense: Nested } | { indices: number[]; values: Nested } | null;

interface Expected {
  iterations: number;
  lr_used: number;
  lr_next: number;
  params: ByVariable;
  m: ByVariable;
  v: ByVariable;
}

interface VectorCase {
  name: string;
  exact: boolean;
  rtol: number;
  atol: number;
  config: object;
  iterations: number;
  variables: { name: string; shape: number[]; value: Nested }[];
  steps: { set_learning_rate?: number; set_iterations?: number; grads: Record<string, Grad> }[];
  reference?: { params: ByVariable[]; rtol?: number; atol?: number };
  expected: Expected[];
}

interface ScheduleCase {
  name: string;
  schedule: object;
  steps: number[];
  expected: number[];
}

const file = join(import.meta.dirname, '../fixtures/adamax-vectors.json');
const vectors = JSON.parse(readFileSync(file, 'utf8')) as { cases: VectorCase[]; schedule_cases: ScheduleCase[] };

function flat(value: Nested): number[] {
  return typeof value === 'number' ? [value] : value.flatMap(flat);
}

/** The gradients of one step; a variable without one is not named. */
function gradientsOf({ variables }: VectorCase, grads: Record<string, Grad>): Record<string, Slices> {
  const slices: Record<string, Slices> = {};
  for (const [name, grad] of Object.entries(grads)) {
    const { shape } = variables.find((each) => each.name === name) as { shape: number[] };
    if (grad === null) continue;
    if ('dense' in grad) slices[name] = dense(flat(grad.dense), shape);
    else slices[name] = sparse(grad.indices, flat(grad.values), [grad.indices.length, ...shape.slice(1)]);
  }
  return slices;
}

function compare(
  actual: readonly number[],
  expected: readonly number[],
  rtol: number,
  atol: number,
  what: string,
): void {
  assert.equal(actual.length, expected.length, what);
  actual.forEach((x, k) => {
    const e = expected[k] as number;
    assert.ok(Math.abs(x - e) <= atol + rtol * Math.abs(e), `${what}[${k}] must be ${e}. Received: ${x}`);
  });
}

function compareStep(
  given: VectorCase,
  step: number,
  part: string,
  actual: Record<string, number[]>,
  expected: ByVariable,
): void {
  // The fixture has m and v only of variables that have had a gradient; those of the others are zeros.
  for (const [name, values] of Object.entries(actual)) {
    const wanted = name in expected ? flat(expected[name] as Nested) : values.map(() => 0);
    const what = `step ${step + 1}, ${part} of ${name}`;
    if (given.exact) assert.deepEqual(values, wanted.map(Math.fround), what);
    else compare(values, wanted, given.rtol, given.atol, what);
  }
}

async function run(given: VectorCase): Promise<void> {
  const { config, iterations, variables, steps, expected } = given;
  const session = sessionOf(
    Object.fromEntries(variables.map(({ name, shape, value }) => [name, { shape, values: flat(value) }])),
    { config, iterations },
  );
  for (const [step, { set_learning_rate, set_iterations, grads }] of steps.entries()) {
    if (set_learning_rate !== undefined) {
      patch(session, { optimizer: { config: { learning_rate: set_learning_rate } } });
    }
    if (set_iterations !== undefined) patch(session, { iterations: set_iterations });
    const { head } = await applyStep(session, gradientsOf(given, grads));
    const wanted = expected[step] as Expected;
    assert.equal(head.iterations, wanted.iterations);
    assert.equal(head.learningRate, Math.fround(wanted.lr_used));
    assert.equal(session.head.learningRate, Math.fround(wanted.lr_next));
    const params = await valuesOf(session, 'w');
    compareStep(given, step, 'w', params, wanted.params);
    compareStep(given, step, 'm', await valuesOf(session, 'm'), wanted.m);
    compareStep(given, step, 'v', await valuesOf(session, 'v'), wanted.v);
    for (const [name, values] of Object.entries(given.reference?.params[step] ?? {})) {
      const { rtol = 0, atol = 0 } = given.reference ?? {};
      compare(params[name] as number[], flat(values), rtol, atol, `step ${step + 1}, ${name} by Keras’ own test`);
    }
  }
}

describe('a session gives TensorFlow’s numbers', () => {
  test('for every case that there is', () => {
    assert.ok(vectors.cases.length >= 30 && vectors.schedule_cases.length > 0);
    assert.ok(vectors.cases.every(({ steps, expected }) => steps.length > 0 && steps.length === expected.length));
  });

  for (const given of vectors.cases) test(`in ${given.name}`, () => run(given));
});

describe('a session’s learning rate follows a schedule as TensorFlow has it', () => {
  for (const { name, schedule, steps, expected } of vectors.schedule_cases) {
    test(`in ${name}`, () => {
      const session = sessionOf({}, { config: { learning_rate: schedule } });
      const rates = steps.map((iterations) => patch(session, { iterations }).learningRate);
      assert.deepEqual(rates, expected.map(Math.fround));
    });
  }
});
