// Writes sbom.cdx.json: what a release consists of, as a CycloneDX document, every production package of the lock file with
// its exact version and its hash. It is made when a release is packed and goes into the package; it is not kept here.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const { name } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const options = ['--sbom-format', 'cyclonedx', '--sbom-type', 'application', '--package-lock-only'];
const made = execFileSync('npm', ['sbom', ...options], { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
const sbom = JSON.parse(made);
// npm takes the folder's name for the package's, and with `--omit dev` it leaves out what development packages use too.
sbom.metadata.component.name = name;
const isProduction = ({ properties }) => !properties.some((each) => each.name === 'cdx:npm:package:development');
sbom.components = sbom.components.filter(isProduction);
const kept = new Set([sbom.metadata.component, ...sbom.components].map((each) => each['bom-ref']));
sbom.dependencies = sbom.dependencies
  .filter(({ ref }) => kept.has(ref))
  .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((each) => kept.has(each)) }));
writeFileSync(join(root, 'sbom.cdx.json'), `${JSON.stringify(sbom, null, 2)}\n`);
