/** JSON texts with something wrong at one place: a member too many or too few, another type, a number that is none. */
import fc from 'fast-check';

type Place = readonly (string | number)[];

/** What stands in place of a value, as text: much of it no JSON.stringify would write. */
const texts = fc.oneof(
  fc.constantFrom(
    'null',
    'true',
    '""',
    '"1"',
    '[]',
    '{}',
    '[[]]',
    '[null]',
    '{"a":1}',
    '["1"]',
    '"\\ud800"',
    '"\\u0000"',
  ),
  fc.constantFrom('-1', '1.5', '1e400', '-1e400', '1e308', '-0', '9007199254740993', '1e20', '0.1e-400', '4294967296'),
  fc.constantFrom('NaN', 'Infinity', '01', '1.', '+1', "'a'", 'undefined', '', '/**/1', '1,', '"\t"', '"\\x"'),
  fc.integer({ min: 1, max: 20_000 }).map((depth) => '['.repeat(depth) + ']'.repeat(depth)),
  fc.integer({ min: 1, max: 5_000 }).map((depth) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`),
  fc.jsonValue().map((value) => JSON.stringify(value)),
);

const memberNames = fc.constantFrom(
  'other',
  '',
  '__proto__',
  'constructor',
  'toString',
  'values',
  'dtype',
  'naïve',
  '\u{1f600}',
);

type Edit =
  | { readonly kind: 'replace'; readonly text: string }
  | { readonly kind: 'delete' }
  | { readonly kind: 'add' | 'repeat'; readonly name: string; readonly text: string };

const edits: fc.Arbitrary<Edit> = fc.oneof(
  { arbitrary: texts.map((text) => ({ kind: 'replace' as const, text })), weight: 3 },
  { arbitrary: fc.constant({ kind: 'delete' as const }), weight: 1 },
  { arbitrary: fc.record({ kind: fc.constantFrom('add', 'repeat'), name: memberNames, text: texts }), weight: 1 },
);

/** The text of a value in which one place, the nth of those that there are, is not as it was. */
export const edited: fc.Arbitrary<(value: unknown) => string> = fc
  .tuple(fc.nat({ max: 1_000 }), edits)
  .map(([nth, edit]) => (value) => {
    const places = [...placesOf(value)];
    return write(value, places[nth % places.length] as Place, edit);
  });

function* placesOf(value: unknown, at: Place = []): Generator<Place> {
  yield at;
  if (typeof value !== 'object' || value === null) return;
  // Not into each of many numbers, among which all others would not be met.
  for (const [key, member] of Object.entries(value).slice(0, 6)) yield* placesOf(member, [...at, key]);
}

function write(value: unknown, [key, ...rest]: Place, edit: Edit): string {
  if (key === undefined) return atPlace(value, edit);
  const isDeleted = rest.length === 0 && edit.kind === 'delete';
  const parts = Object.entries(value as object).flatMap(([name, member]) => {
    if (name !== key) return [entry(value, name, JSON.stringify(member))];
    return isDeleted ? [] : [entry(value, name, write(member, rest, edit))];
  });
  return Array.isArray(value) ? `[${parts}]` : `{${parts}}`;
}

function entry(holder: unknown, name: string, text: string): string {
  return Array.isArray(holder) ? text : `${JSON.stringify(name)}:${text}`;
}

function atPlace(value: unknown, edit: Edit): string {
  if (edit.kind === 'replace') return edit.text;
  if (edit.kind === 'delete') return '';
  const text = JSON.stringify(value);
  if (Array.isArray(value)) return text.replace(/\]$/, `${value.length > 0 ? ',' : ''}${edit.text}]`);
  if (typeof value !== 'object' || value === null) return edit.text;
  const [first = edit.name] = Object.keys(value);
  const name = edit.kind === 'repeat' ? first : edit.name;
  return text.replace(/\}$/, `${text === '{}' ? '' : ','}${JSON.stringify(name)}:${edit.text}}`);
}
