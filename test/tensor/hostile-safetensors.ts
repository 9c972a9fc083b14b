/**
 * safetensors files that break the format, one for each rule, with what their reader is told; and the honest files that they
 * start from. `w` is the tensor at fault. Anything that takes safetensors must meet all of them and stay standing.
 */
import type { ProblemCode } from '../../src/errors.ts';
import { tensorsMax } from '../../src/limits.ts';
import type { Dtype } from '../../src/tensor/dtype.ts';
import { layoutSafetensors } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';

/** An honest file. */
export function writeSafetensors(metadata: Record<string, string>, tensors: ReadonlyMap<string, Tensor>): Buffer {
  const plans = [...tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const { header, totalBytes, offsets } = layoutSafetensors(metadata, plans);
  const file = Buffer.alloc(totalBytes);
  file.set(header);
  for (const [name, offset] of offsets) file.set(tensors.get(name)?.bytes ?? [], offset);
  return file;
}

/** Tensors as plain data, with their bytes in hexadecimal. */
export function plain(tensors: ReadonlyMap<string, Tensor>): [string, Dtype, readonly number[], string][] {
  return [...tensors].map(([name, { dtype, shape, bytes }]) => [
    name,
    dtype,
    shape,
    Buffer.from(bytes).toString('hex'),
  ]);
}

/** A file of any header, honest or not, and `dataBytes` bytes of zeros as data. */
export function rawSafetensors(header: string | Uint8Array, dataBytes = 0): Buffer {
  const text = Buffer.from(header);
  return Buffer.concat([withLength(BigInt(text.length), text), Buffer.alloc(dataBytes)]);
}

/** One member of a header; `overrides` replace or add members, and leave out those that are `undefined`. */
export function entry(name: string, overrides: Record<string, unknown> = {}): string {
  const honest = { dtype: 'F32', shape: [2], data_offsets: [0, 8] };
  return `${JSON.stringify(name)}:${JSON.stringify({ ...honest, ...overrides })}`;
}

export interface HostileFile {
  readonly title: string;
  readonly file: () => Buffer;
  readonly code: ProblemCode;
  readonly detail: string;
}

/** A title, a header or a whole file, and what is received in place of the rule. A header gets 8 bytes of data. */
type Row = readonly [title: string, content: string | (() => Buffer), received: string];

function breaking(rule: string, rows: readonly Row[], code: ProblemCode = 'malformed_body'): HostileFile[] {
  return rows.map(([title, content, received]) => ({
    title,
    file: typeof content === 'string' ? () => rawSafetensors(content, 8) : content,
    code,
    detail: `${rule}. Received: ${received}`,
  }));
}

function withLength(length: bigint, rest: string | Uint8Array): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(length);
  return Buffer.concat([bytes, Buffer.from(rest)]);
}

const w = entry('w');
/** A header whose only tensor has this JSON text as shape. */
const shaped = (shape: string) => `{${w.replace('[2]', shape)}}`;
/** A header whose only tensor has this JSON text as data_offsets. */
const placed = (offsets: string, shape = '[2]') => shaped(shape).replace('[0,8]', offsets);
const deep = 1_000_000;
/** How a message quotes the start of `deep` brackets. */
const brackets = `"${'['.repeat(40)}"`;

const lengths = [
  ...breaking('safetensors file must have at least 8 bytes', [
    ['no byte at all', () => Buffer.alloc(0), '0'],
    ['seven bytes', () => Buffer.alloc(7), '7'],
  ]),
  ...breaking("safetensors header must end within the file's 10 bytes", [
    ['a header that ends behind the file', () => withLength(3n, '{}'), 'a header of 3 bytes'],
    ['a header at its bound, in a short file', () => withLength(100_000_000n, '{}'), 'a header of 100000000 bytes'],
  ]),
  ...breaking('safetensors header must have at most 100000000 bytes', [
    ['a header of one byte over the bound', () => withLength(100_000_001n, '{}'), '100000001'],
    ['a header of 2^63 bytes', () => withLength(2n ** 63n, '{}'), '9223372036854775808'],
    ['a header of 2^64 - 1 bytes', () => withLength(2n ** 64n - 1n, '{}'), '18446744073709551615'],
  ]),
];

