/** What is sent to a crowd's session: each request made from its number alone, the same whenever it is asked for. */
import type { Request } from './crash-line.ts';
import { body, initialVariables, type Model, stream } from './crash-models.ts';

export interface CrowdPlan {
  readonly name: string;
  readonly seed: number;
  readonly model: Model;
  /** Of the pushes, in proportion to the other crowds' shares. */
  readonly share: number;
  readonly durability: 'always' | 'everysec';
  readonly checkpointing: object;
}

export class CrowdRequests {
  readonly path: string;
  readonly #plan: CrowdPlan;

  constructor(plan: CrowdPlan) {
    this.path = `/v1/sessions/${plan.name}`;
    this.#plan = plan;
  }

  creation(settings: object): Request {
    const optimizer = { class_name: 'Adamax', config: { learning_rate: rateOf(0) } };
    const variables = initialVariables(this.#plan.model, stream(this.#plan.seed));
    return {
      method: 'PUT',
      path: this.path,
      call: { json: { optimizer, variables, ...settings } },
      key: this.#key('create'),
    };
  }

  push({ client, nth }: { readonly client: number; readonly nth: number }): Request {
    const random = stream(this.#plan.seed, 1, client, nth);
    const headers = random() < 0.5 ? { prefer: 'return=minimal' } : {};
    const call = { ...body(this.#plan.model, 'gradients', random), headers };
    return { method: 'POST', path: `${this.path}/gradients`, call, key: this.#key('push', client, nth) };
  }

  assignment(nth: number): Request {
    const call = body(this.#plan.model, 'variables', stream(this.#plan.seed, 2, nth));
    return { method: 'PUT', path: `${this.path}/variables`, call, key: this.#key('assign', nth) };
  }

  ratePatch(rate: number): Request {
    const json = { optimizer: { config: { learning_rate: rate } } };
    return { method: 'PATCH', path: this.path, call: { json }, key: this.#key('patch', patchOf(rate)) };
  }

  checkpoint(nth: number): Request {
    return { method: 'POST', path: `${this.path}/checkpoints`, key: this.#key('checkpoint', nth) };
  }

  deletion(): Request {
    return { method: 'DELETE', path: this.path, key: this.#key('delete') };
  }

  #key(kind: string, ...numbers: readonly number[]): string {
    return [this.#plan.name, this.#plan.seed, kind, ...numbers].join('/');
  }
}

/** The learning rate that the nth patch sets, exact in F32; patch 0 is the creation. */
export function rateOf(patch: number): number {
  return (1 + patch / 65_536) / 128;
}

export function patchOf(rate: number): number {
  return (rate * 128 - 1) * 65_536;
}
