/**
 * The rules that deploy/kubernetes must keep: that the objects fit one another, the Dockerfile, the server's routes and its
 * variables, and that the pod may do no more than it needs. Whether Kubernetes knows each field is Kubernetes' to say.
 */
import { parseAllDocuments } from 'yaml';
import { environmentOf, restsOf, type Stage } from './dockerfile.ts';

/** Parsed YAML, read member by member; a rule that finds something else there fails. */
type Parsed = ReturnType<typeof JSON.parse>;

/** What the objects have to fit. */
export interface Surroundings {
  /** The last stage of the Dockerfile. */
  readonly image: Stage | undefined;
  /** Paths that the server answers. */
  readonly routes: readonly string[];
  /** Environment variables that it knows. */
  readonly variables: readonly string[];
}

interface Objects {
  readonly statefulSet: Parsed;
  readonly pod: Parsed;
  readonly container: Parsed;
  readonly services: readonly Parsed[];
  readonly budget: Parsed;
  readonly policy: Parsed;
  readonly kustomization: Parsed;
  readonly files: readonly string[];
}

const name = 'app.kubernetes.io/name';

const rules: Readonly<Record<string, (objects: Objects, surroundings: Surroundings) => boolean>> = {
  'every file is parsed and belongs to the kustomization': ({ kustomization, files }) =>
    [...kustomization.resources, 'kustomization.yaml'].sort().join() === [...files].sort().join(),
  "one replica keeps its data in a claim at the Dockerfile's DATA_DIR": ({ statefulSet, container }, { image }) => {
    const [claim] = statefulSet.spec.volumeClaimTemplates;
    const mount = container.volumeMounts.find((each: Parsed) => each.name === claim.metadata.name);
    return statefulSet.spec.replicas === 1 && mount.mountPath === environmentOf(image, 'DATA_DIR') && !mount.readOnly;
  },
  "the pod runs as the Dockerfile's user": ({ pod: { securityContext } }, { image }) => {
    const { runAsUser, runAsGroup, fsGroup, runAsNonRoot } = securityContext;
    return runAsNonRoot && fsGroup === runAsGroup && restsOf(image, 'USER').at(-1) === `${runAsUser}:${runAsGroup}`;
  },
  'the pod may do nothing that it does not need': ({ pod, container: { securityContext } }) =>
    pod.securityContext.seccompProfile.type === 'RuntimeDefault' &&
    pod.automountServiceAccountToken === false &&
    securityContext.allowPrivilegeEscalation === false &&
    securityContext.readOnlyRootFilesystem === true &&
    securityContext.capabilities.drop.join() === 'ALL' &&
    securityContext.capabilities.add === undefined,
  'the probes ask for routes that there are: /healthz whether it lives, /readyz whether it is ready': (
    { container: { startupProbe, livenessProbe, readinessProbe } },
    { routes },
  ) =>
    ['/healthz', '/readyz'].every((path) => routes.includes(path)) &&
    startupProbe.httpGet.path === '/healthz' &&
    livenessProbe.httpGet.path === '/healthz' &&
    readinessProbe.httpGet.path === '/readyz',
  "every port is the Dockerfile's": ({ container, services, policy }, { image }) => {
    const port = Number(environmentOf(image, 'PORT'));
    const probes = [container.startupProbe, container.livenessProbe, container.readinessProbe];
    const targets = services.flatMap(({ spec }) => spec.ports.map((each: Parsed) => each.targetPort));
    const admitted = policy.spec.ingress.flatMap((each: Parsed) => each.ports.map((one: Parsed) => one.port));
    return (
      container.ports.length === 1 &&
      container.ports[0].containerPort === port &&
      [...probes.map(({ httpGet }) => httpGet.port), ...targets, ...admitted].every((each) =>
        [port, container.ports[0].name].includes(each),
      )
    );
  },
  'the server gives up waiting before it is killed, the preStop sleep counted': ({ pod, container }) =>
    container.lifecycle.preStop.sleep.seconds * 1000 + Number(valueIn(container, 'SHUTDOWN_TIMEOUT_MS')) <
    pod.terminationGracePeriodSeconds * 1000,
  'every variable is one that the server knows': ({ container }, { variables }) =>
    container.env.every((each: Parsed) => variables.includes(each.name) || each.name.startsWith('OTEL_')),
  'nobody comes in without a token, and the tokens come from a Secret': ({ pod, container }) => {
    const file: string = valueIn(container, 'AUTH_FILE');
    const mount = container.volumeMounts.find(({ mountPath }: Parsed) => file.startsWith(`${mountPath}/`));
    const volume = pod.volumes.find((each: Parsed) => each.name === mount.name);
    // A subPath would not follow a Secret that changes.
    return volume.secret !== undefined && mount.subPath === undefined && !valueIn(container, 'ALLOW_ANONYMOUS');
  },
  'the memory that it may use is what it asked for': ({ container: { resources } }) =>
    resources.limits.memory !== undefined && resources.limits.memory === resources.requests.memory,
  "the image has an exact version, as kustomize's images need it": ({ container }) =>
    /^adamax-server:\d+\.\d+\.\d+$/.test(container.image),
  "the services lead to the pod; a headless one is the StatefulSet's": ({ statefulSet, services }) => {
    const headless = services.filter(({ spec }) => spec.clusterIP === 'None');
    const labels = statefulSet.spec.template.metadata.labels;
    return (
      services.length === 2 &&
      headless.length === 1 &&
      headless[0].metadata.name === statefulSet.spec.serviceName &&
      [statefulSet.spec.selector.matchLabels, ...services.map(({ spec }) => spec.selector)].every(
        (selector) => selector[name] === labels[name] && Object.keys(selector).length === 1,
      )
    );
  },
  'its node can be drained': ({ statefulSet, budget }) =>
    budget.spec.maxUnavailable === 1 &&
    budget.spec.selector.matchLabels[name] === statefulSet.spec.template.metadata.labels[name],
  'the network policy is about the pod, names who may come in, and lets nothing out': ({ statefulSet, policy }) => {
    const { podSelector, policyTypes, ingress, egress } = policy.spec;
    return (
      podSelector.matchLabels[name] === statefulSet.spec.template.metadata.labels[name] &&
      policyTypes.join() === 'Ingress,Egress' &&
      egress.length === 0 &&
      ingress.every((each: Parsed) => each.from?.length > 0 && each.ports?.length > 0)
    );
  },
};

