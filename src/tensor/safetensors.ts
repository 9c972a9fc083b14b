/**
 * safetensors files: 8 bytes, the header's length N as a little-endian u64; N bytes, the header as UTF-8 JSON
 *   {"__metadata__": {name: text, …}, tensor: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}
 * which may end in spaces; then the data, which the tensors must cover without hole or overlap (offsets count from its start).
 * A file is read strictly: one that two readers could understand differently is refused. JSON itself is json-reader.ts's;
 * which tensors a request needs, and what their names mean, is left to schemas/ and store/.
 * Format: https://huggingface.co/docs/safetensors
 */
import assert from 'node:assert/strict';
import { Problem } from '../errors.ts';
import { elementsMax, metadataStringsMax, rankMax, safetensorsHeaderBytesMax, tensorsMax } from '../limits.ts';
import { bytesPerElement, type Dtype, isDtype } from './dtype.ts';
import { JsonReader, quote } from './json-reader.ts';
import { byteLength, isCountable, type Tensor } from './tensor.ts';

const lengthBytes = 8;
const metadataName = '__metadata__';
const shapeRule = `at most ${rankMax} integers from 0 to 2^53 - 1`;
const offsetsRule = 'two integers from 0 to 2^53 - 1';

export interface SafetensorsFile {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the header's order. */
  readonly tensors: ReadonlyMap<string, Tensor>;
}

/** Where a tensor lies: bytes `begin` up to `end` of the data, which starts behind the header. */
export interface SafetensorsEntry {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the header's order. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
}

/**
 * Reads a whole file. The tensors' bytes are views of `bytes` (shared memory or not, at any alignment), never copies.
 * Throws `malformed_body`, or `dtype_mismatch` for a dtype that the format may have but this server has not.
 */
export function parseSafetensors(bytes: Uint8Array): SafetensorsFile {
  const dataStart = lengthBytes + readHeaderLength(bytes, bytes.length);
  const { metadata, entries } = readOrRecall(bytes.subarray(lengthBytes, dataStart), bytes.length - dataStart);
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape, begin, end }] of entries) {
    tensors.set(name, { dtype, shape, bytes: bytes.subarray(dataStart + begin, dataStart + end) });
  }
  return { metadata, tensors };
}

/**
 * The length N of the header of a file of `fileBytes` bytes, of which `start` holds the first 8 or more. N is within its
 * bound and the file, so that it is safe to read N bytes more and hand them to `readSafetensorsHeader`.
 */
export function readHeaderLength(start: Uint8Array, fileBytes: number): number {
  if (fileBytes < lengthBytes) throw malformed('safetensors file must have at least 8 bytes', fileBytes);
  const view = new DataView(start.buffer, start.byteOffset, lengthBytes);
  const length = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
  if (length > safetensorsHeaderBytesMax) {
    const received = view.getBigUint64(0, true);
    throw malformed(`safetensors header must have at most ${safetensorsHeaderBytesMax} bytes`, received);
  }
  if (lengthBytes + length > fileBytes) {
    throw malformed(`safetensors header must end within the file's ${fileBytes} bytes`, `a header of ${length} bytes`);
  }
  return length;
}

/** The headers read last, oldest first, by their bytes: a worker sends the same one with every gradient. */
const recalled = new Map<string, { header: SafetensorsHeader; dataBytes: number }>();
const recalledMax = 64;
const recalledBytesMax = 32_768;

/** As `readSafetensorsHeader`. */
function readOrRecall(header: Uint8Array, dataBytes: number): SafetensorsHeader {
  if (header.length > recalledBytesMax) return readSafetensorsHeader(header, dataBytes);
  const key = Buffer.from(header.buffer, header.byteOffset, header.length).toString('latin1');
  const known = recalled.get(key);
  if (known?.dataBytes === dataBytes) return known.header;
  const read = readSafetensorsHeader(header, dataBytes);
  if (recalled.size === recalledMax) recalled.delete(recalled.keys().next().value as string);
  recalled.set(key, { header: read, dataBytes });
  return read;
}

