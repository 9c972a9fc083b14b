/**
 * Sessions of level `checkpoint`, and `kill -9` at random moments, under pushes, checkpoints, creations and deletions. Whatever the moment: the server starts
 * again, each session is at a point of its path that is no older than its last acknowledged checkpoint, and no revision
 * comes again.
 */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { describe, test } from 'node:test';
import type { Answer } from '../support/api.ts';
import { randomUnits } from '../support/floats.ts';
import { type ServerProcess, startServer, temporaryFolder } from '../support/server-process.ts';
import { pathAt, pathGradients, pathVariables, servedState } from '../support/training-path.ts';

const names = ['a', 'b', 'c'];
const rounds = 6;

/** What clients have been told of a session. */
interface Told {
  /** The largest revision that any reply gave. */
  revision: number;
  /** Of the newest checkpoint that was acknowledged. */
  saved: number;
  /** Of the last step that was acknowledged. */
  iterations: number;
}

describe('after kill -9', { concurrency: 2 }, () => {
  for (const seed of [1, 2]) {
    test(`${rounds} times in a row, sessions go on from a checkpoint (seed ${seed})`, {
      timeout: 300_000,
    }, async (t) => {
      const dataDir = await temporaryFolder(t);
      const random = randomUnits(seed);
      const told = new Map<string, Told>();
      const churned = new Map<string, boolean>();
      for (let round = 0; round <= rounds; round++) {
        const server = await startServer(t, dataDir);
        assert.equal(
          (await readdir(dataDir, { recursive: true })).find((file) => file.endsWith('.tmp')),
          undefined,
        );
        for (const [name, known] of told) await assertOnPath(server, name, known);
        for (const [name, exists] of churned) {
          assert.equal((await server.call('GET', `/v1/sessions/${name}`)).status, exists ? 200 : 404, name);
        }
        if (round === rounds) return;
        if (round === 0) for (const name of names) told.set(name, await create(server, name));
        await killUnderLoad(server, round, random, told, churned);
      }
      t.diagnostic(JSON.stringify([...told]));
    });
  }
});

async function create(server: ServerProcess, name: string): Promise<Told> {
  const checkpointing = { every_steps: 3, every_seconds: null, keep: 2 };
  const json = { variables: pathVariables, durability: 'checkpoint', checkpointing };
  assert.equal((await server.call('PUT', `/v1/sessions/${name}`, { json })).status, 201);
  return { revision: 0, saved: 0, iterations: 0 };
}

async function assertOnPath(server: ServerProcess, name: string, known: Told): Promise<void> {
  const { revision, iterations, digest } = await servedState((...call) => server.call(...call), name);
  assert.ok(
    iterations >= known.saved,
    `${name} is at ${iterations}, and a checkpoint of ${known.saved} was acknowledged`,
  );
  assert.equal(digest, await pathAt(iterations), `${name} must be on its path at ${iterations}`);
  assert.ok(revision > known.revision, `${name} must have a revision above ${known.revision}. Received: ${revision}`);
  Object.assign(known, { revision, iterations, saved: iterations });
}

/** Lets clients loose, and kills the server after a random number of answers and a random moment more. */
async function killUnderLoad(
  server: ServerProcess,
  round: number,
  random: () => number,
  told: Map<string, Told>,
  churned: Map<string, boolean>,
): Promise<void> {
  let answers = 0;
  const enough = 5 + Math.floor(random() * 120);
  const delayMs = random() * 4;
  const until = async (client: () => Promise<Answer>): Promise<void> => {
    for (;;) {
      const answer = await client().catch((error: Error) => {
        if (error instanceof TypeError) return undefined;
        throw error;
      });
      if (answer === undefined) return;
      assert.ok(answer.status < 300, answer.bytes.toString());
      answers++;
      if (answers === enough) setTimeout(() => server.kill('SIGKILL'), delayMs);
    }
  };
  const clients = [...told].flatMap(([name, known]) => [
    until(() => push(server, name, known)),
    until(() => push(server, name, known)),
    until(() => checkpoint(server, name, known)),
  ]);
  await Promise.all([...clients, until(churn(server, round, churned))]);
  assert.deepEqual(await server.exited, { code: null, signal: 'SIGKILL' });
}

async function push(server: ServerProcess, name: string, known: Told): Promise<Answer> {
  const answer = await server.call('POST', `/v1/sessions/${name}/gradients`, { json: { gradients: pathGradients } });
  const { revision, iterations } = answer.json;
  known.revision = Math.max(known.revision, revision);
  known.iterations = Math.max(known.iterations, iterations);
  return answer;
}

async function checkpoint(server: ServerProcess, name: string, known: Told): Promise<Answer> {
  const answer = await server.call('POST', `/v1/sessions/${name}/checkpoints`);
  known.saved = Math.max(known.saved, answer.json.iterations);
  return answer;
}

/** Sessions that come and go; of those that were being created or deleted at the end, nothing can be told. */
function churn(server: ServerProcess, round: number, churned: Map<string, boolean>): () => Promise<Answer> {
  let count = 0;
  return async () => {
    const name = `round-${round}-${count >> 1}`;
    const creating = count++ % 2 === 0;
    // Every fourth one stays.
    if (!creating && (count >> 1) % 4 === 0) return server.call('GET', `/v1/sessions/${name}`);
    churned.delete(name);
    const answer = await server.call(creating ? 'PUT' : 'DELETE', `/v1/sessions/${name}`, {
      json: creating ? { variables: { w: { values: [1] } } } : undefined,
    });
    churned.set(name, creating);
    return answer;
  };
}
