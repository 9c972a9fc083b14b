// Safetensors, the body format of the server: eight bytes that give the header's length (little-endian), a JSON header
// `{name: {dtype, shape, data_offsets}}`, then the tensors' bytes end to end. Only the dtypes that the examples use.

export type Floats = Float32Array<ArrayBuffer>;
export type Integers = Int32Array<ArrayBuffer>;

export interface Tensor {
  shape: number[];
  /** Row-major; what safetensors calls F32, I32 and I64. */
  data: Floats | Integers | BigInt64Array<ArrayBuffer>;
}

export type Tensors = Record<string, Tensor>;

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [begin: number, end: number];
}

/** The safetensors file that holds `tensors`. */
export function encode(tensors: Tensors): Uint8Array<ArrayBuffer> {
  const header: Record<string, Entry> = {};
  let end = 0;
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype: dtypeOf(data), shape, data_offsets: [end, end + data.byteLength] };
    end += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const start = 8 + Math.ceil(json.length / 8) * 8;
  const file = new Uint8Array(start + end).fill(0x20, 8, start); // spaces after the JSON align the data
  new DataView(file.buffer).setBigUint64(0, BigInt(start - 8), true);
  file.set(json, 8);
  for (const [name, { data }] of Object.entries(tensors)) {
    const offset = start + (header[name] as Entry).data_offsets[0];
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
  }
  return file;
}

/** The tensors of a safetensors file, each a copy of its bytes, and the file's `__metadata__`. */
export function decode(file: ArrayBuffer): { tensors: Tensors; metadata: Record<string, string> } {
  const start = 8 + Number(new DataView(file).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, start - 8)));
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors: Tensors = {};
  for (const [name, { dtype, shape, data_offsets }] of Object.entries<Entry>(entries)) {
    const [begin, end] = data_offsets;
    tensors[name] = { shape, data: typedArray(dtype, file.slice(start + begin, start + end)) };
  }
  return { tensors, metadata };
}

function dtypeOf(data: Tensor['data']): string {
  if (data instanceof Float32Array) return 'F32';
  return data instanceof Int32Array ? 'I32' : 'I64';
}

function typedArray(dtype: string, bytes: ArrayBuffer): Tensor['data'] {
  if (dtype === 'F32') return new Float32Array(bytes);
  if (dtype === 'I32') return new Int32Array(bytes);
  if (dtype === 'I64') return new BigInt64Array(bytes);
  throw new Error(`dtype must be F32, I32 or I64. Received: ${dtype}`);
}
