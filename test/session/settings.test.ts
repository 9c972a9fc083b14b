import assert from 'node:assert/strict';
import { test } from 'node:test';
import { metadataBytesMax } from '../../src/limits.ts';
import { defaultSettings, mergePatch, mergeSettings, newSettings } from '../../src/session/settings.ts';

test('metadata is bounded however it grows: at once, or patch by patch', () => {
  const half = 'x'.repeat(metadataBytesMax / 2);
  const rule = {
    code: 'invalid_argument',
    message: /metadata must have at most 65536 bytes as JSON. Received: 655\d\d/,
  };
  const one = mergeSettings(defaultSettings, { metadata: { a: half } });
  assert.throws(() => mergeSettings(one, { metadata: { b: half } }), rule);
  assert.throws(() => newSettings({ metadata: { a: half, b: half } }), rule);
  // {"a":"…"} has 8 bytes around its text.
  assert.doesNotThrow(() => newSettings({ metadata: { a: 'x'.repeat(metadataBytesMax - 8) } }));
  assert.throws(() => newSettings({ metadata: { a: 'x'.repeat(metadataBytesMax - 7) } }), rule);
});

test('a patch of null brings defaults back, and an absent member stays', () => {
  const changed = mergeSettings(defaultSettings, {
    checkpointing: { keep: 2, every_steps: null },
    metadata: { a: 1, b: 2 },
  });
  assert.deepEqual(changed.checkpointing, { every_steps: null, every_seconds: 300, keep: 2, keep_journal_steps: null });
  assert.deepEqual(mergeSettings(changed, { metadata: { a: null } }).metadata, { b: 2 });
  assert.deepEqual(mergeSettings(changed, { checkpointing: null, metadata: null }), defaultSettings);
});

test('a merge patch is RFC 7396', () => {
  // The examples of the RFC's appendix A that concern objects.
  const cases: [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, merged] of cases) assert.deepEqual(mergePatch(target, patch), merged);
});
