/**
 * Keras' learning-rate schedules as plain data: which classes there are, their arguments with defaults (Keras 2.8
 * `learning_rate_schedule.py`, with the warm-up of 2.13), and what is refused. The numbers stay as they were given. What a
 * schedule gives at a step is left to `schedules.ts`.
 */
import { scheduleBoundariesMax } from '../limits.ts';
import {
  boolean,
  type Config,
  finite,
  nullable,
  number,
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

type Table = ReturnType<typeof membersByClass>;

/** A schedule in Keras 2's serialised form, complete with defaults: it goes through JSON and `parseSchedule` unchanged. */
export type Schedule = {
  [Name in keyof Table]: { readonly class_name: Name; readonly config: Config<Table[Name]> };
}[keyof Table];

/** The config of the schedules of one class. */
export type ScheduleConfig<Name extends Schedule['class_name']> = Config<Table[Name]>;

/**
 * The schedule that Keras' serialised form `value` (of Keras 2 or 3) stands for. A seed that is missing or null comes from
 * `drawSeed`, an integer within ±(2^53 - 1). `pointer` is `value`'s JSON pointer. Throws `invalid_argument` for unknown
 * classes and members, missing or mistyped ones, and values outside their rules.
 */
export function parseSchedule(value: unknown, pointer: string, drawSeed: () => number): Schedule {
  const table = membersByClass(drawSeed);
  const place = { pointer, name: 'learning_rate' };
  const classes = new Map((Object.keys(table) as Schedule['class_name'][]).map((className) => [className, className]));
  const { class_name, config: given } = readSerialized(value, place, classes);
  const configPlace = within(place, 'config', class_name);
  refuseUnknown(given, configPlace, class_name, Object.keys(table[class_name]));
  const config = readMembers(given, configPlace, class_name, table[class_name]);
  // The config has the members of its class, which no type says of a table's rows.
  const schedule = { class_name, config } as Schedule;
  if (schedule.class_name === 'PiecewiseConstantDecay') checkIntervals(schedule.config, configPlace);
  return schedule;
}

/** The arguments of every class, in Keras' order. */
function membersByClass(drawSeed: () => number) {
  return {
    ExponentialDecay: {
      initial_learning_rate: finite,
      decay_steps: steps,
      decay_rate: finite,
      staircase: optional(boolean, false),
      name,
    },
    PiecewiseConstantDecay: { boundaries: numbers, values: numbers, name },
    PolynomialDecay: {
      initial_learning_rate: finite,
      decay_steps: steps,
      end_learning_rate: optional(finite, 0.0001),
      power: optional(finite, 1),
      cycle: optional(boolean, false),
      name,
    },
    InverseTimeDecay: {
      initial_learning_rate: finite,
      decay_steps: steps,
      decay_rate: finite,
      staircase: optional(boolean, false),
      name,
    },
    CosineDecay: {
      initial_learning_rate: finite,
      decay_steps: steps,
      alpha: optional(finite, 0),
      name,
      warmup_target: optional(nullable(finite), null),
      warmup_steps: optional(finite, 0),
    },
    CosineDecayRestarts: {
      initial_learning_rate: finite,
      first_decay_steps: steps,
      t_mul: optional(atLeastOne, 2),
      m_mul: optional(finite, 1),
      alpha: optional(finite, 0),
      name,
    },
    LinearCosineDecay: {
      initial_learning_rate: finite,
      decay_steps: steps,
      num_periods: optional(finite, 0.5),
      alpha: optional(finite, 0),
      beta: optional(finite, 0.001),
      name,
    },
    NoisyLinearCosineDecay: {
      initial_learning_rate: finite,
      decay_steps: steps,
      initial_variance: optional(notNegative, 1),
      variance_decay: optional(finite, 0.55),
      num_periods: optional(finite, 0.5),
      alpha: optional(finite, 0),
      beta: optional(finite, 0.001),
      seed: seedOr(drawSeed),
      name,
    },
  };
}

const name = optional(nullable(string), null);
const steps = number('be a number greater than 0 within the range of float32', (_, rounded) => rounded > 0);
const atLeastOne = number('be a number of at least 1 within the range of float32', (value) => value >= 1);
const notNegative = number('be a number of at least 0 within the range of float32', (value) => value >= 0);

const numbers: Reader<readonly number[]> = (value, place) => {
  if (!Array.isArray(value)) return refuse(value, place, 'be an array of numbers');
  if (value.length > scheduleBoundariesMax + 1) {
    return refuse(value, place, `be an array of at most ${scheduleBoundariesMax + 1} numbers`);
  }
  return value.map((item, index) => finite(item, within(place, String(index), place.name)));
};

function seedOr(drawSeed: () => number): Reader<number> {
  return (value, place) => {
    if (value === undefined || value === null) return drawSeed();
    if (typeof value === 'number' && Number.isSafeInteger(value)) return value + 0;
    return refuse(value, place, 'be null or an integer within ±(2^53 - 1)');
  };
}

/** Boundaries separate the values, so there is one fewer of them, and they rise. */
function checkIntervals({ boundaries, values }: ScheduleConfig<'PiecewiseConstantDecay'>, place: Place): void {
  const boundariesPlace = within(place, 'boundaries', 'PiecewiseConstantDecay');
  if (boundaries.length !== values.length - 1) {
    refuse(boundaries.length, boundariesPlace, `be one fewer than its ${values.length} values`);
  }
  const falling = boundaries.some((boundary, index) => index > 0 && boundary <= (boundaries[index - 1] as number));
  if (falling) refuse(boundaries, boundariesPlace, 'rise strictly');
}
