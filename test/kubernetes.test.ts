/** deploy/kubernetes keeps its rules, and every rule can fail: each case changes one place and names what it breaks. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { checkKubernetes, type Surroundings } from '../scripts/check-kubernetes.ts';
import { parseStages } from '../scripts/dockerfile.ts';

const root = join(import.meta.dirname, '..');
const folder = join(root, 'deploy/kubernetes');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
const files = Object.fromEntries(names.map((name) => [name, read(`deploy/kubernetes/${name}`)]));
const variables = [...read('src/config.ts').matchAll(/^ {2}([A-Z][A-Z\d_]+): /gm)].map(([, name]) => name as string);
const surroundings: Surroundings = {
  image: parseStages(read('Dockerfile')).at(-1),
  routes: Object.keys(parse(read('openapi.yaml')).paths),
  variables,
};

const broken = {
  files: 'every file is parsed and belongs to the kustomization',
  data: "one replica keeps its data in a claim at the Dockerfile's DATA_DIR",
  user: "the pod runs as the Dockerfile's user",
  rights: 'the pod may do nothing that it does not need',
  probes: 'the probes ask for routes that there are: /healthz whether it lives, /readyz whether it is ready',
  port: "every port is the Dockerfile's",
  patience: 'the server gives up waiting before it is killed, the preStop sleep counted',
  variables: 'every variable is one that the server knows',
  tokens: 'nobody comes in without a token, and the tokens come from a Secret',
  memory: 'the memory that it may use is what it asked for',
  image: "the image has an exact version, as kustomize's images need it",
  services: "the services lead to the pod; a headless one is the StatefulSet's",
  budget: 'its node can be drained',
  policy: 'the network policy is about the pod, names who may come in, and lets nothing out',
};

const cases: [file: string, from: string, to: string, rules: (keyof typeof broken)[]][] = [
  ['kustomization.yaml', '  - services.yaml\n', '', ['files']],
  ['stateful-set.yaml', 'replicas: 1', 'replicas: 2', ['data']],
  ['stateful-set.yaml', 'mountPath: /data', 'mountPath: /var/data', ['data']],
  ['stateful-set.yaml', 'runAsUser: 10001', 'runAsUser: 0', ['user']],
  ['stateful-set.yaml', 'fsGroup: 10001', 'fsGroup: 1', ['user']],
  ['stateful-set.yaml', 'runAsNonRoot: true', 'runAsNonRoot: false', ['user']],
  ['stateful-set.yaml', 'type: RuntimeDefault', 'type: Unconfined', ['rights']],
  ['stateful-set.yaml', 'automountServiceAccountToken: false', '', ['rights']],
  ['stateful-set.yaml', 'allowPrivilegeEscalation: false', '', ['rights']],
  ['stateful-set.yaml', 'readOnlyRootFilesystem: true', '', ['rights']],
  ['stateful-set.yaml', 'drop: [ALL]', 'drop: [NET_RAW]', ['rights']],
  ['stateful-set.yaml', 'drop: [ALL]', 'drop: [ALL]\n              add: [SYS_ADMIN]', ['rights']],
  ['stateful-set.yaml', 'path: /readyz', 'path: /healthz', ['probes']],
  [
    'stateful-set.yaml',
    'periodSeconds: 10',
    'periodSeconds: 10\n            httpGet: {path: /readyz, port: http}',
    ['probes'],
  ],
  ['stateful-set.yaml', 'containerPort: 8080', 'containerPort: 80', ['port']],
  ['stateful-set.yaml', 'terminationGracePeriodSeconds: 60', 'terminationGracePeriodSeconds: 50', ['patience']],
  ['stateful-set.yaml', 'seconds: 5\n', 'seconds: 15\n', ['patience']],
  ['stateful-set.yaml', 'name: SHUTDOWN_TIMEOUT_MS', 'name: SHUTDOWN_TIMEOUT', ['patience', 'variables']],
  ['stateful-set.yaml', 'name: AUTH_FILE', 'name: AUTH', ['variables', 'tokens']],
  ['stateful-set.yaml', '/etc/adamax-server/tokens/tokens.json', '/etc/tokens.json', ['tokens']],
  ['stateful-set.yaml', 'secret:\n            secretName: adamax-server-tokens', 'emptyDir: {}', ['tokens']],
  [
    'stateful-set.yaml',
    'mountPath: /etc/adamax-server/tokens',
    'mountPath: /etc/adamax-server/tokens\n              subPath: a',
    ['tokens'],
  ],
  ['stateful-set.yaml', '            limits:\n              memory: 4Gi\n', '', ['memory']],
  ['stateful-set.yaml', 'adamax-server:0.1.0', 'adamax-server:latest', ['image']],
  ['stateful-set.yaml', 'serviceName: adamax-server-pods', 'serviceName: adamax-server', ['services']],
  ['services.yaml', 'clusterIP: None', 'clusterIP: 10.0.0.1', ['services']],
  ['disruption-budget.yaml', 'maxUnavailable: 1', 'minAvailable: 1', ['budget']],
  ['disruption-budget.yaml', 'name: adamax-server\n', 'name: other\n', ['budget']],
  ['network-policy.yaml', 'egress: []', 'egress: [{}]', ['policy']],
  ['network-policy.yaml', 'policyTypes: [Ingress, Egress]', 'policyTypes: [Ingress]', ['policy']],
  ['network-policy.yaml', '- port: http', '- port: 443', ['port']],
];

describe('deploy/kubernetes', () => {
  test('keeps every rule', () => assert.deepEqual(checkKubernetes(files, surroundings), []));

  for (const [file, from, to, rules] of cases) {
    test(`in ${file} ${JSON.stringify(from)} cannot become ${JSON.stringify(to)}`, () => {
      const text = files[file] as string;
      assert.ok(text.includes(from), `${file} holds ${JSON.stringify(from)}`);
      const at = text.lastIndexOf(from);
      const changed = { ...files, [file]: text.slice(0, at) + to + text.slice(at + from.length) };
      assert.deepEqual(
        checkKubernetes(changed, surroundings),
        rules.map((rule) => broken[rule]),
      );
    });
  }

  test('a server that loses a probed route, or a variable, is noticed', () => {
    const without = (members: readonly string[], gone: string) => members.filter((each) => each !== gone);
    const { routes } = surroundings;
    assert.deepEqual(checkKubernetes(files, { ...surroundings, routes: without(routes, '/readyz') }), [broken.probes]);
    const fewer = { ...surroundings, variables: without(variables, 'AUTH_FILE') };
    assert.deepEqual(checkKubernetes(files, fewer), [broken.variables]);
  });

  test('the component for TLS changes the container that there is, and asks every probe by HTTPS', () => {
    const { patches } = parse(read('deploy/kubernetes/tls/kustomization.yaml'));
    const patch = parse(patches[0].patch);
    const [set] = parseAllDocuments(files['stateful-set.yaml'] as string).map((document) => document.toJS());
    assert.deepEqual([patch.kind, patch.metadata.name], [set.kind, set.metadata.name]);
    const [container] = patch.spec.template.spec.containers;
    const [original] = set.spec.template.spec.containers;
    assert.equal(container.name, original.name);
    const probes = Object.keys(original).filter((name) => name.endsWith('Probe'));
    assert.equal(probes.length, 3);
    for (const probe of probes) assert.equal(container[probe].httpGet.scheme, 'HTTPS', probe);
    const [{ mountPath }] = container.volumeMounts;
    for (const { value } of container.env) assert.ok(value.startsWith(`${mountPath}/tls.`), value);
  });
});
