/** Refusals for overload are told in one line a second, with their number. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fastify, { type FastifyBaseLogger, LogController } from 'fastify';
import { pino } from 'pino';
import { Problem } from '../../src/errors.ts';
import { problems } from '../../src/plugins/problems.ts';
import { RefusalLog, refusalLog } from '../../src/plugins/refusal-log.ts';
import { requestLog } from '../../src/plugins/request-log.ts';

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

test('whoever says overloaded, the request has no line of its own; other refusals have', async () => {
  const lines: { msg: string; code?: string; refused?: number }[] = [];
  const loggerInstance = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) });
  const app = fastify({ loggerInstance, logController: new LogController({ disableRequestLogging: true }) });
  for (const plugin of [refusalLog, requestLog, problems]) await app.register(plugin);
  app.get('/:code', async ({ params }) => {
    throw new Problem((params as { code: 'overloaded' | 'insufficient_memory' }).code, 'there must be room');
  });
  for (let k = 0; k < 3; k++) for (const code of ['overloaded', 'insufficient_memory']) await app.inject(`/${code}`);
  await app.close();
  assert.deepEqual(
    lines.map(({ msg, code, refused }) => [msg, code ?? refused]),
    [...Array(3).fill(['request', 'insufficient_memory']), ['overloaded: requests were refused', 3]],
  );
});
