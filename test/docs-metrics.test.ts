/**
 * The figures that the documents, the dashboard and the alerts speak of are those of the server, and the other way round: each of
 * the server's own is documented, and on the dashboard where it is watched.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { parse } from 'yaml';
import { type Json, startApi } from './support/api.ts';
import { succeeded } from './support/calls.ts';

const root = join(import.meta.dirname, '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const docs = read('docs/metrics.md');
const dashboard: Json = JSON.parse(read('deploy/grafana/dashboards/adamax-server.json'));
const alerts: Json[] = parse(read('deploy/prometheus/alerts.yaml')).groups.flatMap(({ rules }: Json) => rules);
const panels: Json[] = dashboard.panels.filter(({ type }: Json) => type !== 'row');

const api = await startApi({ after });
const text = succeeded(await api.call('GET', '/metrics')).bytes.toString();
/** Names of figures, with their types. */
const types = new Map(
  [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name as string, type as string]),
);
const series = new Set(
  [...types].flatMap(([name, type]) => [
    name,
    ...(type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : []),
  ]),
);
/** `up` is Prometheus' own. */
const named = (where: string): string[] =>
  [...where.matchAll(/\b(?:adamax|process|nodejs)_[a-z0-9_]+/g)].map(([name]) => name);

function assertKnown(where: string, names: readonly string[]): void {
  const unknown = names.filter((name) => !series.has(name));
  assert.deepEqual(unknown, [], `${where} must speak of figures that there are`);
}

test('each figure is documented, with its type, and none that there is not', () => {
  const rows = new Map(
    [...docs.matchAll(/^\| `(adamax_\w+)` +\| (\w+) /gm)].map(([, name, type]) => [name as string, type as string]),
  );
  const own = [...types].filter(([name]) => name.startsWith('adamax_'));
  assert.ok(own.length > 25, `only ${own.length} figures were found`);
  assert.deepEqual(new Map([...rows].sort()), new Map(own.sort()));
  assertKnown('docs/metrics.md', named(docs));
  for (const page of ['README.md', 'docs/many-workers.md', 'docs/performance.md']) assertKnown(page, named(read(page)));
});

describe('the dashboard', () => {
  const queries: string[] = panels.flatMap(({ targets }) => targets.map(({ expr }: Json) => expr));
  const variables: string[] = dashboard.templating.list.map(({ query }: Json) => query.query ?? query);

  test('shows figures that there are, and all that are watched', () => {
    assertKnown('the dashboard', named([...queries, ...variables].join('\n')));
    const shown = new Set(named(queries.join('\n')).map((name) => name.replace(/_(bucket|sum|count)$/, '')));
    const hidden = [...types.keys()].filter((name) => name.startsWith('adamax_') && !shown.has(name));
    assert.deepEqual(hidden, []);
  });

  test('asks the source that its reader chooses, in panels that lie side by side', () => {
    const sources = [...panels, ...panels.flatMap(({ targets }) => targets)].map(({ datasource }) => datasource.uid);
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's own form.
    assert.deepEqual([...new Set(sources)], ['${DS_PROMETHEUS}']);
    assert.equal(dashboard.templating.list[0].name, 'DS_PROMETHEUS');
    const ids = dashboard.panels.map(({ id }: Json) => id);
    assert.equal(new Set(ids).size, ids.length, 'each panel has a number of its own');
    const places = new Set<string>();
    for (const { gridPos, title } of dashboard.panels) {
      assert.ok(gridPos.x + gridPos.w <= 24, `${title} must lie within the page`);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          assert.ok(!places.has(`${x} ${y}`), `${title} must not cover another panel`);
          places.add(`${x} ${y}`);
        }
      }
    }
  });
});

describe('each alert', () => {
  for (const { alert, expr, for: duration, labels, annotations } of alerts) {
    test(`${alert} is of figures that there are, says what to do, and is documented`, () => {
      assertKnown(alert, named(expr));
      assert.ok(named(expr).length > 0 || expr.includes('up{job="adamax-server"}'), expr);
      assert.match(duration, /^\d+[sm]$/);
      assert.match(labels.severity, /^(critical|warning)$/);
      assert.ok(
        annotations.summary.length > 10 && annotations.description.length > 30,
        'it must say what is wrong and what to do',
      );
      assert.match(docs, new RegExp(`^\\| \`${alert}\` +\\| ${labels.severity} +\\|`, 'm'));
    });
  }

  test('that is documented is there', () => {
    const documented = [...docs.matchAll(/^\| `(Adamax\w+)`/gm)].map(([, name]) => name);
    assert.deepEqual(
      documented,
      alerts.map(({ alert }) => alert),
    );
  });
});

test('Prometheus is told to look at the alerts, and for the server by the name that they use', () => {
  const { rule_files, scrape_configs } = parse(read('deploy/prometheus/prometheus.yaml'));
  assert.deepEqual(rule_files, ['alerts.yaml']);
  assert.deepEqual(
    scrape_configs.map((each: Json) => [each.job_name, each.metrics_path]),
    [['adamax-server', '/metrics']],
  );
});
