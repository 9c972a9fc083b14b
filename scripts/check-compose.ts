/**
 * The rules that compose.yaml must keep, most of which tie it to the Dockerfile: the same port, the same data folder, and
 * time enough to stop. Nothing in it is there for others than this machine. Whether Docker accepts the rest is Docker's to say.
 */
import { parse } from 'yaml';
import { environmentOf, parseStages, type Stage } from './dockerfile.ts';

interface Service {
  readonly build?: unknown;
  readonly image?: string;
  readonly profiles?: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly stop_grace_period?: string;
  readonly restart?: string;
  readonly read_only?: boolean;
  readonly tmpfs?: readonly string[];
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
}

interface Compose {
  readonly services?: Readonly<Record<string, Service>>;
  readonly volumes?: Readonly<Record<string, unknown>>;
}

const rules: Readonly<Record<string, (service: Service, compose: Compose, image: Stage | undefined) => boolean>> = {
  'the service is built from this folder': ({ build }) => build === '.',
  "the Dockerfile's port, and nothing else, is published, on loopback": ({ ports = [] }, _, image) =>
    ports.length === 1 && new RegExp(`^127\\.0\\.0\\.1:\\d+:${environmentOf(image, 'PORT')}$`).test(ports[0] ?? ''),
  "a named volume is mounted at the Dockerfile's DATA_DIR": ({ volumes = [] }, compose, image) =>
    Object.keys(compose.volumes ?? {}).some((name) => volumes.includes(`${name}:${environmentOf(image, 'DATA_DIR')}`)),
  'the server gives up waiting before it is killed': ({ environment, stop_grace_period }) => {
    const [, seconds] = /^(\d+)s$/.exec(stop_grace_period ?? '') ?? [];
    return Number(environment?.SHUTDOWN_TIMEOUT_MS) < Number(seconds) * 1000;
  },
  'the server comes back after a failure, but not after it was stopped': ({ restart }) => restart === 'unless-stopped',
  'only the volume and /tmp can be written': ({ read_only, tmpfs = [] }) =>
    read_only === true && tmpfs.join() === '/tmp',
  'no right of root is left': ({ cap_drop = [], security_opt = [] }) =>
    cap_drop.join() === 'ALL' && security_opt.includes('no-new-privileges:true'),
  'nobody is asked for a token, which must be said': ({ environment }) => environment?.ALLOW_ANONYMOUS === 'true',
  'what watches it starts only when it is asked for, has an exact version, is on loopback, and changes nothing here': (
    _,
    compose,
  ) =>
    othersOf(compose).every(
      ({ profiles = [], image = '', ports = [], volumes = [] }) =>
        profiles.join() === 'monitoring' &&
        /:v?\d+\.\d+\.\d+$/.test(image) &&
        ports.every((port) => port.startsWith('127.0.0.1:')) &&
        volumes.every((volume) => !volume.startsWith('.') || volume.endsWith(':ro')),
    ),
};

function othersOf({ services = {} }: Compose): Service[] {
  return Object.entries(services).flatMap(([name, service]) => (name === 'adamax-server' ? [] : service));
}

/** The names of the rules that a compose file breaks; empty if all is well. */
export function checkCompose(text: string, dockerfile: string): string[] {
  const compose = parse(text) as Compose;
  const service = compose.services?.['adamax-server'] ?? {};
  const image = parseStages(dockerfile).at(-1);
  return Object.entries(rules)
    .filter(([, holds]) => !holds(service, compose, image))
    .map(([name]) => name);
}
