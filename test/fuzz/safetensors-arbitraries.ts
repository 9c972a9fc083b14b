/** safetensors bodies: files that fit what they are sent for, and files that are wrong in one way. */
import fc from 'fast-check';
import { hasRows, rowsOf, settings, someVariables, type VariableKnown, variables } from './known.ts';

interface Entry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

interface File {
  readonly entries: readonly Entry[];
  readonly metadata: Readonly<Record<string, string>>;
}

const bytesOf: Readonly<Record<string, number>> = { F64: 8, I64: 8, F32: 4, I32: 4, U32: 4, F16: 2, BF16: 2 };

/** Small numbers for the most part; any bits, infinities and NaN among them, now and then. */
function tensor(name: string, shape: readonly number[], dtypes: readonly string[]): fc.Arbitrary<Entry> {
  const count = shape.reduce((product, size) => product * size, 1);
  return fc.constantFrom(...dtypes).chain((dtype) => {
    const bytes = count * (bytesOf[dtype] as number);
    const small = fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((each) => tamed(each, dtype));
    const any = fc.uint8Array({ minLength: bytes, maxLength: bytes });
    const data = fc.oneof({ arbitrary: small, weight: 9 }, { arbitrary: any, weight: 1 });
    return data.map((each) => ({ name, dtype, shape, bytes: each }));
  });
}

/** Without the exponents' highest bits, so that each number is finite and below 2. */
function tamed(bytes: Uint8Array, dtype: string): Uint8Array {
  const width = bytesOf[dtype] as number;
  return bytes.map((byte, at) => ((at + 1) % width === 0 ? byte & 0xbf : byte));
}

function indices(variable: VariableKnown): fc.Arbitrary<Entry> {
  return fc.tuple(rowsOf(variable), fc.constantFrom('I64', 'I32', 'U32')).map(([rows, dtype]) => {
    const bytes = dtype === 'I64' ? BigInt64Array.from(rows, BigInt) : Int32Array.from(rows);
    return { name: `${variable.name}:indices`, dtype, shape: [rows.length], bytes: new Uint8Array(bytes.buffer) };
  });
}

const floats = ['F32', 'F64', 'F16', 'BF16'];

function slices(variable: VariableKnown): fc.Arbitrary<Entry[]> {
  const { name, shape } = variable;
  const whole = tensor(name, shape, floats).map((each) => [each]);
  if (!hasRows(variable)) return whole;
  const rows = indices(variable).chain((each) =>
    tensor(`${name}:values`, [...each.shape, ...shape.slice(1)], floats).map((values) => [each, values]),
  );
  return fc.oneof(whole, rows);
}

function state({ name, shape, dtype }: VariableKnown): fc.Arbitrary<Entry[]> {
  const own = [dtype];
  const slots = fc.tuple(tensor(`${name}:m`, shape, own), tensor(`${name}:v`, shape, own));
  return fc.tuple(tensor(name, shape, floats), fc.option(slots, { nil: [] })).map(([w, others]) => [w, ...others]);
}

function filesOf(of: (variable: VariableKnown) => fc.Arbitrary<Entry[]>, among = someVariables): fc.Arbitrary<Entry[]> {
  return among.chain((chosen) => fc.tuple(...chosen.map(of))).map((parts) => parts.flat());
}

const foreign = fc.constantFrom<File['metadata']>({}, {}, { format: 'pt' }, { '': '' });
const options = fc.oneof(
  foreign,
  fc.constantFrom(...settings).map((given) => texts(given)),
  fc.constantFrom<File['metadata']>(
    { iterations: '5', optimizer: '{"class_name":"Adamax","config":{"decay":0.5}}' },
    { format: 'adamax-server/1', iterations: '2' },
    { iterations: '-1' },
    { optimizer: '{' },
    { format: 'adamax-server/999' },
    { durability: '"always"' },
  ),
);

function texts(given: object): File['metadata'] {
  return Object.fromEntries(
    Object.entries(given).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]),
  );
}

function files(entries: fc.Arbitrary<Entry[]>, metadata: fc.Arbitrary<File['metadata']>): fc.Arbitrary<File> {
  return fc.record({ entries, metadata });
}

const withRows = fc.subarray(variables.filter(hasRows), { minLength: 1 });
const forSlices = files(filesOf(slices), foreign);

/** By the component that is the same body's schema in JSON; of any other, slices are tried. */
const byComponent: Readonly<Record<string, fc.Arbitrary<File>>> = {
  NewSession: files(filesOf(state), options),
  Lookup: files(
    filesOf((variable) => indices(variable).map((each) => [each]), withRows),
    foreign,
  ),
};

export function validFile(component: string | undefined): fc.Arbitrary<Uint8Array> {
  return (byComponent[component ?? ''] ?? forSlices).map((file) => encode(file));
}

interface Wrong {
  /** What the header says of the nth tensor, changed. */
  readonly entry?: (entry: HeaderEntry) => unknown;
  /** The header's text, changed. */
  readonly text?: (text: string) => string;
  readonly name?: (name: string) => string;
  /** The header's length, changed. */
  readonly length?: (length: number) => bigint;
  readonly data?: (data: Buffer) => Buffer;
}

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

