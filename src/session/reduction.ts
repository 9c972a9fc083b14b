/**
 * Several workers' gradients as one: summed in the order given, in each variable's dtype, and divided by how many there are if
 * their mean is asked for (TensorFlow's SyncReplicasOptimizer). Gradients that are sparse stay so, unless a dense one of the
 * same variable is among them. Who does not name a variable, or a row, counts as zeros.
 */
import type { Executor } from '../kernel/threads.ts';
import type { Work } from '../kernel/work.ts';
import { unionOfRows, writeIndices } from '../optimizer/indexed-slices.ts';
import { byteLength } from '../tensor/tensor.ts';
import type { CheckedGradient, Slices } from './gradient.ts';

/** What there is of one variable, in order. */
type Group = [CheckedGradient, ...CheckedGradient[]];

/** The sums, their values in memory that `take` gives for them. */
export async function reduceGradients(
  gradients: readonly (readonly CheckedGradient[])[],
  divisor: number,
  executor: Executor,
  take: (bytes: number) => Uint8Array,
): Promise<Map<string, Slices>> {
  const plans = [...groups(gradients)].map(planOf);
  const memory = take(plans.reduce((sum, { bytes }) => sum + bytes, 0));
  const reduced = new Map<string, Slices>();
  const works: Work[] = [];
  let at = 0;
  for (const { group, rows, shape, bytes: size } of plans) {
    const [{ variable }] = group;
    const { dtype, memory: extent } = variable;
    const values = { dtype, shape, bytes: memory.subarray(at, at + size) };
    at += size;
    reduced.set(variable.name, rows === undefined ? { values } : { values, indices: writeIndices(rows) });
    works.push({
      kind: 'reduce',
      dtype,
      width: extent.width,
      rows,
      count: rows?.length ?? extent.rows,
      inputs: group.map(({ values, slices }) => ({ values, slices })),
      divisor,
      to: values,
    });
  }
  await executor.run(works);
  return reduced;
}

/** By variable, in the order in which they are first named. */
function groups(gradients: readonly (readonly CheckedGradient[])[]): Iterable<Group> {
  const byName = new Map<string, Group>();
  for (const each of gradients.flat()) {
    const group = byName.get(each.variable.name);
    if (group === undefined) byName.set(each.variable.name, [each]);
    else group.push(each);
  }
  return byName.values();
}

/** The rows that it has, if it is sparse, and its shape. */
function planOf(group: Group) {
  const [{ variable }] = group;
  const slices = group.flatMap((each) => each.slices ?? []);
  const rows = slices.length < group.length ? undefined : unionOfRows(slices);
  const shape = rows === undefined ? variable.shape : [rows.length, ...variable.shape.slice(1)];
  return { group, rows, shape, bytes: byteLength(variable.dtype, shape) };
}
