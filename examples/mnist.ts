// Trains a digit classifier on MNIST. This process creates the session, looks on while three workers train it, and then
// pulls the variables and tests them on digits that no worker has seen.

import * as tf from '@tensorflow/tfjs-core';
import type { Sequential } from '@tensorflow/tfjs-layers';
import { AdamaxClient } from './client.ts';
import { batchOf, buildModel, type Digits, loadDigits, STEPS, setWeights } from './digits.ts';
import { Progress } from './progress.ts';
import { runWorkers } from './workers.ts';

const WORKERS = 3;

/** Returns the part of the held-back digits that the trained model gets right. */
export async function trainDigits(url: string): Promise<number> {
  const session = 'mnist';
  const client = new AdamaxClient(url, session);
  const model = await buildModel();
  const { training, heldBack } = loadDigits();
  console.log(`MNIST: ${training.labels.length} digits, ${heldBack.labels.length} held back, ${WORKERS} workers`);

  await client.createSession(definition(model, STEPS));

  setWeights(model, (await client.pull()).tensors);
  console.log(`  accuracy on held-back digits, untrained: ${percent(accuracy(model, heldBack))}`);

  const progress = new Progress(STEPS);
  await runWorkers('mnist-worker.ts', { url, session, workers: WORKERS }, (report) => progress.update(report));
  progress.finish();

  setWeights(model, (await client.pull()).tensors);
  const trained = accuracy(model, heldBack);
  console.log(`  accuracy on held-back digits, trained: ${percent(trained)}`);
  await client.deleteSession();
  return trained;
}

/** A session that trains the model in so many steps; without a seed it begins with other values each time. */
export function definition(model: Sequential, steps: number, seed?: number): object {
  const weights = { class_name: 'GlorotUniform', config: { seed } };
  const biases = { class_name: 'Zeros', config: {} };
  const variables = model.trainableWeights.map(({ name, shape }) => [
    name,
    { shape, initializer: shape.length === 2 ? weights : biases },
  ]);
  const learningRate = { class_name: 'CosineDecay', config: { initial_learning_rate: 0.01, decay_steps: steps } };
  return {
    variables: Object.fromEntries(variables),
    optimizer: { class_name: 'Adamax', config: { learning_rate: learningRate } },
  };
}

/** The part of the digits that the model gets right. */
export function accuracy(model: Sequential, digits: Digits): number {
  return tf.tidy(() => {
    const { images, labels } = batchOf(digits, [...digits.labels.keys()]);
    const guesses = tf.argMax(model.apply(images) as tf.Tensor, 1);
    return tf.mean(tf.cast(tf.equal(guesses, labels), 'float32')).dataSync()[0] as number;
  });
}

export function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`;
}
