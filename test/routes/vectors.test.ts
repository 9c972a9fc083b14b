/**
 * TensorFlow's own numbers (fixtures/adamax-vectors.json) over HTTP, once in JSON and once in safetensors: variables, both
 * slots and learning rates after every step, exact cases bit for bit.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { encodeFile, f32, i64, type Json, numbers, startApi } from '../support/api.ts';
import { create, fromJson, getDocument, patch, push, pushFile, read, succeeded } from '../support/calls.ts';

const fixture: Json = JSON.parse(readFileSync(new URL('../fixtures/adamax-vectors.json', import.meta.url), 'utf8'));
const api = await startApi({ after });

/** One body format's way to create a session and to push; a push gives the reply's variables and learning rate. */
interface Format {
  readonly create: (name: string, vector: Json) => Promise<void>;
  readonly push: (name: string, grads: Json, shapes: Map<string, number[]>) => Promise<Pushed>;
}

interface Pushed {
  readonly learningRate: number;
  readonly variables: Map<string, number[]>;
}

const json: Format = {
  async create(name, { variables, config, iterations }) {
    const values = variables.map(({ name: variable, shape, value }: Json) => [variable, { shape, values: value }]);
    await create(api, name, Object.fromEntries(values), { optimizer: { class_name: 'Adamax', config } });
    if (iterations > 0) await patch(api, name, { iterations });
  },
  async push(name, grads) {
    const gradients = Object.entries<Json>(grads).map(([variable, { dense, indices, values }]) => {
      return [variable, indices === undefined ? { values: dense } : { indices, values }];
    });
    const reply = await push(api, name, Object.fromEntries(gradients));
    const variables = Object.entries<Json>(reply.variables).map(
      ([variable, tensor]) => [variable, fromJson(tensor).values] as const,
    );
    return { learningRate: reply.learning_rate, variables: new Map(variables) };
  },
};

const safetensors: Format = {
  async create(name, { variables, config, iterations }) {
    const tensors = variables.map(({ name: variable, shape, value }: Json) => [variable, f32(flat(value), shape)]);
    const options = { optimizer: JSON.stringify({ class_name: 'Adamax', config }), iterations: String(iterations) };
    const bytes = encodeFile(Object.fromEntries(tensors), options);
    succeeded(await api.call('PUT', `/v1/sessions/${name}`, { bytes }), 201);
  },
  async push(name, grads, shapes) {
    const tensors = Object.entries<Json>(grads).flatMap(([variable, { dense, indices, values }]) => {
      const shape = shapes.get(variable) as number[];
      if (indices === undefined) return [[variable, f32(flat(dense), shape)]];
      const rows = f32(flat(values), [indices.length, ...shape.slice(1)]);
      return [
        [`${variable}:indices`, i64(indices)],
        [`${variable}:values`, rows],
      ];
    });
    const reply = await pushFile(api, name, Object.fromEntries(tensors));
    const variables = [...reply.tensors].filter(([tensor]) => !tensor.endsWith(':indices'));
    return {
      learningRate: Number(reply.metadata.get('learning_rate')),
      variables: new Map(variables.map(([tensor, values]) => [tensor.replace(/:values$/, ''), numbers(values)])),
    };
  },
};

for (const [format, calls] of Object.entries({ json, safetensors })) {
  describe(`every step of TensorFlow's cases comes out as there, in ${format}`, () => {
    for (const vector of fixture.cases) {
      test(vector.name, async () => {
        const name = `${format}-${vector.name}`;
        await calls.create(name, vector);
        for (const [k, step] of vector.steps.entries()) await runStep(calls, name, vector, step, vector.expected[k]);
      });
    }
  });
}