const shifted = ({ data_offsets: [begin, end], ...entry }: HeaderEntry, by: number, byEnd = by) => {
  return { ...entry, data_offsets: [begin + by, end + byEnd] };
};

const wrongs: readonly Wrong[] = [
  { entry: (entry) => ({ ...entry, dtype: 'F8_E4M3' }) },
  { entry: (entry) => ({ ...entry, dtype: 'f32' }) },
  { entry: (entry) => ({ ...entry, dtype: 'constructor' }) },
  { entry: (entry) => ({ ...entry, dtype: entry.dtype === 'I64' ? 'F64' : 'I64' }) },
  { entry: (entry) => ({ ...entry, dtype: null }) },
  { entry: (entry) => ({ ...entry, shape: [...entry.shape, 1] }) },
  { entry: (entry) => ({ ...entry, shape: [] }) },
  { entry: (entry) => ({ ...entry, shape: [2 ** 32, 2 ** 32] }) },
  { entry: (entry) => ({ ...entry, shape: [-1] }) },
  { entry: (entry) => ({ ...entry, shape: Array(33).fill(1) }) },
  { entry: (entry) => ({ ...entry, shape: '3' }) },
  { entry: (entry) => ({ ...entry, other: 1 }) },
  { entry: ({ dtype, shape }) => ({ dtype, shape }) },
  { entry: (entry) => ({ ...entry, data_offsets: [entry.data_offsets[1], entry.data_offsets[0]] }) },
  { entry: (entry) => ({ ...entry, data_offsets: [0, 2 ** 53] }) },
  { entry: (entry) => ({ ...entry, data_offsets: [] }) },
  { entry: (entry) => shifted(entry, 1) },
  { entry: (entry) => shifted(entry, -1) },
  { entry: (entry) => shifted(entry, 0, 4) },
  { entry: () => null },
  { entry: () => [] },
  { name: (name) => `${name}:m` },
  { name: (name) => `${name}:indices` },
  { name: (name) => `${name}:` },
  { name: () => '__metadata__' },
  { name: () => '__proto__' },
  { name: () => '' },
  { name: () => 'ünïcode \u{1f600}' },
  { name: () => 'x'.repeat(300) },
  { text: (text) => text.replace(/\}$/, `,${text.slice(1)}`) },
  { text: (text) => text.replace(/\}$/, ',"__metadata__":{"a":1}}') },
  { text: (text) => text.replace(/\}$/, ',"__metadata__":{"a":"b","a":"c"}}') },
  { text: (text) => `\u{feff}${text}` },
  { text: (text) => ` ${text}` },
  { text: (text) => `${text}\0\0\0` },
  { text: (text) => text.slice(0, -1) },
  { text: (text) => text.replaceAll('"', "'") },
  { text: () => '' },
  { text: () => '{}' },
  { text: () => '['.repeat(10_000) },
  { text: (text) => text.replace('"', '"\\ud800') },
  { length: () => 0n },
  { length: (length) => BigInt(length) + 1n },
  { length: (length) => BigInt(length) - 1n },
  { length: (length) => BigInt(length) + 1_000_000n },
  { length: () => 2n ** 64n - 1n },
  { length: () => 100_000_001n },
  { length: () => 2n ** 53n },
  { data: (data) => Buffer.concat([data, Buffer.alloc(1)]) },
  { data: (data) => data.subarray(0, -1) },
  { data: () => Buffer.alloc(0) },
  { data: (data) => Buffer.concat([data, data]) },
];

export function wrongFile(component: string | undefined): fc.Arbitrary<Uint8Array> {
  const file = byComponent[component ?? ''] ?? forSlices;
  return fc
    .tuple(file, fc.constantFrom(...wrongs), fc.nat({ max: 20 }))
    .map(([each, wrong, nth]) => encode(each, wrong, nth));
}

function encode({ entries, metadata }: File, wrong: Wrong = {}, nth = 0): Uint8Array {
  let offset = 0;
  const members = Object.keys(metadata).length === 0 ? [] : [`"__metadata__":${JSON.stringify(metadata)}`];
  for (const [place, { name, dtype, shape, bytes }] of entries.entries()) {
    const isWrong = place === nth % entries.length;
    const right: HeaderEntry = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
    const written = isWrong && wrong.entry !== undefined ? wrong.entry(right) : right;
    const named = isWrong && wrong.name !== undefined ? wrong.name(name) : name;
    members.push(`${JSON.stringify(named)}:${JSON.stringify(written)}`);
    offset += bytes.length;
  }
  const text = Buffer.from((wrong.text ?? ((same) => same))(`{${members}}`));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE((wrong.length ?? BigInt)(text.length));
  const data = Buffer.concat(entries.map(({ bytes }) => bytes));
  return Buffer.concat([length, text, (wrong.data ?? ((same) => same))(data)]);
}
