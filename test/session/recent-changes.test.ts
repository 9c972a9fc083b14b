/** What is remembered of a variable's changes, and that it stays little. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecentChanges } from '../../src/session/recent-changes.ts';

const variable = { name: 'e', dtype: 'F32', shape: [1000] } as const;

test('many small changes of a small variable are forgotten from the oldest on', () => {
  const changes = new RecentChanges(0);
  for (let revision = 1; revision <= 100; revision++) changes.note(revision, variable, Float64Array.of(revision));
  // 16 KiB for lists that take 8 bytes for their row and 200 besides: 78 of them, from revision 23 on.
  assert.equal(changes.after(21, variable), 'all');
  assert.deepEqual(
    changes.after(22, variable),
    Float64Array.from({ length: 78 }, (_, k) => k + 23),
  );
});
