/**
 * The hot loops (assembly/, compiled to WASM SIMD) as functions over one memory. Pointers are byte addresses in that
 * memory, counts are elements; nothing is checked here, so callers own the ranges.
 */
import type { FloatDtype, VariableDtype } from '../tensor/dtype.ts';
import { wasmBase64 } from './wasm.ts';

type Convert = (from: number, to: number, n: number) => void;

export interface KernelExports {
  denseF32: Dense;
  denseF64: Dense;
  sparseF32: Sparse;
  sparseF64: Sparse;
  addRowsF32: AddRows;
  addRowsF64: AddRows;
  allFiniteF32: (x: number, n: number) => number;
  allFiniteF64: (x: number, n: number) => number;
  sumSquaresF32: (x: number, n: number) => number;
  sumSquaresF64: (x: number, n: number) => number;
  clipValueF32: (x: number, n: number, limit: number) => void;
  clipValueF64: (x: number, n: number, limit: number) => void;
  scaleF32: (x: number, n: number, factor: number) => void;
  scaleF64: (x: number, n: number, factor: number) => void;
  divideF32: (x: number, n: number, divisor: number) => void;
  divideF64: (x: number, n: number, divisor: number) => void;
  copy: (to: number, from: number, bytes: number) => void;
  gatherRows: MoveRows;
  scatterRows: MoveRows;
  decimalsF32: (from: number, n: number, powers: number, to: number) => number;
  f16ToF32: Convert;
  f16ToF64: Convert;
  bf16ToF32: Convert;
  bf16ToF64: Convert;
  f32ToF64: Convert;
  f64ToF32: Convert;
  f32ToF16: Convert;
  f32ToBf16: Convert;
  f64ToF16: Convert;
  f64ToBf16: Convert;
}

/** Both rules return the sum of squares of what they have taken from w. */
type Dense = (
  w: number,
  m: number,
  v: number,
  g: number,
  n: number,
  alpha: number,
  omb1: number,
  beta2: number,
  eps: number,
) => number;

type Sparse = (
  w: number,
  m: number,
  v: number,
  rows: number,
  sums: number,
  count: number,
  width: number,
  stride: number,
  alpha: number,
  beta1: number,
  omb1: number,
  beta2: number,
  eps: number,
) => number;

type AddRows = (values: number, slots: number, count: number, width: number, sums: number) => void;
type MoveRows = (
  whole: number,
  rows: number,
  count: number,
  rowBytes: number,
  strideBytes: number,
  packed: number,
) => void;

const compiled = new WebAssembly.Module(Buffer.from(wasmBase64, 'base64'));

export function instantiate(memory: WebAssembly.Memory): KernelExports {
  return new WebAssembly.Instance(compiled, { env: { memory } }).exports as KernelExports;
}

/** The loops of one dtype under names without it. */
export function loopsFor(kernel: KernelExports, dtype: VariableDtype) {
  return dtype === 'F32'
    ? {
        dense: kernel.denseF32,
        sparse: kernel.sparseF32,
        addRows: kernel.addRowsF32,
        allFinite: kernel.allFiniteF32,
        sumSquares: kernel.sumSquaresF32,
        clipValue: kernel.clipValueF32,
        scale: kernel.scaleF32,
        divide: kernel.divideF32,
      }
    : {
        dense: kernel.denseF64,
        sparse: kernel.sparseF64,
        addRows: kernel.addRowsF64,
        allFinite: kernel.allFiniteF64,
        sumSquares: kernel.sumSquaresF64,
        clipValue: kernel.clipValueF64,
        scale: kernel.scaleF64,
        divide: kernel.divideF64,
      };
}

export type Loops = ReturnType<typeof loopsFor>;

/** The conversion between two different dtypes, one of which is a variable's. */
export function conversion(kernel: KernelExports, from: FloatDtype, to: FloatDtype): Convert {
  const table: Record<string, Convert> = {
    'F16>F32': kernel.f16ToF32,
    'F16>F64': kernel.f16ToF64,
    'BF16>F32': kernel.bf16ToF32,
    'BF16>F64': kernel.bf16ToF64,
    'F32>F64': kernel.f32ToF64,
    'F64>F32': kernel.f64ToF32,
    'F32>F16': kernel.f32ToF16,
    'F32>BF16': kernel.f32ToBf16,
    'F64>F16': kernel.f64ToF16,
    'F64>BF16': kernel.f64ToBf16,
  };
  const convert = table[`${from}>${to}`];
  if (convert === undefined) throw new Error(`no conversion from ${from} to ${to}`);
  return convert;
}
