/** Gradients as bodies of requests: safetensors or, if dense, JSON. */
import { layoutSafetensors, type TensorPlan } from '../src/tensor/safetensors.ts';
import { gradientValue, mix, randomRows, shortestDigits } from './numbers.ts';
import type { Body } from './post.ts';

/** A dense gradient of `count` F32 values. */
export function denseBody(count: number, name = 'w'): Body {
  return fill([{ name, dtype: 'F32', shape: [count] }], []);
}

/** The same gradient, for `w`, as JSON. */
export function denseJsonBody(count: number): Body {
  const values = Array.from({ length: count }, (_, k) => shortestDigits(gradientValue(k)));
  const bytes = Buffer.from(`{"gradients":{"w":{"values":[${values.join()}]}}}`);
  // A number and its comma take two bytes at least.
  return { type: 'application/json', bytes, replyBytesMin: 2 * count };
}

/** A sparse gradient: distinct random rows (I64) out of `rows`, in random order, of `width` F32 values each; for `w`. */
export function sparseBody(list: number, count: number, rows: number, width: number): Body {
  const indices = randomRows(list, count, rows).sort((a, b) => mix(a) - mix(b));
  const plans: TensorPlan[] = [
    { name: 'w:indices', dtype: 'I64', shape: [count] },
    { name: 'w:values', dtype: 'F32', shape: [count, width] },
  ];
  return fill(plans, indices);
}

/** Lays the tensors out: the indices, if any, come first, and the rest is values. */
function fill(plans: readonly TensorPlan[], indices: readonly number[]): Body {
  const { header, totalBytes } = layoutSafetensors({}, plans);
  const bytes = Buffer.alloc(totalBytes);
  bytes.set(header);
  indices.forEach((row, k) => {
    bytes.writeBigInt64LE(BigInt(row), header.length + k * 8);
  });
  const values = header.length + indices.length * 8;
  for (let at = values; at < totalBytes; at += 4) bytes.writeFloatLE(gradientValue((at - values) / 4), at);
  return { type: 'application/vnd.safetensors', bytes, replyBytesMin: totalBytes - header.length };
}
