// Trains the digit classifier once in every way in which workers can share a session (docs/many-workers.md), with four
// workers of which the first is ten times slower than the others, and says what that costs in each.

import type { Sequential } from '@tensorflow/tfjs-layers';
import { AdamaxClient, type WorkerState } from './client.ts';
import { buildModel, type Digits, loadDigits, setWeights } from './digits.ts';
import { accuracy, definition, percent } from './mnist.ts';
import { WorkerPool } from './workers.ts';

/** Of each worker, how many times as long as need be a gradient takes it. */
const SLOWNESS = [10, 1, 1, 1];
/** Each training applies so many: a multiple of what makes a step in each mode. */
const GRADIENTS = 300;
const SEED = 1;
const MAX_STALENESS = 8;
const MAX_LEAD = 3;

interface Mode {
  name: string;
  aggregation: { mode: string; [member: string]: unknown };
  /** Gradients that make a step. */
  together?: number;
}

const MODES: Mode[] = [
  { name: 'async', aggregation: { mode: 'async' } },
  { name: 'async, reject', aggregation: { mode: 'async', max_staleness: MAX_STALENESS, staleness_policy: 'reject' } },
  { name: 'async, scale', aggregation: { mode: 'async', max_staleness: MAX_STALENESS, staleness_policy: 'scale' } },
  { name: 'sync, 4 of 4', together: 4, aggregation: { mode: 'sync', replicas_to_aggregate: 4, timeout_ms: 5000 } },
  {
    name: 'sync, 3 of 4',
    together: 3,
    aggregation: { mode: 'sync', replicas_to_aggregate: 3, total_num_replicas: 4, timeout_ms: 5000 },
  },
  { name: 'ssp', aggregation: { mode: 'ssp', max_lead: MAX_LEAD, timeout_ms: 5000 } },
];

/** The table's columns, each as wide as its head. */
const HEADS = ['mode         ', 'wall time', 'steps', 'pushed', 'refused', 'slow', 'staleness', 'accuracy'];

const LEGEND = `\
  Each training is over when ${GRADIENTS} gradients have been applied, so all learn from as many digits: a step takes four or
  three of them in the sync modes and one in the others. All begin with the same values, and each lets its learning rate
  fall to 0 over its steps. With reject and scale max_staleness is ${MAX_STALENESS}, with ssp max_lead is ${MAX_LEAD}.

  wall time  from when all workers are up until the last step is made
  steps      iterations of the session; in async and ssp, gradients under way at the end add a few, at a learning rate of 0
  pushed     gradients that workers sent, and how many of them were refused as stale
  slow       the slow worker's share of the gradients applied
  staleness  mean of the gradients applied
  accuracy   on held-back digits that no worker has seen`;

export async function compareModes(url: string): Promise<void> {
  const model = await buildModel();
  const { training, heldBack } = loadDigits();
  const digits = `${training.labels.length} digits, ${heldBack.labels.length} held back`;
  console.log(`MNIST: ${digits}, ${SLOWNESS.length} workers, the first ${SLOWNESS[0]} times slower`);
  const workers = new WorkerPool('mnist-worker.ts', url, SLOWNESS);
  try {
    await workers.ready();
    console.log(line(HEADS));
    for (const mode of MODES) console.log(line(await train(url, mode, workers, model, heldBack)));
    console.log(`\n${LEGEND}`);
  } finally {
    workers.stop();
  }
}

/** Returns the mode's line of the table. */
async function train(
  url: string,
  mode: Mode,
  pool: WorkerPool,
  model: Sequential,
  heldBack: Digits,
): Promise<string[]> {
  const session = 'compare';
  const client = new AdamaxClient(url, session);
  const steps = GRADIENTS / (mode.together ?? 1);
  await client.createSession({ ...definition(model, steps, SEED), aggregation: mode.aggregation });
  const milliseconds = await pool.train({ session, steps });

  const { tensors, iterations } = await client.pull();
  setWeights(model, tensors);
  const workers = await client.listWorkers();
  await client.deleteSession();
  const sum = (of: (worker: WorkerState) => number) => workers.reduce((total, worker) => total + of(worker), 0);
  const applied = sum((worker) => worker.steps);
  const refused = sum((worker) => worker.rejected);
  const staleness = sum((worker) => (worker.mean_staleness ?? 0) * worker.steps) / applied;
  return [
    mode.name,
    `${(milliseconds / 1000).toFixed(1)} s`,
    String(iterations),
    String(applied + refused),
    String(refused),
    `${Math.round((100 * (workers[0]?.steps ?? 0)) / applied)} %`,
    staleness.toFixed(1),
    percent(accuracy(model, heldBack)),
  ];
}

function line(cells: string[]): string {
  const width = (i: number) => HEADS[i]?.length ?? 0;
  const [first = '', ...numbers] = cells;
  return `  ${[first.padEnd(width(0)), ...numbers.map((cell, i) => cell.padStart(width(i + 1)))].join('  ')}`;
}
