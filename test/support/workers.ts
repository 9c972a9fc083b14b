/** Pushes of workers that wait for each other. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer, Api, Call, Json } from './api.ts';
import { create, succeeded } from './calls.ts';

/**
 * With betas of 0 and one step, slot `m` is the very gradient that the step was of, and w changes by its sign, but for epsilon,
 * which is too small to be seen next to |g| >= 1 in float32.
 */
export const bare = {
  optimizer: { class_name: 'Adamax', config: { learning_rate: 1, beta_1: 0, beta_2: 0, epsilon: 1e-12 } },
};

/** A session of these variables whose steps take `replicas` gradients. */
export function createSync(
  api: Api,
  name: string,
  variables: object,
  replicas: number,
  rules: object = {},
  others: object = {},
): Promise<Json> {
  const aggregation = { mode: 'sync', replicas_to_aggregate: replicas, ...rules };
  return create(api, name, variables, { ...bare, ...others, aggregation });
}

/** The gradients of a worker for the step after iteration `base`. */
export function pushOf(
  api: Api,
  name: string,
  worker: string,
  base: number | undefined,
  gradients: object,
  headers: Call['headers'] = {},
): Promise<Answer> {
  const query = base === undefined ? '' : `&base=${base}`;
  return api.call('POST', `/v1/sessions/${name}/gradients?worker=${encodeURIComponent(worker)}${query}`, {
    json: { gradients },
    headers,
  });
}

export async function workersOf(api: Api, name: string): Promise<Json[]> {
  return succeeded(await api.call('GET', `/v1/sessions/${name}/workers`)).json.workers;
}

/** Resolves when exactly these workers wait for others. */
export async function waiting(api: Api, name: string, ...workers: string[]): Promise<void> {
  for (;;) {
    const found = (await workersOf(api, name)).filter((each) => each.waiting).map((each) => each.name);
    if (JSON.stringify(found) === JSON.stringify([...workers].sort())) return;
    await sleep(2);
  }
}
