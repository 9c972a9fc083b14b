import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalBytes } from '../../src/session/fingerprint.ts';
import { allocateVariables } from '../../src/session/variable.ts';
import type { VariableDtype } from '../../src/tensor/dtype.ts';

/** The canonical bytes of one variable whose `w` has these bits. */
function canonical(dtype: VariableDtype, bits: string): string {
  const bytes = Buffer.from(bits.replaceAll(' ', ''), 'hex');
  const variables = allocateVariables([{ name: 'w', dtype, shape: [bytes.length / (dtype === 'F32' ? 4 : 8)] }]);
  variables.get('w')?.memory.bytesOf('w')[0]?.set(bytes);
  const [, w] = Array.from(canonicalBytes(variables), (piece) => Buffer.from(piece).toString('hex'));
  return w as string;
}

test('every NaN counts as one, whatever its sign and payload; all other bits stand as they are', () => {
  // Little-endian: -NaN, a signalling NaN, one with a payload, both infinities, -0, the least subnormal, 1.
  const f32 = '0000c0ff 0100807f 3412c07f 0000807f 000080ff 00000080 01000000 0000803f';
  const unified32 = '0000c07f 0000c07f 0000c07f 0000807f 000080ff 00000080 01000000 0000803f';
  assert.equal(canonical('F32', f32), unified32.replaceAll(' ', ''));
  const f64 = '000000000000f8ff 010000000000f07f 000000000000f07f 0000000000000080 000000000000f03f';
  const unified64 = '000000000000f87f 000000000000f87f 000000000000f07f 0000000000000080 000000000000f03f';
  assert.equal(canonical('F64', f64), unified64.replaceAll(' ', ''));
});

test('a variable without elements is there by its name and shape, and pieces of 1 MiB make up a large one', () => {
  const variables = allocateVariables([
    { name: 'large', dtype: 'F32', shape: [300_000] },
    { name: 'empty', dtype: 'F64', shape: [0, 3] },
  ]);
  const lengths = Array.from(canonicalBytes(variables), (piece) => piece.length);
  // '["empty","F64",[0,3]]\n' and '["large","F32",[300000]]\n'; 1,200,000 bytes in two pieces, thrice.
  const [first, second] = [1_048_576, 1_200_000 - 1_048_576];
  assert.deepEqual(lengths, [22, 25, first, second, first, second, first, second]);
});
