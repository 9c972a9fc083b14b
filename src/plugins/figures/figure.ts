/**
 * Figures in Prometheus' form that are plain numbers wherever they are counted, and put into words when somebody asks: nothing
 * is done for them in between. Which there are is left to the files that call this.
 */
import type { Metric, Registry } from 'prom-client';
import type { Histogram } from '../../histogram.ts';

type Labels = Readonly<Record<string, string | number>>;
type Series<T> = readonly (readonly [labels: Labels, value: T])[];

interface Sample {
  readonly metricName?: string;
  readonly labels: Labels;
  readonly value: number;
}

/** One of these figures; `of` is asked each time. */
export function newFigure(
  registry: Registry,
  type: 'counter' | 'gauge',
  name: string,
  help: string,
  of: () => Series<number> | Promise<Series<number>>,
): void {
  register(registry, type, name, help, async () => (await of()).map(([labels, value]) => ({ labels, value })));
}

/** As `newFigure`, of histograms. */
export function newHistogram(registry: Registry, name: string, help: string, of: () => Series<Histogram>): void {
  register(registry, 'histogram', name, help, async () =>
    of().flatMap(([labels, each]) => samplesOf(name, labels, each)),
  );
}

function register(
  registry: Registry,
  type: 'counter' | 'gauge' | 'histogram',
  name: string,
  help: string,
  values: () => Promise<Sample[]>,
): void {
  const get = async () => ({ name, help, type, aggregator: 'sum', values: await values() });
  registry.registerMetric({ name, help, get, reset: () => undefined } as unknown as Metric);
}

function samplesOf(name: string, labels: Labels, { bounds, counts, sum }: Histogram): Sample[] {
  let below = 0;
  const buckets = counts.map((count, k) => {
    below += count;
    return { metricName: `${name}_bucket`, labels: { ...labels, le: bounds[k] ?? '+Inf' }, value: below };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: below },
  ];
}
