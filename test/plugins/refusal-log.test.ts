/** Refusals for overload are told in one line a second, with their number. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FastifyBaseLogger } from 'fastify';
import { RefusalLog } from '../../src/plugins/refusal-log.ts';

test('a line a second says how many there were, and there is none without any', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const lines: unknown[] = [];
  const log = new RefusalLog({ warn: (fields: unknown) => lines.push(fields) } as unknown as FastifyBaseLogger);
  for (let k = 0; k < 1000; k++) log.note();
  assert.deepEqual(lines, []);
  t.mock.timers.tick(1000);
  assert.deepEqual(lines, [{ refused: 1000 }]);
  t.mock.timers.tick(10_000);
  log.note();
  log.flush();
  t.mock.timers.tick(10_000);
  assert.deepEqual(lines, [{ refused: 1000 }, { refused: 1 }]);
});
