/** What the reply to gradients shows: of dense ones the whole variable, of sparse ones the rows that they touch, ascending. */
import { readIndices } from '../optimizer/indexed-slices.ts';
import type { Slices } from '../session/gradient.ts';
import type { Selection } from '../session/session.ts';

export function touchedRows(gradients: ReadonlyMap<string, Slices>): Selection[] {
  return [...gradients].map(([variable, { indices }]) => {
    if (indices === undefined) return { variable };
    return { variable, rows: [...new Set(readIndices(indices))].sort((a, b) => a - b) };
  });
}
