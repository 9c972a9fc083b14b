// The floors, bottom up; a file imports from its own floor or below. `npm run check:architecture` holds them.
const floors = [
  '^src/(content-watch|errors|histogram|limits)\\.ts$',
  '^src/tensor/',
  '^src/kernel/',
  '^src/optimizer/',
  '^src/session/',
  '^src/journal/',
  '^src/store/',
  '^src/schemas/',
  '^src/access/',
  '^src/plugins/',
  '^routes/',
  '^src/app\\.ts$',
  '^src/operator/',
  '^src/cli\\.ts$',
  '^src/server\\.ts$',
];

const upward = floors.slice(0, -1).map((floor, index) => ({
  name: `floor-${index}-imports-nothing-above`,
  comment: 'A file imports from its own floor or below.',
  severity: 'error',
  from: { path: floor },
  to: { path: floors.slice(index + 1) },
}));

const pure = '^src/(tensor|kernel|optimizer|session)/';

export default {
  forbidden: [
    ...upward,
    { name: 'no-circles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'the-state-machine-is-pure',
      comment: 'No disk, no network, no HTTP, no randomness and no clock below the journal.',
      severity: 'error',
      from: { path: pure },
      to: {
        path: ['^(node:)?(fs|net|http|crypto|timers|child_process|os|perf_hooks)(/|$)', 'fastify', 'pino'],
      },
    },
    {
      name: 'only-the-kernel-has-threads',
      severity: 'error',
      from: { path: '^(src|routes)/', pathNot: '^src/kernel/threads?\\.ts$' },
      to: { path: '^(node:)?worker_threads$' },
    },
    {
      name: 'only-the-journal-and-the-store-open-data-files',
      comment:
        'plugins/package-version.ts reads package.json, for its version, access/auth-file.ts the tokens, and plugins/connections/certificate.ts what TLS needs.',
      severity: 'error',
      from: {
        path: '^(src|routes)/',
        pathNot: [
          '^src/(journal|store)/',
          '^src/(plugins/(package-version|connections/certificate)|access/auth-file)\\.ts$',
        ],
      },
      to: { path: '^(node:)?fs(/|$)' },
    },
    {
      name: 'a-route-sees-the-store-only-through-the-app',
      severity: 'error',
      from: { path: '^routes/' },
      to: { path: '^src/(journal|store|session/session\\.ts$)', preCompilationOnly: false },
    },
    {
      name: 'a-command-knows-no-http',
      severity: 'error',
      from: { path: '^src/(operator/|cli\\.ts$)' },
      to: { path: ['^src/(app|config)\\.ts$', '^src/(schemas|plugins)/', '^routes/'] },
    },
    {
      name: 'the-ground-stands-alone',
      severity: 'error',
      from: { path: '^src/(content-watch|errors|histogram|limits|config)\\.ts$' },
      to: { path: '^(src|routes)/', pathNot: '^src/limits\\.ts$' },
    },
    {
      name: 'no-development-packages',
      severity: 'error',
      from: { path: '^(src|routes)/' },
      to: { dependencyTypes: ['npm-dev'] },
    },
    { name: 'everything-resolves', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    parser: 'swc',
    tsPreCompilationDeps: 'specify',
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^src/kernel/assembly' },
  },
};