/** Reads a header alone, the N bytes of JSON, for a file with `dataBytes` bytes of data. Throws as `parseSafetensors` does. */
export function readSafetensorsHeader(header: Uint8Array, dataBytes: number): SafetensorsHeader {
  const json = new JsonReader(decodeUtf8(header), 'safetensors header');
  let metadata: ReadonlyMap<string, string> = new Map();
  const entries = new Map<string, SafetensorsEntry>();
  for (const name of json.members('safetensors header must be a JSON object')) {
    if (name === metadataName) metadata = readMetadata(json);
    else entries.set(name, readEntry(json, name));
    if (entries.size > tensorsMax) throw malformed(`safetensors file must have at most ${tensorsMax} tensors`, 'more');
  }
  json.end();
  checkCoverage(entries, dataBytes);
  return { metadata, entries };
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function decodeUtf8(header: Uint8Array): string {
  if (header[0] !== 0x7b) {
    throw malformed('safetensors header must begin with "{"', quote(String.fromCharCode(...header.subarray(0, 1))));
  }
  try {
    return utf8.decode(header);
  } catch (cause) {
    throw new Problem('malformed_body', 'safetensors header must be UTF-8. Received: other bytes', { cause });
  }
}

function readMetadata(json: JsonReader): Map<string, string> {
  const metadata = new Map<string, string>();
  for (const name of json.members('__metadata__ must be an object of strings')) {
    metadata.set(name, json.string(`__metadata__ must have a string for ${quote(name)}`));
    if (metadata.size > metadataStringsMax)
      throw malformed(`__metadata__ must have at most ${metadataStringsMax} strings`, 'more');
  }
  return metadata;
}

function readEntry(json: JsonReader, name: string): SafetensorsEntry {
  const tensor = `tensor ${quote(name)}`;
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  for (const member of json.members(`${tensor} must be an object with dtype, shape and data_offsets`)) {
    if (member === 'dtype') dtype = json.string(`${tensor} must have a string as dtype`);
    else if (member === 'shape') shape = json.integers(`${tensor} must have as shape ${shapeRule}`, rankMax);
    else if (member === 'data_offsets')
      offsets = json.integers(`${tensor} must have as data_offsets ${offsetsRule}`, 2);
    else throw malformed(`${tensor} must have no members but dtype, shape and data_offsets`, quote(member));
  }
  if (dtype === undefined) throw malformed(`${tensor} must have a dtype`, 'none');
  if (shape === undefined) throw malformed(`${tensor} must have a shape`, 'none');
  if (offsets === undefined) throw malformed(`${tensor} must have data_offsets`, 'none');
  if (!isDtype(dtype)) {
    const known = Object.keys(bytesPerElement).join(', ');
    throw new Problem('dtype_mismatch', `${tensor} must have one of the dtypes ${known}. Received: ${quote(dtype)}`);
  }
  return { dtype, shape, ...checkOffsets(tensor, dtype, shape, offsets) };
}

function checkOffsets(
  tensor: string,
  dtype: Dtype,
  shape: number[],
  offsets: number[],
): { begin: number; end: number } {
  if (!isCountable(shape)) {
    throw malformed(`${tensor} must have at most ${Math.floor(elementsMax)} elements`, `shape [${shape}]`);
  }
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined) {
    throw malformed(`${tensor} must have as data_offsets ${offsetsRule}`, `[${offsets}]`);
  }
  if (begin > end) throw malformed(`${tensor} must have data_offsets in ascending order`, `[${offsets}]`);
  const size = byteLength(dtype, shape);
  if (end - begin !== size) {
    throw malformed(
      `${tensor} must have ${size} bytes, as ${dtype} of shape [${shape}]`,
      `${end - begin} bytes, [${offsets}]`,
    );
  }
  return { begin, end };
}

/** In the order of their offsets, each tensor must begin where the one before has ended, and the last end with the data. */
function checkCoverage(entries: ReadonlyMap<string, SafetensorsEntry>, dataBytes: number): void {
  const sorted = [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const [name, { begin, end }] of sorted) {
    const received = `${begin} for tensor ${quote(name)}`;
    if (end > dataBytes) {
      throw malformed(
        `tensor ${quote(name)} must end within the ${dataBytes} bytes of data`,
        `data_offsets [${begin},${end}]`,
      );
    }
    if (begin < covered) throw malformed(`tensors must not overlap: the next must begin at ${covered}`, received);
    if (begin > covered) throw malformed(`tensors must leave no hole: the next must begin at ${covered}`, received);
    covered = end;
  }
  if (covered !== dataBytes) throw malformed(`tensors must cover all ${dataBytes} bytes of data`, `${covered} bytes`);
}

function malformed(rule: string, received: string | number | bigint): Problem {
  return new Problem('malformed_body', `${rule}. Received: ${received}`);
}

export interface TensorPlan {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

export interface SafetensorsLayout {
  /** The length and the JSON, with spaces up to a multiple of 8: how the file begins, and where its data then starts. */
  readonly header: Uint8Array;
  readonly totalBytes: number;
  /** Where in the file, not the data, each tensor begins, in that order. A multiple of its element's size. */
  readonly offsets: ReadonlyMap<string, number>;
}

/** The official writer's order of tensors, and names within it: the larger elements first, so that all are aligned. */
const dtypeOrder: readonly Dtype[] = ['I64', 'F64', 'F32', 'U32', 'I32', 'BF16', 'F16'];

/**
 * Lays a file out: the caller writes `header`, then each tensor's bytes in the order of `offsets`, which leave no gap.
 * Names must be distinct, and names and metadata Unicode text without half surrogate pairs.
 */
export function layoutSafetensors(
  metadata: Readonly<Record<string, string>>,
  tensors: readonly TensorPlan[],
): SafetensorsLayout {
  const sorted = tensors.toSorted(
    (a, b) => dtypeOrder.indexOf(a.dtype) - dtypeOrder.indexOf(b.dtype) || (a.name < b.name ? -1 : 1),
  );
  // Text and no object, which would move a tensor named "0" and lose one named "__proto__".
  const members = Object.keys(metadata).length === 0 ? [] : [`"${metadataName}":${JSON.stringify(metadata)}`];
  let dataBytes = 0;
  for (const { name, dtype, shape } of sorted) {
    const end = dataBytes + byteLength(dtype, shape);
    const entry = `{"dtype":"${dtype}","shape":[${shape.join()}],"data_offsets":[${dataBytes},${end}]}`;
    members.push(`${JSON.stringify(name)}:${entry}`);
    dataBytes = end;
  }
  const header = encodeHeader(`{${members.join()}}`);
  const offsets = new Map<string, number>();
  let totalBytes = header.length;
  for (const { name, dtype, shape } of sorted) {
    assert(!offsets.has(name) && name !== metadataName, `tensor names must be distinct. Received: ${name}`);
    offsets.set(name, totalBytes);
    totalBytes += byteLength(dtype, shape);
  }
  return { header, totalBytes, offsets };
}

function encodeHeader(json: string): Uint8Array {
  const bytes = Buffer.byteLength(json);
  const length = Math.ceil(bytes / 8) * 8;
  assert(length <= safetensorsHeaderBytesMax, `safetensors header must fit its bound. Received: ${length} bytes`);
  const header = Buffer.allocUnsafe(lengthBytes + length);
  header.writeUInt32LE(length);
  header.writeUInt32LE(0, 4);
  header.write(json + ' '.repeat(length - bytes), lengthBytes);
  return header;
}
