import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ICruiseResult } from 'dependency-cruiser';

const root = join(import.meta.dirname, '..');

test('every import goes to its own floor or below, and the other rules of the house hold', () => {
  const command = join(root, 'node_modules/.bin/depcruise');
  const options = ['--config', '.dependency-cruiser.mjs', '--output-type', 'json', 'src', 'routes'];
  const { stdout, stderr } = spawnSync(command, options, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(stderr, '');
  const { summary } = JSON.parse(stdout) as ICruiseResult;
  // A cruise that reads nothing finds nothing: the compiler it parses with must be there.
  assert.ok(summary.totalCruised > 60, `only ${summary.totalCruised} modules were seen`);
  assert.deepEqual(
    summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`),
    [],
  );
});

/** Sources of ours, as paths from the root. */
function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.ts$/.test(entry.name) && entry.name !== 'wasm.ts')
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
}

/** They decide when memory is given back, which nothing that a session does can tell. */
const timed = ['src/tensor/buffer-pool.ts', 'src/tensor/reclaim.ts'];

test('no clock and no random source is used below the journal, but to give memory back', () => {
  const files = ['src/tensor', 'src/kernel', 'src/optimizer', 'src/session'].flatMap(sources);
  for (const file of files.filter((each) => !timed.includes(each))) {
    assert.doesNotMatch(
      readFileSync(join(root, file), 'utf8'),
      /\bDate\b|Math\.random|performance\.|setTimeout|setInterval/,
      file,
    );
  }
});

test('only config.ts reads the environment', () => {
  for (const file of ['src', 'routes'].flatMap(sources).filter((each) => each !== 'src/config.ts')) {
    assert.doesNotMatch(readFileSync(join(root, file), 'utf8'), /process\.env/, file);
  }
});

test('every file says its idea in a header, and none is longer than 300 lines', () => {
  for (const file of ['src', 'routes', 'bench', 'scripts'].flatMap(sources)) {
    const text = readFileSync(join(root, file), 'utf8');
    assert.match(text, /^(#!.*\n)?(\/\*\*|\/\/)/, `${file} has no header`);
    assert.ok(text.split('\n').length <= 301, `${file} is too long`);
  }
});
