// Writes openapi.yaml from the routes' schemas; with `--check` fails if the file is not what would be written.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { build } from '../src/app.ts';
import { readConfig } from '../src/config.ts';
import { openapiYaml } from '../src/plugins/openapi.ts';
import { Store } from '../src/store/store.ts';

const target = join(import.meta.dirname, '../openapi.yaml');
const folder = mkdtempSync(join(tmpdir(), 'openapi-'));
try {
  const log = pino({ level: 'silent' });
  const config = readConfig({ DATA_DIR: folder });
  const store = await Store.open(config, log);
  const app = await build(config, store, log);
  await app.ready();
  const text = openapiYaml(app);
  await app.close();
  await store.close();
  if (!process.argv.includes('--check')) writeFileSync(target, text);
  else if (readFileSync(target, 'utf8') !== text) {
    process.stderr.write('openapi.yaml must be generated anew: npm run generate\n');
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}