async function runStep(calls: Format, name: string, vector: Json, step: Json, expected: Json): Promise<void> {
  if (step.set_learning_rate !== undefined) {
    await patch(api, name, { optimizer: { config: { learning_rate: step.set_learning_rate } } });
  }
  if (step.set_iterations !== undefined) await patch(api, name, { iterations: step.set_iterations });
  const grads = Object.fromEntries(Object.entries<Json>(step.grads).filter(([, gradient]) => gradient !== null));
  const shapes = new Map<string, number[]>(vector.variables.map((each: Json) => [each.name, each.shape]));
  const reply = await calls.push(name, grads, shapes);
  const [document, m, v] = await Promise.all([
    getDocument(api, name),
    read(api, name, 'slots/m'),
    read(api, name, 'slots/v'),
  ]);
  const same = (actual: number[], wanted: Json, what: string): void => compare(actual, flat(wanted), vector, what);

  assert.equal(document.iterations, expected.iterations);
  same([reply.learningRate], expected.lr_used, 'lr_used');
  same([document.learning_rate], expected.lr_next, 'lr_next');
  assert.deepEqual([...reply.variables.keys()].sort(), Object.keys(grads).sort());
  for (const [variable, values] of reply.variables) {
    const whole = flat(expected.params[variable]);
    const { indices } = grads[variable];
    same(values, indices === undefined ? whole : rowsOf(whole, indices, shapes.get(variable) as number[]), variable);
  }
  for (const variable of shapes.keys()) {
    // A variable that has had no gradient yet has no slots there; here they are zeros.
    const zeros = new Array(numbersOf(m, variable).length).fill(0);
    same(numbersOf(m, variable), expected.m[variable] ?? zeros, `m of ${variable}`);
    same(numbersOf(v, variable), expected.v[variable] ?? zeros, `v of ${variable}`);
  }
  if (step === vector.steps.at(-1)) {
    const w = await read(api, name);
    for (const variable of shapes.keys()) same(numbersOf(w, variable), expected.params[variable], variable);
  }
}

describe("a session's learning rate follows every schedule of Keras' own tests", () => {
  for (const { name, schedule, steps, expected, rtol, atol } of fixture.schedule_cases) {
    test(name, async () => {
      await create(api, name, {}, { optimizer: { class_name: 'Adamax', config: { learning_rate: schedule } } });
      for (const [k, iterations] of steps.entries()) {
        // A schedule alone can be asked for step -999; a session's counter never stands there.
        if (iterations < 0) continue;
        const { learning_rate } = await patch(api, name, { iterations });
        const wanted = expected[k];
        assert.ok(
          Math.abs(learning_rate - wanted) <= atol + rtol * Math.abs(wanted),
          `${learning_rate}, not ${wanted}`,
        );
      }
    });
  }
});

/** The rows that a sparse reply has: those named, once each, ascending. */
function rowsOf(whole: number[], indices: number[], [, ...row]: number[]): number[] {
  const width = row.reduce((product, size) => product * size, 1);
  const rows = [...new Set(indices)].sort((a, b) => a - b);
  return rows.flatMap((index) => whole.slice(index * width, (index + 1) * width));
}

function compare(actual: number[], wanted: number[], vector: Json, what: string): void {
  if (vector.exact) {
    // Object.is underneath: -0 and 0 are told apart.
    assert.deepStrictEqual(actual, wanted.map(Math.fround), what);
    return;
  }
  assert.equal(actual.length, wanted.length, what);
  for (const [k, value] of actual.entries()) {
    const want = wanted[k] as number;
    const tolerance = vector.atol + vector.rtol * Math.abs(want);
    assert.ok(Math.abs(value - want) <= tolerance, `${what}[${k}]: ${value}, not ${want}`);
  }
}

function numbersOf(tensors: Awaited<ReturnType<typeof read>>, variable: string): number[] {
  const tensor = tensors.get(variable);
  assert.ok(tensor, `there is no ${variable}`);
  return numbers(tensor);
}

function flat(value: Json): number[] {
  return [value].flat(Number.POSITIVE_INFINITY);
}
