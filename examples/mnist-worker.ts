// One worker of the digit classifier, a process of its own: node --import tsx mnist-worker.ts URL SESSION WORKER WORKERS
// It knows the server by URL and session name only. It computes gradients on its own share of the digits, pushes them,
// and goes on with the variables that the reply brings, until the session has made all its steps.

import * as tf from '@tensorflow/tfjs-core';
import { AdamaxClient } from './client.ts';
import { BATCH_SIZE, batchOf, buildModel, loadDigits, STEPS, setWeights } from './digits.ts';
import type { Floats, Tensors } from './safetensors.ts';
import { report, workerArguments } from './workers.ts';

const { url, session, worker, workers } = workerArguments();
const client = new AdamaxClient(url, session);
const model = await buildModel();
const { training } = loadDigits();
const share = [...training.labels.keys()].filter((i) => i % workers === worker);

let variables = await client.pull();
while (variables.iterations < STEPS) {
  setWeights(model, variables.tensors);
  const { loss, gradients } = await computeGradients();
  const base = variables.iterations;
  variables = await client.pushGradients(gradients, { worker: `w${worker}`, base });
  report({ iterations: variables.iterations, loss, staleness: variables.iterations - 1 - base });
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
