/** What an Adamax cannot have, for the tests of every way that a configuration comes in. */
import assert from 'node:assert/strict';
import { Problem } from '../../src/errors.ts';
import type { AdamaxConfig } from '../../src/optimizer/adamax-config.ts';

/** Keras'. */
export const defaults: AdamaxConfig = {
  learning_rate: 0.001,
  beta_1: 0.9,
  beta_2: 0.999,
  epsilon: 1e-7,
  decay: 0,
  clipnorm: null,
  clipvalue: null,
  global_clipnorm: null,
  name: 'Adamax',
};

export const exponential = {
  class_name: 'ExponentialDecay',
  config: { initial_learning_rate: 0.1, decay_steps: 10, decay_rate: 0.96, staircase: true, name: 'slow' },
} as const;
export const noisy = { class_name: 'NoisyLinearCosineDecay', config: { initial_learning_rate: 0.1, decay_steps: 10 } };

/** `run` must throw `invalid_argument` with this pointer and message, as the only item of `errors` too. */
export function assertRefused(run: () => unknown, pointer: string, message: RegExp): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof Problem);
    assert.equal(error.code, 'invalid_argument');
    assert.match(error.message, message);
    assert.deepEqual(error.errors, [{ pointer, detail: error.message }]);
    return true;
  });
}

/** What it is, the config, the member at fault by its pointer in the config, the message. */
export const refusedMembers: [string, object, string, RegExp][] = [
  ['a learning rate below 0', { learning_rate: -0.1 }, 'learning_rate', /of at least 0 .*Received: -0.1$/],
  ['a learning rate below 0 that float32 has not', { learning_rate: -1e-50 }, 'learning_rate', /Received: -1e-50$/],
  ['a learning rate beyond float32', { learning_rate: 1e39 }, 'learning_rate', /range of float32. Received: 1e\+39$/],
  ['a learning rate without end', { learning_rate: Number.POSITIVE_INFINITY }, 'learning_rate', /Received: Infinity$/],
  ['a learning rate that is no number', { learning_rate: Number.NaN }, 'learning_rate', /Received: NaN$/],
  ['a boolean learning rate', { learning_rate: true }, 'learning_rate', /Received: true$/],
  ['a learning rate in quotes', { learning_rate: '0.1' }, 'learning_rate', /Received: "0.1"$/],
  ['no learning rate', { learning_rate: null }, 'learning_rate', /a schedule or a number .*Received: null$/],
  ['a list of learning rates', { learning_rate: [0.1] }, 'learning_rate', /Received: \[0.1\]$/],
  ['an `lr` below 0', { lr: -0.1 }, 'learning_rate', /Received: -0.1$/],
  ['`lr` beside learning_rate', { lr: 0.1, learning_rate: 0.1 }, 'lr', /must be left out .*Received: 0.1$/],
  ['a decay below 0', { decay: -0.1 }, 'decay', /Received: -0.1$/],
  ['a decay beyond float32', { decay: 1e39 }, 'decay', /Received: 1e\+39$/],
  ['no decay', { decay: null }, 'decay', /Received: null$/],
  ['a clipnorm below 0', { clipnorm: -1 }, 'clipnorm', /Received: -1$/],
  ['a clipnorm without end', { clipnorm: Number.POSITIVE_INFINITY }, 'clipnorm', /Received: Infinity$/],
  ['a clipvalue below 0', { clipvalue: -1 }, 'clipvalue', /Received: -1$/],
  ['a clipvalue beyond float32', { clipvalue: 1e39 }, 'clipvalue', /Received: 1e\+39$/],
  ['a global_clipnorm below 0', { global_clipnorm: -1 }, 'global_clipnorm', /Received: -1$/],
  ['a boolean global_clipnorm', { global_clipnorm: false }, 'global_clipnorm', /Received: false$/],
  ['both norms', { clipnorm: 1, global_clipnorm: 0 }, 'global_clipnorm', /null where clipnorm is given. Received: 0$/],
  ['a beta_1 of 1', { beta_1: 1 }, 'beta_1', /beta_1 .*\[0, 1\) once rounded to float32. Received: 1$/],
  ['a beta_1 that rounds to 1', { beta_1: 0.99999999 }, 'beta_1', /Received: 0.99999999$/],
  ['a beta_1 below 0', { beta_1: -0.1 }, 'beta_1', /Received: -0.1$/],
  ['a beta_2 of 1', { beta_2: 1 }, 'beta_2', /beta_2 .*Received: 1$/],
  ['a beta_2 that rounds to 1', { beta_2: 0.99999999 }, 'beta_2', /Received: 0.99999999$/],
  ['a beta_2 below 0', { beta_2: -1e-3 }, 'beta_2', /Received: -0.001$/],
  ['a beta in quotes', { beta_2: '0.9' }, 'beta_2', /Received: "0.9"$/],
  ['an epsilon below 0', { epsilon: -1e-7 }, 'epsilon', /Received: -1e-7$/],
  ['an epsilon beyond float32', { epsilon: 1e39 }, 'epsilon', /Received: 1e\+39$/],
  ['a boolean epsilon', { epsilon: false }, 'epsilon', /Received: false$/],
  ['a name that is no string', { name: 7 }, 'name', /must be a string. Received: 7$/],
  ['a member of another optimizer', { amsgrad: false }, 'amsgrad', /one of learning_rate, .*Received: "amsgrad"$/],
  ['a misspelt member', { 'beta/1': 0.9 }, 'beta~11', /Received: "beta\/1"$/],
  ['weight_decay', { weight_decay: 0.004 }, 'weight_decay', /must be null or 0, .*Received: 0.004$/],
  ['use_ema', { use_ema: true }, 'use_ema', /must be false, .*Received: true$/],
  ['a use_ema of null', { use_ema: null }, 'use_ema', /Received: null$/],
  ['an ema_momentum that is no number', { ema_momentum: 'high' }, 'ema_momentum', /Received: "high"$/],
  [
    'ema_overwrite_frequency',
    { ema_overwrite_frequency: 100 },
    'ema_overwrite_frequency',
    /must be null, .*Received: 100$/,
  ],
  ['gradient_accumulation_steps', { gradient_accumulation_steps: 2 }, 'gradient_accumulation_steps', /Received: 2$/],
  ['loss_scale_factor', { loss_scale_factor: 128 }, 'loss_scale_factor', /Received: 128$/],
  ['a jit_compile that is no boolean', { jit_compile: 'auto' }, 'jit_compile', /Received: "auto"$/],
  [
    'a schedule out of its rules',
    { learning_rate: { ...exponential, config: { ...exponential.config, decay_steps: 0 } } },
    'learning_rate/config/decay_steps',
    /Received: 0$/,
  ],
  [
    'a schedule of an unknown class',
    { learning_rate: { class_name: 'MyDecay', config: {} } },
    'learning_rate/class_name',
    /Received: "MyDecay"$/,
  ],
];