const json = [
  ...breaking('safetensors header must begin with "{"', [
    ['an empty header', () => rawSafetensors(''), '""'],
    ['an array as header', `[${w}]`, '"["'],
    ['a header behind a space', ` {${w}}`, '" "'],
    ['a header behind a byte-order mark', `\ufeff{${w}}`, '"\u00ef"'],
    ['arrays a million deep as header', '['.repeat(deep), '"["'],
  ]),
  ...breaking('safetensors header must be UTF-8', [
    ['a byte that UTF-8 never has', () => rawSafetensors(Buffer.from('{"\xff":5}', 'latin1')), 'other bytes'],
    ['a surrogate in bytes', () => rawSafetensors(Buffer.from('{"\xed\xa0\x80":5}', 'latin1')), 'other bytes'],
  ]),
  ...breaking('safetensors header must be JSON, with "," or "}" here', [
    ['a header that ends early', `{${w}`, 'the end of the text'],
    ['members without a comma', `{${w} "a":5}`, '"\\"a\\":5}"'],
  ]),
  ...breaking('safetensors header must be JSON, with its strings closed', [
    ['a string without end', '{"w', 'the end of the text'],
    ['a string that ends in half an escape', '{"w\\', 'the end of the text'],
  ]),
  ...breaking('safetensors header must be JSON, with a name in quotes here', [
    ['a header that ends at once', '{', 'the end of the text'],
    ['a name without quotes', '{w:{}}', '"w"'],
    ['a comma behind the last member', `{${w},}`, '"}"'],
  ]),
  ...breaking('safetensors header must be JSON, with ":" here', [['a name without value', '{"w"}', '"}"']]),
  ...breaking('safetensors header must be JSON, with strings of Unicode text', [
    ['an unknown escape in a name', '{"\\w":{}}', '"\\"\\\\w\\""'],
    ['half a surrogate pair in a name', '{"\\ud800":{}}', '"\\"\\\\ud800\\""'],
    ['a line break in a name', '{"\n":{}}', '"\\"\\n\\""'],
  ]),
  ...breaking('safetensors header must end with its JSON object, spaces aside', [
    ['a second value behind the header', `{${w}} {}`, '"{}"'],
    ['a zero byte as padding', `{${w}}\0`, '"\\u0000"'],
  ]),
  ...breaking('safetensors header must not have duplicate names', [
    ['two tensors of one name', `{${w},${w}}`, '"w"'],
    ['two tensors of one name, once in escapes', `{${w},${w.replace('w', '\\u0077')}}`, '"w"'],
    ['two tensors named __proto__', `{${entry('__proto__')},${entry('__proto__')}}`, '"__proto__"'],
    ['a tensor with two dtypes', `{${w.replace('{', '{"dtype":"I32",')}}`, '"dtype"'],
    ['one name twice in __metadata__', `{"__metadata__":{"k":"1","k":"2"},${w}}`, '"k"'],
    ['__metadata__ twice', `{"__metadata__":{},${w},"__metadata__":{}}`, '"__metadata__"'],
  ]),
];

/** More members than a header may have, each of a name of its own. */
const crowd = (member: (name: string) => string) =>
  Array.from({ length: tensorsMax + 1 }, (_, index) => member(`${index}`)).join();
const empty = { shape: [0], data_offsets: [0, 0] };

