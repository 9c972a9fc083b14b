/** What a release consists of: the package that npm makes of a working folder, its bill of materials, and that it runs. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { launch, temporaryFolder } from '../support/server-process.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);
/** Not copied: what is not ours, what is made, and what is large. */
const leftOut = new Set(['node_modules', '.git', 'dist', 'coverage', 'data', 'bench', 'examples']);

test('every version is exact, everywhere, and nothing that is installed runs a program', async () => {
  for (const folder of ['', 'examples']) {
    const json = JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8'));
    const versions = Object.entries({ ...json.dependencies, ...json.devDependencies });
    assert.ok(versions.length > 0, folder);
    for (const [name, version] of versions) assert.match(version as string, /^\d+\.\d+\.\d+$/, name);
    assert.match(await readFile(join(root, folder, '.npmrc'), 'utf8'), /^ignore-scripts=true$/m);
    const ours = Object.keys(json.scripts).filter((name) => /^(pre|post)/.test(name));
    assert.deepEqual(ours, [], 'npm would leave these out as well');
    const lock = await readFile(join(root, folder, 'package-lock.json'), 'utf8');
    assert.doesNotMatch(lock, /"resolved"/);
    const packages = Object.entries<{ integrity?: string }>(JSON.parse(lock).packages).slice(1);
    // Optional packages of other platforms have no hash here where they were never downloaded.
    const hashed = packages.filter(([, { integrity }]) => integrity !== undefined);
    assert.ok(hashed.length > packages.length / 2, folder);
  }
});

test('the package holds what is needed to run it and nothing else, and it runs', { timeout: 300_000 }, async (t) => {
  const folder = await temporaryFolder(t);
  const [work, elsewhere] = [join(folder, 'work'), join(folder, 'elsewhere')];
  await cp(root, work, { recursive: true, filter: (path) => !leftOut.has(relative(root, path)) });
  await symlink(join(root, 'node_modules'), join(work, 'node_modules'));
  // What may lie in a working folder and must never leave it.
  await mkdir(join(work, 'data'));
  for (const secret of ['.env', 'tokens.json', 'data/session.json', 'server.key', 'left.tgz'])
    await writeFile(join(work, secret), 'secret');

  await run('node_modules/.bin/tsc', [], { cwd: work });
  await run('npm', ['run', '--silent', 'sbom'], { cwd: work });
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: work });
  const [{ filename, files }] = JSON.parse(stdout);
  const paths: string[] = files.map(({ path }: { path: string }) => path);
  const sources = ['src', 'routes'].map((each) => readdir(join(root, each), { recursive: true }));
  const modules = (await Promise.all(sources)).flat().filter((path) => /(?<!\.d)\.ts$/.test(path)).length;
  const assembly = (await readdir(join(root, 'src/kernel/assembly'))).length;
  const compiled = paths.filter((path) => /^dist\/(src|routes)\/[\w/-]+\.js$/.test(path));
  assert.equal(compiled.length, modules - assembly);
  const others = paths.filter(
    (path) => !compiled.includes(path) && !/^(docs|deploy)\/[\w/-]+\.(md|yaml|json)$/.test(path),
  );
  const named = ['.env.example', 'CHANGELOG.md', 'README.md', 'openapi.yaml', 'package.json', 'sbom.cdx.json'];
  assert.deepEqual(others.sort(), named.sort());

  const sbom = JSON.parse(await readFile(join(work, 'sbom.cdx.json'), 'utf8'));
  const lock = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8'));
  const nameOf = (path: string) => path.split('node_modules/').at(-1);
  const production = Object.entries<{ version: string; dev?: boolean }>(lock.packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true)
    .map(([path, { version }]) => `${nameOf(path)}@${version}`);
  const listed = sbom.components.map(({ name, version }: Record<string, string>) => `${name}@${version}`);
  assert.deepEqual(listed.sort(), [...new Set(production)].sort());

  await mkdir(elsewhere);
  await run('tar', ['-xzf', join(folder, filename), '-C', elsewhere]);
  await symlink(join(root, 'node_modules'), join(elsewhere, 'node_modules'));
  const entry = join(elsewhere, 'package/dist/src/server.js');
  const server = launch(t, { cwd: elsewhere, entry, env: { DATA_DIR: join(elsewhere, 'data') } });
  await server.logged('all sessions recovered');
  const json = { variables: { w: { values: [1] } } };
  assert.equal((await server.call('PUT', '/v1/sessions/s', { json })).status, 201);
  assert.deepEqual(await server.end('SIGTERM'), { code: 0, signal: null });
});
