// One worker of the digit classifier, a process of its own:
//   node --import tsx mnist-worker.ts URL SESSION WORKER WORKERS [SLOWNESS]
// It knows the server by URL and session name only. It computes gradients on its own share of the digits, pushes them,
// and goes on with the variables that the reply brings, until the session has made all its steps. How the session
// aggregates what workers push is the server's affair. With a slowness of 10 a gradient takes it ten times as long.

import { setTimeout as sleep } from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs-core';
import { AdamaxClient, Problem, type Variables } from './client.ts';
import { BATCH_SIZE, batchOf, buildModel, loadDigits, STEPS, setWeights } from './digits.ts';
import type { Floats, Tensors } from './safetensors.ts';
import { report, type Training, trainings, workerArguments } from './workers.ts';

const { url, worker, workers, slowness } = workerArguments();
const model = await buildModel();
const { training } = loadDigits();
const share = [...training.labels.keys()].filter((i) => i % workers === worker);

await computeGradients(); // the first takes far longer than others
for await (const { session, steps } of trainings(STEPS)) await train({ session, steps });

async function train({ session, steps }: Training): Promise<void> {
  const client = new AdamaxClient(url, session);
  let variables = await client.pull();
  while (variables.iterations < steps) {
    setWeights(model, variables.tensors);
    const startedAt = performance.now();
    const { loss, gradients } = await computeGradients();
    if (slowness > 1) await sleep((slowness - 1) * (performance.now() - startedAt));
    const base = variables.iterations;
    const updated = await push(client, gradients, base, steps);
    if (updated !== undefined)
      report({ iterations: updated.iterations, loss, staleness: updated.iterations - 1 - base });
    variables = updated ?? (await client.pull());
  }
}

/** The variables after the gradients' step; `undefined` if they came too late for one. */
async function push(
  client: AdamaxClient,
  gradients: Tensors,
  base: number,
  steps: number,
): Promise<Variables | undefined> {
  // A worker pushes once from each base, so this names the gradients: sent again, they are still applied once.
  const key = `w${worker}-${base}`;
  for (;;) {
    try {
      return await client.pushGradients(gradients, { worker: `w${worker}`, base, key });
    } catch (error) {
      const code = error instanceof Problem ? error.code : undefined;
      if (code === 'gradient_stale') return undefined;
      if (code !== 'aggregation_timeout') throw error;
      // The others did not come. If they are only slow, the same again waits for them; if they have finished, they never will.
      if ((await client.pull()).iterations >= steps) return undefined;
    }
  }
}

/** The loss of a random batch, and its gradient by variable. */
async function computeGradients(): Promise<{ loss: number; gradients: Tensors }> {
  const chosen = Array.from({ length: BATCH_SIZE }, () => share[Math.floor(Math.random() * share.length)] as number);
  const { images, labels } = batchOf(training, chosen);
  const { value, grads } = tf.variableGrads(() =>
    tf.losses.softmaxCrossEntropy(tf.oneHot(labels, 10), model.apply(images) as tf.Tensor),
  );
  const gradients: Tensors = {};
  for (const [name, gradient] of Object.entries(grads)) {
    gradients[name] = { shape: gradient.shape, data: (await gradient.data()) as Floats };
  }
  const [loss] = await value.data();
  tf.dispose([images, labels, value, grads]);
  return { loss: loss as number, gradients };
}
