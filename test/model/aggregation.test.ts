/**
 * Sessions that several workers share, held against a model of them: whatever workers and operators do, in whatever order, the
 * server has the model's bits, tells everybody what the model says, applies nothing twice, and leaves nobody waiting. And
 * what a step of several gradients comes to does not depend on who came first.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { newAggregation } from '../../src/session/aggregation.ts';
import { create, patch, succeeded } from '../support/calls.ts';
import { commands, type Training } from './commands.ts';
import { type DrawnSession, gradients, type Kind, sessions, shapesOf } from './drawn.ts';
import { type Gradients, reducePlainly } from './plain-reduction.ts';
import { PlainVariables } from './plain-variables.ts';
import { ModelServer, ServedSession } from './served-session.ts';
import { assertSameState, expectAll, settle } from './settle.ts';
import { SharedSession } from './shared-session.ts';

/** For a search of some minutes, take more of all. After so many milliseconds no more runs are begun: a slow machine sees fewer. */
const trainings = { runs: 60, commands: 40, milliseconds: 15_000 };
const crowds = { runs: 3 };

const initial = {
  kernel: [0.5, -1, 0.1],
  exact: [1 / 3, 2],
  rows: Array.from({ length: 10 }, (_, k) => (k - 4) / 7),
};

let server = await ModelServer.start();
let sessionCount = 0;

after(() => server.close());

async function begin({ rowsDtype, config, everySteps, given }: DrawnSession) {
  const shapes = shapesOf(rowsDtype);
  const name = `s${sessionCount++}`;
  const variables = Object.entries(shapes).map(([variable, { dtype, shape }]) => {
    return [variable, { dtype, shape, values: initial[variable as keyof typeof initial] }];
  });
  await create(server.api, name, Object.fromEntries(variables), {
    optimizer: { class_name: 'Adamax', config },
    checkpointing: { every_steps: everySteps, every_seconds: null, keep: 2 },
    aggregation: given,
  });
  const model = new SharedSession(new PlainVariables(shapes, initial), config, newAggregation(given));
  return { model, real: new ServedSession(server, name, shapes) };
}

/** How those who still wait are let go. */
const ends = {
  async completion(model: SharedSession, real: ServedSession) {
    await patch(real.api, real.name, { aggregation: { mode: 'async' } });
    model.patch({ mode: 'async' });
    await settle(model, real, await real.answers());
  },
  async deletion(model: SharedSession, real: ServedSession) {
    succeeded(await real.api.call('DELETE', real.path), 204);
    expectAll(model, await real.answers(), 'session_not_found');
  },
  async hangingUp(model: SharedSession, real: ServedSession) {
    for (const push of [...model.pending]) {
      model.pending.delete(push);
      await real.hangUp(push);
    }
    await settle(model, real);
  },
};

type End = keyof typeof ends;
type Script = Iterable<fc.AsyncCommand<Training, ServedSession>>;

async function runTraining(drawn: DrawnSession, script: Script, end: End, until: number) {
  if (performance.now() > until) return;
  const { model, real } = await begin(drawn);
  try {
    await fc.asyncModelRun(() => ({ model: { model, keyed: [] }, real }), script);
    assert.deepEqual(await real.workers(), model.workers);
    await ends[end](model, real);
    if (end !== 'deletion') await real.api.call('DELETE', real.path);
  } catch (error) {
    real.drop();
    await server.close();
    server = await ModelServer.start();
    throw error;
  }
}

test('whatever happens to a session, it is what the model says, and nobody waits for ever', async () => {
  const until = performance.now() + trainings.milliseconds;
  const script = fc.boolean().chain((files) => commands(files, trainings.commands));
  const end = fc.constantFrom(...(Object.keys(ends) as End[]));
  const run = (drawn: DrawnSession, drawnScript: Script, how: End) => runTraining(drawn, drawnScript, how, until);
  await fc.assert(fc.asyncProperty(sessions, script, end, run), { numRuns: trainings.runs });
});

describe('workers that push at once come to the same bits, whoever is first, where their gradients are', () => {
  const steps = 8;
  const names = ['w-2', 'w-10', 'W', 'a', 'Z'];

  for (const kind of ['dense', 'sparse', 'any'] satisfies Kind[]) {
    test(kind, async () => {
      const perWorker = fc.array(gradients(kind), { minLength: steps, maxLength: steps });
      const all = fc.tuple(...names.map(() => perWorker));
      const reduction = fc.constantFrom('sum' as const, 'mean' as const);
      await fc.assert(fc.asyncProperty(sessions, all, reduction, fc.infiniteStream(fc.nat(9)), runCrowd), {
        numRuns: crowds.runs,
        endOnFailure: true,
      });
    });
  }

  async function runCrowd(
    drawn: DrawnSession,
    all: Gradients[][],
    reduction: 'sum' | 'mean',
    delays: Iterator<number>,
  ): Promise<void> {
    const given = { mode: 'sync' as const, replicas_to_aggregate: names.length, reduction };
    const { model, real } = await begin({ ...drawn, given });
    const work = async (worker: string, own: Gradients[]) => {
      for (const [base, each] of own.entries()) {
        for (let delay = delays.next().value as number; delay > 0; delay--) await setImmediate();
        const push = { worker, base, gradients: each, key: undefined, ifMatch: undefined };
        const client = real.send(push, { isFile: base % 2 === 0, isMinimal: false });
        await client.over;
        assert.equal(client.answered?.json.iterations, base + 1, JSON.stringify(client.answered?.json));
      }
    };
    await Promise.all(names.map((worker, k) => work(worker, all[k] as Gradients[])));
    const { variables, config } = model;
    const inNameOrder = [...names.keys()].sort((a, b) => ((names[a] as string) < (names[b] as string) ? -1 : 1));
    for (let base = 0; base < steps; base++) {
      const together = inNameOrder.map((k) => (all[k] as Gradients[])[base] as Gradients);
      const divisor = reduction === 'mean' ? names.length : 1;
      variables.step(reducePlainly(together, variables.shapes, divisor), config, base, 1);
      model.iterations++;
      model.revision++;
    }
    assertSameState(model, real);
    succeeded(await real.api.call('DELETE', real.path), 204);
  }
});
