/**
 * An Adamax optimizer's configuration as plain data: Keras' serialised form, of Keras 2 (with the legacy `decay`) or 3, read,
 * completed, changed and written. The numbers stay as they were given; rounding to float32 and what follows from it is left
 * to `scalars.ts`.
 */
import {
  boolean,
  finite,
  isObject,
  type JsonObject,
  nullable,
  number,
  object,
  optional,
  type Place,
  type Reader,
  readMembers,
  readSerialized,
  refuse,
  refuseUnknown,
  string,
  within,
} from './keras-object.ts';
import { parseSchedule, type Schedule } from './schedule-config.ts';

export interface AdamaxConfig {
  readonly learning_rate: number | Schedule;
  readonly beta_1: number;
  readonly beta_2: number;
  /** null and 0 stand for Keras' default: see `effectiveEpsilon`. */
  readonly epsilon: number | null;
  /** Keras' legacy decay by 1 / (1 + decay * iterations), on top of a schedule too. */
  readonly decay: number;
  readonly clipnorm: number | null;
  readonly clipvalue: number | null;
  readonly global_clipnorm: number | null;
  readonly name: string;
}

/** Keras 2's serialised form; it goes through JSON and `parseOptimizer` unchanged. */
export interface SerializedOptimizer {
  readonly class_name: 'Adamax';
  readonly config: AdamaxConfig;
}

const epsilonDefault = 1e-7;
/** The second is how TensorFlow 2.11 to 2.15 registers its optimizers. */
const classNames = new Map([
  ['Adamax', 'Adamax'],
  ['Custom>Adamax', 'Adamax'],
]);
const optimizerPlace: Place = { pointer: '/optimizer', name: 'optimizer' };
const configPlace = within(optimizerPlace, 'config', 'optimizer');

/**
 * The configuration that the serialised optimizer `value` stands for; what is missing, `value` itself too, takes Keras'
 * default. A schedule's seed that is missing comes from `drawSeed`, an integer within ±(2^53 - 1). Throws
 * `invalid_argument` for what an Adamax cannot have.
 */
export function parseOptimizer(value: unknown, drawSeed: () => number): AdamaxConfig {
  if (value === undefined) return parseConfig({}, drawSeed);
  const given = { class_name: 'Adamax', ...object(value, optimizerPlace) };
  return parseConfig(readSerialized(given, optimizerPlace, classNames).config, drawSeed);
}

export function serializeOptimizer(config: AdamaxConfig): SerializedOptimizer {
  return { class_name: 'Adamax', config };
}

/**
 * The configuration changed by a JSON Merge Patch (RFC 7396): null stands for a member's default, an object changes the
 * members of the schedule in force, unless it names another class. A patch is an input to a deterministic state machine, so
 * no seed is drawn here: a seed that is missing is 0. Throws as `parseOptimizer` does.
 */
export function mergeOptimizerConfig(config: AdamaxConfig, patch: unknown): AdamaxConfig {
  const drawSeed = () => 0;
  if (patch === null) return parseConfig({}, drawSeed);
  const changes = withoutAlias(object(patch, configPlace));
  refuseUnknown(changes, configPlace, 'Adamax', knownMembers);
  const merged = merge({ ...config }, changes);
  const schedule = changes.learning_rate;
  if (!isObject(schedule)) return parseConfig(merged, drawSeed);
  return parseConfig({ ...merged, learning_rate: mergeSchedule(config, schedule) }, drawSeed);
}

/** The epsilon in force, a float64. Keras takes 0 and None for its default. */
export function effectiveEpsilon({ epsilon }: AdamaxConfig): number {
  return epsilon || epsilonDefault;
}

function parseConfig(value: JsonObject, drawSeed: () => number): AdamaxConfig {
  const given = withoutAlias(value);
  refuseUnknown(given, configPlace, 'Adamax', knownMembers);
  readMembers(given, configPlace, 'Adamax', inertMembers);
  const config = readMembers(given, configPlace, 'Adamax', {
    learning_rate: optional(learningRate(drawSeed), 0.001),
    ...plainMembers,
  });
  if (config.clipnorm !== null && config.global_clipnorm !== null) {
    refuse(config.global_clipnorm, within(configPlace, 'global_clipnorm', 'Adamax'), 'be null where clipnorm is given');
  }
  return config;
}

const notNegative = number('be a number of at least 0 within the range of float32', (value) => value >= 0);
const momentum = number('be a number in [0, 1) once rounded to float32', (value, rounded) => value >= 0 && rounded < 1);
const clip = optional(nullable(notNegative), null);

const plainMembers = {
  beta_1: optional(momentum, 0.9),
  beta_2: optional(momentum, 0.999),
  epsilon: optional(nullable(notNegative), epsilonDefault),
  decay: optional(notNegative, 0),
  clipnorm: clip,
  clipvalue: clip,
  global_clipnorm: clip,
  name: optional(string, 'Adamax'),
};

/** Members that Keras writes beside Adamax's own, accepted where they change nothing. */
const inertMembers = {
  weight_decay: inert('null or 0', null, 0),
  use_ema: inert('false', false),
  ema_momentum: optional(finite, 0.99),
  ema_overwrite_frequency: inert('null', null),
  gradient_accumulation_steps: inert('null', null),
  loss_scale_factor: inert('null', null),
  is_legacy_optimizer: optional(boolean, true),
  jit_compile: optional(boolean, false),
};

const knownMembers = ['learning_rate', ...Object.keys(plainMembers), ...Object.keys(inertMembers)];

function inert(rule: string, ...allowed: readonly unknown[]): Reader<void> {
  return (value, place) => {
    if (value === undefined || allowed.includes(value)) return;
    refuse(value, place, `be ${rule}, as anything else is not built`);
  };
}

function learningRate(drawSeed: () => number): Reader<number | Schedule> {
  return (value, place) => (isObject(value) ? parseSchedule(value, place.pointer, drawSeed) : rate(value, place));
}

const rate = number('be a schedule or a number of at least 0 within the range of float32', (value) => value >= 0);

/** Keras' old name `lr` becomes `learning_rate`. */
function withoutAlias(config: JsonObject): JsonObject {
  if (!Object.hasOwn(config, 'lr')) return config;
  const { lr, ...others } = config;
  if (Object.hasOwn(config, 'learning_rate')) {
    refuse(lr, within(configPlace, 'lr', 'Adamax'), 'be left out where learning_rate is given');
  }
  return { ...others, learning_rate: lr };
}

/** One floor of a merge patch: members of `patch` replace those of `target`, null removes one. */
function merge(target: JsonObject, patch: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries({ ...target, ...patch }).filter(([name]) => patch[name] !== null));
}

function mergeSchedule({ learning_rate }: AdamaxConfig, patch: JsonObject): JsonObject {
  const goesOn = isObject(learning_rate) && (patch.class_name ?? learning_rate.class_name) === learning_rate.class_name;
  const current: JsonObject = goesOn ? { ...learning_rate } : {};
  const merged = merge(current, patch);
  if (!isObject(patch.config)) return merged;
  return { ...merged, config: merge(isObject(current.config) ? current.config : {}, patch.config) };
}
