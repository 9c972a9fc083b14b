/**
 * Keras' initializers (keras/initializers/initializers_v2.py of 2.8): their serialised form, checked and completed, and the
 * values that they give. Distributions and fans are Keras'; the numbers come from `random.ts`, not from TensorFlow's
 * generator, and depend on the seed and the element's position alone, so every machine and every block size gives the same.
 * Where the values are kept, and which seed is drawn where none is given, is up to the caller.
 */
import type { VariableDtype } from '../tensor/dtype.ts';
import { elementCount } from '../tensor/tensor.ts';
import {
  type Config,
  optional,
  type Place,
  type Reader,
  readMembers,
  readSerialized,
  refuse,
  refuseUnknown,
  within,
} from './keras-object.ts';
import { fillNormal, fillTruncatedNormal, fillUniform } from './random.ts';

type Table = ReturnType<typeof membersByClass>;
type ClassName = keyof Table;
type OfClass<Name extends ClassName> = {
  [N in Name]: { readonly class_name: N; readonly config: Config<Table[N]> };
}[Name];

/** Plain data in Keras 2's form, complete with defaults and seed: it goes through JSON and `parseInitializer` unchanged. */
export type Initializer = OfClass<ClassName>;

/** Initializers whose values do not depend on the shape. */
type Sampler = OfClass<'Zeros' | 'Ones' | 'Constant' | 'RandomUniform' | 'RandomNormal' | 'TruncatedNormal'>;

/** Normals are within ±8.58: see `normalAt`. */
const normalMax = 8.6;
const truncatedNormalMax = 2;

/**
 * The initializer that `value` stands for: a name, Keras' serialised form (of Keras 2 or 3), or `undefined` for Zeros. A
 * seed that is missing or null comes from `drawSeed`, an integer within ±(2^53 - 1). `pointer` is `value`'s JSON pointer.
 * Throws `invalid_argument` for unknown classes and members, mistyped ones, and those that give values beyond `dtype`.
 */
export function parseInitializer(
  value: unknown,
  pointer: string,
  drawSeed: () => number,
  dtype: VariableDtype,
): Initializer {
  const table = membersByClass(drawSeed, dtype);
  const place = { pointer, name: 'initializer' };
  const { class_name, config: given } = readNamed(value, place, classesByName(Object.keys(table) as ClassName[]));
  const configPlace = within(place, 'config', class_name);
  refuseUnknown(given, configPlace, class_name, Object.keys(table[class_name]));
  const config = readMembers(given, configPlace, class_name, table[class_name]);
  // The config has the members of its class, which no type says of a table's rows.
  const initializer = { class_name, config } as Initializer;
  checkExtremes(initializer, configPlace, dtype);
  return initializer;
}

/** As `readSerialized`, and Keras' `get`: a name alone stands for its class with the defaults. */
function readNamed(value: unknown, place: Place, classes: ReadonlyMap<string, ClassName>) {
  if (value === undefined) return { class_name: 'Zeros', config: {} } as const;
  if (typeof value !== 'string') return readSerialized(value, place, classes);
  const class_name = classes.get(value) ?? refuse(value, place, `be one of ${[...classes.keys()].join(', ')}`);
  return { class_name, config: {} };
}

/** Keras takes `GlorotUniform` as `glorot_uniform` too. */
function classesByName(names: readonly ClassName[]): Map<string, ClassName> {
  const classes = new Map<string, ClassName>(names.map((name) => [name, name]));
  for (const name of names) classes.set(name.replace(/\B[A-Z]/g, '_$&').toLowerCase(), name);
  return classes;
}

/** The arguments of every class, in Keras' order. */
function membersByClass(drawSeed: () => number, dtype: VariableDtype) {
  const finite = numberWithin(dtype, '', () => true);
  const notNegative = numberWithin(dtype, ' of at least 0', (value) => value >= 0);
  const seed = seedOr(drawSeed);
  const normal = { mean: optional(finite, 0), stddev: optional(notNegative, 0.05), seed };
  return {
    Zeros: {},
    Ones: {},
    Constant: { value: optional(finite, 0) },
    RandomUniform: { minval: optional(finite, -0.05), maxval: optional(finite, 0.05), seed },
    RandomNormal: normal,
    TruncatedNormal: normal,
    GlorotUniform: { seed },
    GlorotNormal: { seed },
    HeNormal: { seed },
    HeUniform: { seed },
  };
}

function numberWithin(dtype: VariableDtype, rule: string, holds: (value: number) => boolean): Reader<number> {
  return (value, place) => {
    // -0 becomes 0, as JSON.stringify writes it: what is recorded gives the very values given before.
    if (typeof value === 'number' && isFiniteIn(dtype, value) && holds(value)) return value + 0;
    return refuse(value, place, `be a number${rule} within the range of ${dtype}`);
  };
}

