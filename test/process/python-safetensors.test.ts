/**
 * Python's safetensors and NumPy open what our writer writes, and see the same names, shapes and numbers. Where they are
 * not installed these tests say so and pass; the files that they wrote are read by test/tensor/safetensors.test.ts always.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Dtype } from '../../src/tensor/dtype.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { writeSafetensors } from '../tensor/hostile-safetensors.ts';

/** Prints what a file holds as JSON. NumPy has no bfloat16, whose bits are the upper half of a float32's. */
const program = `
import json, sys
import numpy as np
import safetensors
path = sys.argv[1]
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U32": "<u4"}

def values(dtype, data):
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, TYPES[dtype])

with open(path, "rb") as file:
    tensors = safetensors.deserialize(file.read())
with safetensors.safe_open(path, framework="numpy") as file:
    metadata = file.metadata()
print(json.dumps({"metadata": metadata, "tensors": {
    name: [tensor["dtype"], tensor["shape"], [str(value) for value in values(tensor["dtype"], tensor["data"]).tolist()]]
    for name, tensor in tensors
}}))
`;

function python(...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync('python3', args, { encoding: 'utf8', timeout: 60_000 });
  if (status !== 0) throw new Error(`python3 failed: ${stderr}`, { cause: error });
  return stdout;
}

/** Whether Python can be asked; where not, the reason stands in the test's output. */
function hasPython(t: TestContext): boolean {
  try {
    python('-c', 'import safetensors, numpy');
    return true;
  } catch {
    t.diagnostic('left out: python3 with the packages safetensors and numpy is not installed');
    return false;
  }
}

function openInPython(metadata: Record<string, string>, tensors: ReadonlyMap<string, Tensor>): unknown {
  const directory = mkdtempSync(join(tmpdir(), 'safetensors-'));
  try {
    const path = join(directory, 'file.safetensors');
    writeFileSync(path, writeSafetensors(metadata, tensors));
    return JSON.parse(python('-c', program, path));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function tensor(dtype: Dtype, shape: number[], array: ArrayBufferView): Tensor {
  return { dtype, shape, bytes: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) };
}

test('Python reads every dtype and shape that our writer writes, and its metadata', (t) => {
  if (!hasPython(t)) return;
  const tensors = new Map([
    ['w:v', tensor('F32', [2, 3], Float32Array.of(1.5, -0, 16777216, 2 ** -149, Number.POSITIVE_INFINITY, Number.NaN))],
    ['w', tensor('F64', [3], Float64Array.of(0.1, -5e-324, 9007199254740991))],
    ['half', tensor('F16', [3], Uint16Array.of(0x3e00, 0xc000, 0x7bff))],
    ['brain', tensor('BF16', [1, 2], Uint16Array.of(0x3f80, 0xc049))],
    ['w:indices', tensor('I64', [2], BigInt64Array.of(-1n, 2n ** 53n + 1n))],
    ['rows', tensor('I32', [2], Int32Array.of(-(2 ** 31), 7))],
    ['columns', tensor('U32', [1], Uint32Array.of(2 ** 32 - 1))],
    ['scalar', tensor('F32', [], Float32Array.of(2.5))],
    ['no rows', tensor('F64', [0, 3], new Float64Array())],
    ['no columns', tensor('F16', [3, 0, 2], new Uint16Array())],
    ['0', tensor('F32', [1], Float32Array.of(7))],
    ['__proto__', tensor('F32', [1], Float32Array.of(8))],
    ['gr\u00f6\u00dfe "\\\n\u{1f600}', tensor('F32', [1], Float32Array.of(9))],
  ]);
  const metadata = { format: 'adamax', note: 'a "quoted"\n\u00e9\u{1f600}', 10: '' };
  const seen: [string, unknown][] = [
    ['w:v', ['F32', [2, 3], ['1.5', '-0.0', '16777216.0', `${2 ** -149}`, 'inf', 'nan']]],
    ['w', ['F64', [3], ['0.1', '-5e-324', '9007199254740991.0']]],
    ['half', ['F16', [3], ['1.5', '-2.0', '65504.0']]],
    ['brain', ['BF16', [1, 2], ['1.0', '-3.140625']]],
    ['w:indices', ['I64', [2], ['-1', '9007199254740993']]],
    ['rows', ['I32', [2], ['-2147483648', '7']]],
    ['columns', ['U32', [1], ['4294967295']]],
    ['scalar', ['F32', [], ['2.5']]],
    ['no rows', ['F64', [0, 3], []]],
    ['no columns', ['F16', [3, 0, 2], []]],
    ['0', ['F32', [1], ['7.0']]],
    ['__proto__', ['F32', [1], ['8.0']]],
    ['gr\u00f6\u00dfe "\\\n\u{1f600}', ['F32', [1], ['9.0']]],
  ];
  assert.deepEqual(openInPython(metadata, tensors), { metadata, tensors: Object.fromEntries(seen) });
});

test('Python reads a file of ours without tensors and without metadata', (t) => {
  if (!hasPython(t)) return;
  assert.deepEqual(openInPython({}, new Map()), { metadata: null, tensors: {} });
});
