/**
 * What goes through a whole state at once: its fingerprint, and a copy in memory of its own. Both leave the thread to others
 * every few milliseconds; the caller sees to it that the state does not change meanwhile.
 */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { parts } from '../kernel/extent.ts';
import { canonicalBytes } from '../session/fingerprint.ts';
import type { SessionContents } from '../session/session.ts';
import { allocateVariables, type Variable } from '../session/variable.ts';
import { bytesPerElement } from '../tensor/dtype.ts';
import { elementCount } from '../tensor/tensor.ts';

/** Pieces of 1 MiB, a few milliseconds' work, before others have their turn with the thread. */
const piecesAtOnce = 4;
const pieceBytes = 1024 * 1024;

/** SHA-256 of the canonical bytes, in hexadecimal. */
export async function fingerprintOf({ variables }: SessionContents): Promise<string> {
  const hash = createHash('sha256');
  let pieces = 0;
  for (const bytes of canonicalBytes(variables)) {
    hash.update(bytes);
    if (++pieces % piecesAtOnce === 0) await setImmediate();
  }
  return hash.digest('hex');
}

/** The same bits, configuration, counter and settings, with no memory shared. */
export async function copyOf(contents: SessionContents): Promise<SessionContents> {
  const variables = allocateVariables([...contents.variables.values()]);
  const piece = Buffer.allocUnsafeSlow(pieceBytes);
  let pieces = 0;
  for (const { name, dtype, shape, memory } of contents.variables.values()) {
    const copy = (variables.get(name) as Variable).memory;
    const most = pieceBytes / bytesPerElement[dtype];
    const count = elementCount(shape);
    for (const part of parts) {
      for (let first = 0; first < count; first += most) {
        const n = Math.min(most, count - first);
        const values = { dtype, bytes: piece.subarray(0, n * bytesPerElement[dtype]) };
        memory.read(part, first, n, values);
        copy.write(part, first, n, values);
        if (++pieces % piecesAtOnce === 0) await setImmediate();
      }
    }
  }
  return { ...contents, variables, workers: contents.workers.copy() };
}
