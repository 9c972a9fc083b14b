/** Element types, spelled as safetensors spells them, and which of them a variable, a gradient or an index can have. */

export const bytesPerElement = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, U32: 4 } as const;

export type Dtype = keyof typeof bytesPerElement;
/** What values travel as. */
export type FloatDtype = 'F64' | 'F32' | 'F16' | 'BF16';
/** What a variable and its slots are held as. */
export type VariableDtype = 'F64' | 'F32';
/** What the indices of a sparse gradient travel as. */
export type IndexDtype = 'I64' | 'I32' | 'U32';

export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(bytesPerElement, name);
}

export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'F64' || dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}

export function isIndexDtype(dtype: Dtype): dtype is IndexDtype {
  return dtype === 'I64' || dtype === 'I32' || dtype === 'U32';
}

export function isVariableDtype(dtype: Dtype): dtype is VariableDtype {
  return dtype === 'F64' || dtype === 'F32';
}
