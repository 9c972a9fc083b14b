/**
 * `npm run overload [-- --seconds 60 --connections 1000 --kind json]`: the server under ten times the load that
 * it can serve. For each kind of push: as many workers as are normal find out what it serves and how late the slowest replies
 * are; then ten times as many requests a second come, for a minute; then the workers are back. Prints a table, and what is not
 * as promised, with exit code 1. The load comes from processes of its own (overload-load.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Children, nextMessage } from './children.ts';
import type { Format } from './flood.ts';
import { windowMs } from './latency.ts';
import type { LoadOrder, LoadReport } from './overload-load.ts';
import { type Server, startServer } from './server.ts';

interface Kind {
  readonly name: string;
  readonly format: Format;
  readonly floats: number;
  /** As many as are normal, and the server's REQUESTS_MAX, which an operator sets by them. */
  readonly workers: number;
  readonly requestsMax: number;
}

const kinds: readonly Kind[] = [
  { name: 'json', format: 'json', floats: 1_000, workers: 200, requestsMax: 256 },
  { name: 'safetensors', format: 'safetensors', floats: 1_000, workers: 200, requestsMax: 256 },
  { name: 'large', format: 'safetensors', floats: 250_000, workers: 32, requestsMax: 48 },
];
const factor = 10;
const [warmUpSeconds, normalSeconds] = [5, 15];
/** What is promised. */
const [slowdownMax, recoverySecondsMax] = [3, 1];

interface Outcome {
  readonly normal: LoadReport;
  readonly over: LoadReport;
  readonly rate: number;
  readonly refusedByWorkers: number;
  readonly recoverySeconds: number;
  /** Steps that the session has taken, and replies that said so. */
  readonly steps: readonly [taken: number, acknowledged: number];
}

interface Plan {
  readonly seconds: number;
  readonly connections: number;
}

async function measure(
  children: Children,
  { format, floats, workers: count, requestsMax }: Kind,
  plan: Plan,
): Promise<Outcome> {
  const server = await startServer(children, undefined, undefined, { REQUESTS_MAX: String(requestsMax) });
  const path = await server.createSession({ w: [floats] }, 'always');
  const [workers, crowd] = [0, 1].map(() => children.fork('overload-load.ts', format, String(floats)));
  const send = async (child: typeof workers, order: Omit<LoadOrder, 'port' | 'path'>): Promise<LoadReport> => {
    const answer = nextMessage(child as NonNullable<typeof child>);
    child?.send({ port: server.port, path: `${path}/gradients`, ...order });
    return (await answer) as LoadReport;
  };
  const push = (seconds: number) => send(workers, { connections: count, seconds });
  const first = await push(warmUpSeconds);
  const normal = await push(normalSeconds);
  const rate = (factor * normal.accepted) / normalSeconds;
  const overloading = send(crowd, { connections: plan.connections, seconds: plan.seconds, rate });
  await sleep(plan.seconds * 1000);
  const again = await push(normalSeconds);
  const over = await overloading;
  const reports = [first, normal, over, again];
  const acknowledged = reports.reduce((sum, { accepted }) => sum + accepted, 0);
  return {
    normal,
    over,
    rate,
    refusedByWorkers: first.refused + normal.refused,
    recoverySeconds: recovery(normal, again),
    steps: [await stepsOf(server, path), acknowledged],
  };
}

/** Until nobody is refused any more, and the end of the first window that is no worse than the worst under normal load. */
function recovery(normal: LoadReport, again: LoadReport): number {
  const worst = Math.max(...normal.windows.filter(Number.isFinite));
  const recovered = again.windows.findIndex((p99) => p99 <= worst);
  const until = recovered < 0 ? Number.POSITIVE_INFINITY : (recovered + 1) * windowMs;
  return Math.max(until, again.lastRefusal) / 1000;
}

async function stepsOf(server: Server, path: string): Promise<number> {
  return JSON.parse(await server.call('GET', path)).iterations;
}

function table({ name, floats, workers, requestsMax }: Kind, outcome: Outcome, plan: Plan): string {
  const { normal, over, rate, recoverySeconds } = outcome;
  const pair = ({ median, p99 }: LoadReport['latencies']['accepted']) =>
    Number.isFinite(p99) ? `${median.toFixed(1)} / ${p99.toFixed(1)}` : '–';
  const row = (what: string, { accepted, refused, latencies }: LoadReport, seconds: number) =>
    `| ${what} | ${(accepted / seconds).toFixed(0)} | ${pair(latencies.accepted)} | ${(refused / seconds).toFixed(0)} | ${pair(latencies.refused)} |`;
  const sent = (over.accepted + over.refused + over.failed) / plan.seconds;
  return [
    `**${name}**: pushes of ${floats.toLocaleString('en-US')} floats, \`durability: always\`, \`REQUESTS_MAX=${requestsMax}\`.`,
    '',
    '| | pushes served a second | p50 / p99, ms | refused a second | p50 / p99, ms |',
    '| --- | --: | --: | --: | --: |',
    row(`${workers} workers`, normal, normalSeconds),
    row(`${rate.toFixed(0)} requests a second`, over, plan.seconds),
    '',
    `Accepted pushes: p99 ${slowdown(outcome).toFixed(2)} times that under normal load. Of the ${rate.toFixed(0)} requests a second ${sent.toFixed(0)} could be sent (${(sent / (rate / factor)).toFixed(1)} times what is served normally); the others found all ${plan.connections} connections busy. Normal again after ${recoverySeconds.toFixed(1)} s.`,
    '',
  ].join('\n');
}

function slowdown({ normal, over }: Outcome): number {
  return over.latencies.accepted.p99 / normal.latencies.accepted.p99;
}

/** What is not as promised. */
function faults(outcome: Outcome): string[] {
  const { over, normal, refusedByWorkers, recoverySeconds, steps } = outcome;
  const { p99 } = normal.latencies.accepted;
  const promises: [boolean, string][] = [
    [slowdown(outcome) <= slowdownMax, `accepted pushes must keep ${slowdownMax} times their p99`],
    [over.refused > 0, 'there must be refusals'],
    [over.latencies.refused.p99 <= slowdownMax * p99, `refusals must be as quick as ${slowdownMax} times a push's p99`],
    [refusedByWorkers === 0, `workers alone must never be refused. Received: ${refusedByWorkers} refusals`],
    [recoverySeconds <= recoverySecondsMax, `it must be as before within ${recoverySecondsMax} s`],
    [steps[0] === steps[1], `steps must be those acknowledged, ${steps[1]}. Received: ${steps[0]}`],
    [over.failed === 0, `every request must be answered, refusals with Retry-After. Received: ${over.failed} others`],
  ];
  return promises.filter(([isKept]) => !isKept).map(([, text]) => text);
}

async function main(): Promise<void> {
  const number = (fallback: string) => ({ type: 'string', default: fallback }) as const;
  const options = {
    seconds: number('60'),
    connections: number('1000'),
    kind: { type: 'string' },
  } as const;
  const { values } = parseArgs({ options });
  const plan = {
    seconds: Number(values.seconds),
    connections: Number(values.connections),
  };
  const chosen = kinds.filter(({ name }) => values.kind === undefined || name === values.kind);
  const children = new Children();
  for (const kind of chosen) {
    const outcome = await measure(children, kind, plan);
    await children.stop();
    console.log(table(kind, outcome, plan));
    for (const fault of faults(outcome)) {
      process.exitCode = 1;
      console.log(`NOT KEPT: ${fault}\n`);
    }
  }
}

main().then(
  () => process.exit(),
  (error: Error) => {
    console.error(error);
    process.exit(1);
  },
);
