/** Rows as text: a line on the terminal for each and, for a whole run, RESULTS.md with the machine and the method. */
import os from 'node:os';
import { compilerVersion } from './c-kernel.ts';
import { type Comparison, comparisonSeconds, pairsMax, pairsMin, sampleSeconds } from './pairs.ts';
import type { Benchmark, Row, Target } from './row.ts';

export interface Measured {
  readonly benchmark: Benchmark;
  readonly rows: readonly Row[];
}

export function line({ what, against, target, result }: Row): string {
  const claim = `${what}, against ${against}:`;
  if (typeof result === 'string') return `${claim} ${result}`;
  const { measured, reference, unit, pairs } = result;
  const [ratio, spread, wanted] = comparedCells(result, target);
  const figures = `${figure(measured)} to ${figure(reference)} ${unit}`;
  return `${claim} ${ratio}${pairs > 1 ? ` (${spread}, ${pairs} pairs)` : ''}, ${figures}${target === undefined ? '' : `; ${wanted}`}`;
}

export function resultsPage(command: string, date: Date, all: readonly Measured[]): string {
  const general = `Measured and reference run in alternation, after a warm-up: unless said otherwise samples of at least ${sampleSeconds} s each, and as many pairs as fit into ${comparisonSeconds} s, ${pairsMin} to ${pairsMax}. The ratio is measured / reference, taken pair by pair: its median is quoted, its least and greatest are the spread. The other figures are medians.`;
  const notes = [general, ...all.flatMap(({ benchmark }) => benchmark.notes)];
  return `# Benchmark results

Written by \`${command}\`; not to be edited.

- Machine: ${machine()}
- Date: ${date.toISOString().slice(0, 10)}
- Command: \`${command}\` (\`${command} -- <name>\` runs one of ${all.map(({ benchmark }) => benchmark.name).join(', ')}, and prints only)

| What | Against | Target | Ratio | Spread | Pairs | Measured | Reference | Unit |
| --- | --- | --- | --: | --: | --: | --: | --: | --- |
${all.flatMap(({ rows }) => rows.map(tableRow)).join('\n')}

## Method

${notes.map((note) => `- ${note}`).join('\n')}
`;
}

function tableRow({ what, against, target, result }: Row): string {
  if (typeof result === 'string') return cells(what, against, bound(target), '–', '–', '–', '–', '–', result);
  const [ratio, spread, wanted] = comparedCells(result, target);
  const { measured, reference, unit, pairs } = result;
  return cells(what, against, wanted, ratio, spread, String(pairs), figure(measured), figure(reference), unit);
}

function cells(...texts: readonly string[]): string {
  return `| ${texts.join(' | ')} |`;
}

function comparedCells(result: Comparison, target: Target | undefined): [string, string, string] {
  const verdict = target === undefined ? '' : meets(result, target) ? ': met' : ': missed';
  const spread = result.spread.map((ratio) => ratio.toFixed(2)).join('–');
  return [result.ratio.toFixed(2), result.pairs > 1 ? spread : '–', bound(target) + verdict];
}

function bound(target: Target | undefined): string {
  if (target === undefined) return '–';
  if ('atLeast' in target) return `at least ${target.atLeast}`;
  if ('atMostMore' in target) return `at most ${target.atMostMore} ${target.unit} more`;
  return `at most ${target.atMost}${target.unit === undefined ? '' : ` ${target.unit}`}`;
}

function meets({ ratio, measured, reference }: Comparison, target: Target): boolean {
  if ('atLeast' in target) return ratio >= target.atLeast;
  if ('atMostMore' in target) return measured - reference <= target.atMostMore;
  return (target.unit === undefined ? ratio : measured) <= target.atMost;
}

/** Three significant digits; spread and machine allow no more. */
function figure(value: number): string {
  return Number(value.toPrecision(3)).toLocaleString('en-US', { maximumFractionDigits: 6 });
}

function machine(): string {
  const [cpu] = os.cpus();
  const memory = Math.round(os.totalmem() / 2 ** 30);
  return [
    cpu?.model.trim() ?? 'unknown CPU',
    `${os.availableParallelism()} cores`,
    `${memory} GiB of memory`,
    `${os.type()} ${os.release()} ${os.arch()}`,
    `Node ${process.versions.node}`,
    compilerVersion() ?? 'no C compiler',
  ].join(', ');
}
