/**
 * Reading the objects that Keras serialises: a `class_name` and a `config` (Keras 2), in Keras 3 with `module` and
 * `registered_name` beside them. Every member has a reader, which checks one value and returns it; whatever breaks a rule
 * throws `invalid_argument` with the rule, the value and its JSON pointer. Which classes and members there are is left
 * to the callers.
 */
import { Problem } from '../errors.ts';
import { kerasMembersMax, optimizerNameMax } from '../limits.ts';

/** Where a value stands in the body, and what messages call it. */
export interface Place {
  readonly pointer: string;
  readonly name: string;
}

/** Returns the value if it keeps the rule; `undefined` stands for a member that is not there. */
export type Reader<T> = (value: unknown, place: Place) => T;
export type Members = Readonly<Record<string, Reader<unknown>>>;
export type Config<M extends Members> = { readonly [Name in keyof M]: ReturnType<M[Name]> };

export type JsonObject = Readonly<Record<string, unknown>>;

/** The place of `member` in the object at `place`; messages say whose it is if `owner` is given. */
export function within(place: Place, member: string, owner?: string): Place {
  const token = member.replaceAll('~', '~0').replaceAll('/', '~1');
  return { pointer: `${place.pointer}/${token}`, name: owner === undefined ? member : `${member} of ${owner}` };
}

/** `rule` completes "… must …". */
export function refuse(value: unknown, place: Place, rule: string): never {
  const detail = `${place.name} must ${rule}. Received: ${shown(value)}`;
  throw new Problem('invalid_argument', detail, { errors: [{ pointer: place.pointer, detail }] });
}

/** A value in few words. Not JSON.stringify, which turns Infinity into null and can be made to overflow the stack. */
function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value);
  if (Array.isArray(value)) {
    const items = value.slice(0, 20).map((item) => (Array.isArray(item) ? 'an array' : shown(item)));
    return `[${items.join(', ')}${value.length > 20 ? `, … (${value.length} values)` : ''}]`;
  }
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export const object: Reader<JsonObject> = (value, place) => {
  if (!isObject(value)) return refuse(value, place, 'be an object');
  const { length } = Object.keys(value);
  if (length <= kerasMembersMax) return value;
  return refuse(length, { ...place, name: `the members of ${place.name}` }, `be at most ${kerasMembersMax}`);
};

/** A number that float32 can hold, as it was given; `holds` is asked of it and of what it rounds to. */
export function number(rule: string, holds: (value: number, rounded: number) => boolean): Reader<number> {
  return (value, place) => {
    if (typeof value !== 'number') return refuse(value, place, rule);
    const rounded = Math.fround(value);
    if (!Number.isFinite(rounded) || !holds(value, rounded)) return refuse(value, place, rule);
    // -0 becomes 0, as JSON.stringify writes it: what is recorded gives the very values given before.
    return value + 0;
  };
}

export const finite = number('be a number within the range of float32', () => true);

export const boolean: Reader<boolean> = (value, place) =>
  typeof value === 'boolean' ? value : refuse(value, place, 'be true or false');

export const string: Reader<string> = (value, place) => {
  if (typeof value !== 'string') return refuse(value, place, 'be a string');
  if (value.length <= optimizerNameMax) return value;
  return refuse(value, place, `be a string of at most ${optimizerNameMax} characters`);
};

export function nullable<T>(read: Reader<T>): Reader<T | null> {
  return (value, place) => (value === null ? null : read(value, place));
}

/** A member that may be left out. */
export function optional<T>(read: Reader<T>, absent: T): Reader<T> {
  return (value, place) => (value === undefined ? absent : read(value, place));
}

/** Refuses the members of `given`, an object at `place`, that are not among `known`. */
export function refuseUnknown(given: JsonObject, place: Place, owner: string, known: readonly string[]): void {
  const unknown = Object.keys(given).find((member) => !known.includes(member));
  if (unknown === undefined) return;
  const { pointer } = within(place, unknown);
  refuse(unknown, { pointer, name: `a member of ${owner}` }, `be one of ${known.join(', ')}`);
}

/** Reads all `members` of `given`, an object at `place`, those that are missing too. */
export function readMembers<M extends Members>(given: JsonObject, place: Place, owner: string, members: M): Config<M> {
  const entries = Object.entries(members).map(([name, read]) => [name, read(given[name], within(place, name, owner))]);
  return Object.fromEntries(entries) as Config<M>;
}

/**
 * The class and the config, whose members are still to be read, of a serialised object. `classes` has every name that Keras
 * gives to a class, as `class_name` or `registered_name`; somebody's own class has another.
 */
export function readSerialized<C extends string>(
  value: unknown,
  place: Place,
  classes: ReadonlyMap<string, C>,
): { class_name: C; config: JsonObject } {
  const given = object(value, place);
  refuseUnknown(given, place, place.name, Object.keys(outerMembers));
  const outer = readMembers(given, place, place.name, outerMembers);
  const nameOf = (member: 'class_name' | 'registered_name', name: string): C =>
    classes.get(name) ?? refuse(name, within(place, member, place.name), `be one of ${[...classes.keys()].join(', ')}`);
  const class_name = nameOf('class_name', outer.class_name);
  if (outer.registered_name !== null && nameOf('registered_name', outer.registered_name) !== class_name) {
    refuse(outer.registered_name, within(place, 'registered_name', place.name), `be null or "${class_name}"`);
  }
  return { class_name, config: outer.config };
}

const nothing: Reader<null> = (value, place) => (value === null ? null : refuse(value, place, 'be null'));

const outerMembers = {
  class_name: string,
  config: optional(object, {}),
  module: optional(nullable(string), null),
  registered_name: optional(nullable(string), null),
  build_config: optional(nothing, null),
  compile_config: optional(nothing, null),
};