const members = [
  ...breaking('safetensors file must have at most 49152 tensors', [
    ['too many tensors', () => rawSafetensors(`{${crowd((name) => entry(name, empty))}}`), 'more'],
  ]),
  ...breaking('__metadata__ must have at most 16384 strings', [
    [
      'too many strings in __metadata__',
      () => rawSafetensors(`{"__metadata__":{${crowd((name) => `"${name}":""`)}}}`),
      'more',
    ],
  ]),
  ...breaking('__metadata__ must be an object of strings', [
    ['a string as __metadata__', '{"__metadata__":"k"}', '"\\"k\\"}"'],
    ['null as __metadata__', `{"__metadata__":null,${w}}`, '"null"'],
  ]),
  ...breaking('__metadata__ must have a string for "k"', [
    ['a number in __metadata__', `{"__metadata__":{"k":1},${w}}`, '"1"'],
    ['an object in __metadata__', '{"__metadata__":{"k":{"a":"b"}}}', '"{\\"a\\":\\"b\\"}}}"'],
  ]),
  ...breaking('tensor "w" must be an object with dtype, shape and data_offsets', [
    ['a number as tensor', '{"w":5}', '"5"'],
    ['null as tensor', '{"w":null}', '"null"'],
    ['an array as tensor', '{"w":["F32",[2],[0,8]]}', '"[\\"F32\\",[2],[0,8]]}"'],
    ['arrays a million deep as tensor', `{"w":${'['.repeat(deep)}`, brackets],
  ]),
  ...breaking('tensor "w" must have a dtype', [['no dtype', `{${entry('w', { dtype: undefined })}}`, 'none']]),
  ...breaking('tensor "w" must have a shape', [['no shape', `{${entry('w', { shape: undefined })}}`, 'none']]),
  ...breaking('tensor "w" must have data_offsets', [
    ['no data_offsets', `{${entry('w', { data_offsets: undefined })}}`, 'none'],
  ]),
  ...breaking('tensor "w" must have no members but dtype, shape and data_offsets', [
    ['a fourth member', `{${entry('w', { offset: 0 })}}`, '"offset"'],
    ['objects a million deep', '{"w":'.repeat(deep), '"w"'],
  ]),
  ...breaking('tensor "w" must have a string as dtype', [
    ['a number as dtype', `{${entry('w', { dtype: 32 })}}`, '"32"'],
  ]),
  ...breaking(
    'tensor "w" must have one of the dtypes F64, F32, F16, BF16, I64, I32, U32',
    ['U8', 'BOOL', 'F8_E4M3', 'f32', '', 'toString', '__proto__'].map((dtype) => [
      `${JSON.stringify(dtype)} as dtype`,
      `{${entry('w', { dtype })}}`,
      JSON.stringify(dtype),
    ]),
    'dtype_mismatch',
  ),
];

const shapes = [
  ...breaking('tensor "w" must have as shape at most 32 integers from 0 to 2^53 - 1', [
    ['a number as shape', shaped('2'), '"2"'],
    ['arrays a million deep as shape', shaped('['.repeat(deep)), brackets],
    ['a negative size', shaped('[2,-1]'), '"-1"'],
    ['a negative zero as size', shaped('[-0]'), '"-0"'],
    ['half a row', shaped('[2.5]'), '"2.5"'],
    ['a whole size written as a fraction', shaped('[2.0]'), '"2.0"'],
    ['a whole size with an exponent', shaped('[2e0]'), '"2e0"'],
    ['a size with a leading zero', shaped('[02]'), '"02"'],
    ['null as size', shaped('[null]'), '"null"'],
    ['a string as size', shaped('["2"]'), '"\\"2\\"],\\"data_offsets\\":[0,8]}}"'],
    ['a comma behind the last size', shaped('[2,]'), '"],\\"data_offsets\\":[0,8]}}"'],
    ['sizes without a comma', shaped('[1 2]'), '"2"'],
    ['a size of 2^53', shaped(`[${2 ** 53}]`), '"9007199254740992"'],
    ['a size of 2^64', shaped(`[${2n ** 64n}]`), '"18446744073709551616"'],
    ['a size of a million digits', shaped(`[${'9'.repeat(deep)}]`), `"${'9'.repeat(40)}"`],
    ['33 dimensions', shaped(`[${Array(33).fill(1)}]`), 'more than 32'],
  ]),
  ...breaking('tensor "w" must have at most 1125899906842623 elements', [
    ['2^50 elements', shaped('[1125899906842624]'), 'shape [1125899906842624]'],
    ['2^64 elements', shaped('[4294967296,4294967296]'), 'shape [4294967296,4294967296]'],
    ['no row, but of 2^64 elements', shaped('[0,4294967296,4294967296]'), 'shape [0,4294967296,4294967296]'],
    ['2^1600 elements', shaped(`[${Array(32).fill(2 ** 50)}]`), `shape [${Array(32).fill(2 ** 50)}]`],
  ]),
];