function valueIn(container: Parsed, variable: string): string {
  return container.env.find((each: Parsed) => each.name === variable)?.value;
}

/** The names of the rules that the files (texts by name) break; empty if all is well. */
export function checkKubernetes(files: Readonly<Record<string, string>>, surroundings: Surroundings): string[] {
  const objects: Parsed[] = Object.values(files).flatMap((text) =>
    parseAllDocuments(text).map((document) => document.toJS()),
  );
  const ofKind = (kind: string) => objects.filter((each) => each.kind === kind);
  const [statefulSet] = ofKind('StatefulSet');
  const pod = statefulSet.spec.template.spec;
  const read: Objects = {
    statefulSet,
    pod,
    container: pod.containers[0],
    services: ofKind('Service'),
    budget: ofKind('PodDisruptionBudget')[0],
    policy: ofKind('NetworkPolicy')[0],
    kustomization: ofKind('Kustomization')[0],
    files: Object.keys(files),
  };
  const holds = (rule: (typeof rules)[string]): boolean => {
    try {
      return rule(read, surroundings);
    } catch (error) {
      if (error instanceof TypeError) return false;
      throw error;
    }
  };
  return Object.entries(rules)
    .filter(([, rule]) => !holds(rule))
    .map(([broken]) => broken);
}
