/**
 * Episodes of requests against one server: each begins with two new sessions and then has some dozens of requests, one after
 * the other, the same one once more, or several at a time. After each the oracle looks at the replies and at all sessions.
 */

import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import type { Api } from '../support/api.ts';
import { SchemaArbitraries } from './arbitraries.ts';
import { Connection } from './connection.ts';
import { known, settings } from './known.ts';
import { mutated } from './mutations.ts';
import type { Document, Operation } from './operations.ts';
import { type Answered, Oracle } from './oracle.ts';
import { type FuzzRequest, requestTo } from './requests.ts';
import { render, type Sent } from './sending.ts';
import { Tally } from './tally.ts';
import { World, type WorldState } from './world.ts';

export interface FuzzOptions {
  /** About so many. */
  readonly requests: number;
  readonly seed: number;
  /** As fast-check prints it for a failure: that episode alone. */
  readonly path?: string | undefined;
  /** What every request bears as its `Authorization`. */
  readonly authorization?: string | undefined;
}

type Step = { readonly requests: readonly FuzzRequest[] } | { readonly repeat: number };

interface Episode {
  /** Of the second session. */
  readonly rules: object;
  readonly steps: readonly Step[];
}

const requestsAnEpisode = 45;
const answerMs = 15_000;
/** A push that waits for other workers for longer is let go. */
const waitMs = 200;
/** What a failure may take to be made small. */
const shrinkMs = 60_000;

export async function fuzz(api: Api, options: FuzzOptions): Promise<Tally> {
  const document = api.app.swagger() as unknown as Document;
  const fuzzer = new Fuzzer(api, new Oracle(document), options);
  const { seed, path } = options;
  const episodes = episodesOf(fuzzer.oracle.operations, document);
  const numRuns = Math.ceil(options.requests / requestsAnEpisode);
  await fc
    .assert(
      fc.asyncProperty(episodes, (episode) => fuzzer.run(episode)),
      { seed, numRuns, ...(path === undefined ? {} : { path }) },
    )
    .finally(() => fuzzer.close());
  return fuzzer.tally;
}

function episodesOf(operations: readonly Operation[], document: Document): fc.Arbitrary<Episode> {
  const schemas = new SchemaArbitraries(document, known);
  const request = fc.oneof(
    ...operations.map((operation) => ({
      arbitrary: mutated(requestTo(operation, schemas)),
      weight: weightOf(operation),
    })),
  );
  const step: fc.Arbitrary<Step> = fc.oneof(
    { arbitrary: fc.record({ requests: fc.tuple(request) }), weight: 20 },
    { arbitrary: fc.record({ repeat: fc.nat({ max: 4 }) }), weight: 2 },
    { arbitrary: fc.record({ requests: fc.array(request, { minLength: 2, maxLength: 6 }) }), weight: 1 },
  );
  const steps = fc.array(step, { minLength: 1, maxLength: 80, size: 'max' });
  return fc.record({ rules: fc.constantFrom(...settings), steps });
}

/** More can be wrong with what has a body. */
function weightOf({ bodies, parameters }: Operation): number {
  return bodies.size > 0 ? 5 : parameters.length > 0 ? 3 : 1;
}

class Fuzzer {
  readonly oracle: Oracle;
  readonly tally: Tally;
  readonly #world: World;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #connections: Connection[];
  #failedAt: number | undefined;

  constructor({ app, ...api }: Api, oracle: Oracle, { authorization }: FuzzOptions) {
    this.oracle = oracle;
    this.tally = new Tally(oracle.operations);
    this.#headers = authorization === undefined ? {} : { authorization };
    this.#world = new World({ app, ...api }, this.#headers);
    const { port } = app.server.address() as AddressInfo;
    this.#connections = Array.from({ length: 6 }, () => new Connection(port));
  }

  async run({ rules, steps }: Episode): Promise<void> {
    if (performance.now() - (this.#failedAt ?? Infinity) > shrinkMs) return;
    await this.#world.begin(rules);
    let state = await this.#world.state();
    const past: Sent[] = [];
    for (const step of steps) {
      const sent = this.#sentOf(step, past);
      if ('requests' in step) past.push(...sent);
      try {
        state = await this.#exchange(sent, state);
      } catch (error) {
        this.#failedAt ??= performance.now();
        throw new Error(`${(error as Error).message}\n\nafter\n${sent.map(printed).join('\n')}`, { cause: error });
      }
    }
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
  }

  #sentOf(step: Step, past: readonly Sent[]): Sent[] {
    if ('requests' in step) {
      return step.requests.map((request) => render(request, this.#world.words(request.path), this.#headers));
    }
    const again = past.at(-1 - step.repeat);
    return again === undefined ? [] : [again];
  }

  async #exchange(sent: readonly Sent[], before: WorldState): Promise<WorldState> {
    let isDisturbed = false;
    const release = setInterval(async () => {
      if (await this.#world.release()) isDisturbed = true;
    }, waitMs);
    const answers = await Promise.all(sent.map((each, nth) => this.#answer(each, nth))).finally(() =>
      clearInterval(release),
    );
    const after = await this.#world.state();
    if (!isDisturbed) this.oracle.judgeChanges(answers, before, after);
    return after;
  }

  async #answer(sent: Sent, nth: number): Promise<Answered | undefined> {
    const connection = this.#connections[nth] as Connection;
    const outgoing = {
      method: sent.request.method,
      bytes: [Buffer.from(sent.head), sent.body],
      isLast: sent.isLast,
      isCut: sent.isBroken,
    };
    const reply = await connection.exchange(outgoing, answerMs);
    const answered = this.oracle.judge(sent, reply);
    this.tally.count(answered);
    return answered;
  }
}

function printed({ head, body }: Sent): string {
  return `${head}${body.subarray(0, 1_000).toString('latin1')}${body.length > 1_000 ? '…' : ''}`;
}
