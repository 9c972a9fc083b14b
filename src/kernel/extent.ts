/** A variable as the kernel sees it: two dimensions, one dtype, three parts. */
import type { VariableDtype } from '../tensor/dtype.ts';

/** The variable itself, or one of Adamax' slots. */
export type Part = 'w' | 'm' | 'v';
export const parts: readonly Part[] = ['w', 'm', 'v'];

/** `rows` rows of `width` elements: the variable's first axis, and the rest. A scalar is one row of one. */
export interface Extent {
  readonly dtype: VariableDtype;
  readonly rows: number;
  readonly width: number;
}