const offsets = [
  ...breaking('tensor "w" must have as data_offsets two integers from 0 to 2^53 - 1', [
    ['a number as data_offsets', placed('8'), '"8"'],
    ['no offset', placed('[]'), '[]'],
    ['one offset', placed('[8]'), '[8]'],
    ['three offsets', placed('[0,8,8]'), 'more than 2'],
    ['a negative offset', placed('[-8,0]'), '"-8"'],
    ['a fractional offset', placed('[0,8.5]'), '"8.5"'],
  ]),
  ...breaking('tensor "w" must have data_offsets in ascending order', [['reversed offsets', placed('[8,0]'), '[8,0]']]),
  ...breaking('tensor "w" must have 8 bytes, as F32 of shape [2]', [
    ['fewer bytes than the shape has', placed('[0,4]'), '4 bytes, [0,4]'],
    ['more bytes than the shape has', placed('[0,12]'), '12 bytes, [0,12]'],
  ]),
  ...breaking('tensor "w" must have 4 bytes, as F32 of shape []', [
    ['more bytes than a scalar has', shaped('[]'), '8 bytes, [0,8]'],
  ]),
  ...breaking('tensor "w" must have 0 bytes, as F32 of shape [0,3]', [
    ['bytes where the shape has none', shaped('[0,3]'), '8 bytes, [0,8]'],
  ]),
  ...breaking('tensor "w" must end within the 8 bytes of data', [
    ['data that ends behind the file', placed('[0,12]', '[3]'), 'data_offsets [0,12]'],
    ['2^51 bytes of data', placed('[0,2251799813685248]', '[562949953421312]'), 'data_offsets [0,2251799813685248]'],
  ]),
  ...breaking('tensors must not overlap: the next must begin at 8', [
    [
      'tensors that overlap',
      () => rawSafetensors(`{${placed('[4,12]').slice(1, -1)},${entry('a')}}`, 12),
      '4 for tensor "w"',
    ],
    ['two tensors of the same bytes', `{${entry('a')},${w}}`, '0 for tensor "w"'],
    ['an empty tensor within another', `{${placed('[4,4]', '[0]').slice(1, -1)},${entry('a')}}`, '4 for tensor "w"'],
  ]),
  ...breaking('tensors must leave no hole: the next must begin at 8', [
    [
      'a hole between two tensors',
      () => rawSafetensors(`{${placed('[9,17]').slice(1, -1)},${entry('a')}}`, 17),
      '9 for tensor "w"',
    ],
  ]),
  ...breaking('tensors must leave no hole: the next must begin at 0', [
    ['a hole before the first tensor', () => rawSafetensors(placed('[4,12]'), 12), '4 for tensor "w"'],
  ]),
  ...breaking('tensors must cover all 9 bytes of data', [
    ['a byte behind the last tensor', () => rawSafetensors(`{${w}}`, 9), '8 bytes'],
  ]),
  ...breaking('tensors must cover all 8 bytes of data', [['data without tensors', '{}', '0 bytes']]),
];

export const hostileFiles: readonly HostileFile[] = [...lengths, ...json, ...members, ...shapes, ...offsets];