function seedOr(drawSeed: () => number): Reader<number> {
  return (value, place) => {
    if (value === undefined || value === null) return drawSeed();
    if (typeof value === 'number' && Number.isSafeInteger(value)) return value + 0;
    return refuse(value, place, 'be null or an integer within ±(2^53 - 1)');
  };
}

/** Refuses bounds in the wrong order, and members within `dtype` that would give values beyond it. */
function checkExtremes({ class_name, config }: Initializer, place: Place, dtype: VariableDtype): void {
  if (class_name === 'RandomUniform') {
    const { minval, maxval } = config;
    if (minval > maxval) refuse(minval, within(place, 'minval', class_name), `be at most maxval, ${maxval}`);
    // The width is a factor of every value.
    if (!isFiniteIn(dtype, maxval - minval))
      refuse(maxval, within(place, 'maxval', class_name), `exceed minval by a number within the range of ${dtype}`);
  }
  if (class_name === 'RandomNormal' || class_name === 'TruncatedNormal') {
    const { mean, stddev } = config;
    const most = class_name === 'RandomNormal' ? normalMax : truncatedNormalMax;
    if (!isFiniteIn(dtype, Math.abs(mean) + most * stddev))
      refuse(stddev, within(place, 'stddev', class_name), `keep mean ± ${most} stddev within the range of ${dtype}`);
  }
}

function isFiniteIn(dtype: VariableDtype, value: number): boolean {
  return Number.isFinite(dtype === 'F32' ? Math.fround(value) : value);
}

/** Elements that exist outside the variable at any one time. */
const blockElements = 16_384;

export interface InitialBlock {
  /** The row-major position of the first of `values`. */
  readonly first: number;
  /** At most 16,384 elements, overwritten when the next block is asked for. */
  readonly values: Float32Array | Float64Array;
}

/** The initial values of a variable of `shape`, in row-major order, block by block: a variable can be most of the memory. */
export function* initialize(
  initializer: Initializer,
  shape: readonly number[],
  dtype: VariableDtype,
): Generator<InitialBlock, void> {
  const elements = elementCount(shape);
  const sampler = scaleByFans(initializer, shape);
  const length = Math.min(blockElements, elements);
  const block = dtype === 'F32' ? new Float32Array(length) : new Float64Array(length);
  for (let first = 0; first < elements; first += blockElements) {
    const values = block.subarray(0, Math.min(blockElements, elements - first));
    sample(sampler, first, values);
    yield { first, values };
  }
}

function sample({ class_name, config }: Sampler, first: number, values: Float32Array | Float64Array): void {
  if (class_name === 'Zeros') values.fill(0);
  else if (class_name === 'Ones') values.fill(1);
  else if (class_name === 'Constant') values.fill(config.value);
  else if (class_name === 'RandomUniform') fillUniform(config.seed, first, config.minval, config.maxval, values);
  else if (class_name === 'RandomNormal') fillNormal(config.seed, first, config.mean, config.stddev, values);
  else fillTruncatedNormal(config.seed, first, config.mean, config.stddev, values);
}

/**
 * Keras' VarianceScaling: Glorot's and He's initializers are a RandomUniform or a TruncatedNormal about 0 whose variance is
 * 2 / (fan_in + fan_out) or 2 / fan_in. Only a shape without elements has a fan of 0.
 */
function scaleByFans(initializer: Initializer, shape: readonly number[]): Sampler {
  const { class_name, config } = initializer;
  const [fanIn, fanOut] = fans(shape);
  switch (class_name) {
    case 'GlorotUniform':
      return uniformOfVariance(2 / (fanIn + fanOut), config.seed);
    case 'GlorotNormal':
      return truncatedNormalOfVariance(2 / (fanIn + fanOut), config.seed);
    case 'HeUniform':
      return uniformOfVariance(2 / fanIn, config.seed);
    case 'HeNormal':
      return truncatedNormalOfVariance(2 / fanIn, config.seed);
    default:
      return initializer;
  }
}

/** Inputs and outputs of a unit: a kernel's last two axes, times the receptive field that the axes before them span. */
function fans(shape: readonly number[]): [number, number] {
  if (shape.length === 0) return [1, 1];
  const [fanIn, fanOut = fanIn] = shape.slice(-2) as [number, number?];
  const receptiveField = elementCount(shape.slice(0, -2));
  return [fanIn * receptiveField, fanOut * receptiveField];
}

function uniformOfVariance(variance: number, seed: number): Sampler {
  const limit = Math.sqrt(3 * variance);
  return { class_name: 'RandomUniform', config: { minval: -limit, maxval: limit, seed } };
}

/** A standard normal cut at ±2 has the standard deviation 0.8796…, which Keras divides out. */
function truncatedNormalOfVariance(variance: number, seed: number): Sampler {
  const stddev = Math.sqrt(variance) / 0.87962566103423978;
  return { class_name: 'TruncatedNormal', config: { mean: 0, stddev, seed } };
}
