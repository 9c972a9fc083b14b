/**
 * Every system call by which the server changes its files fails in turn, in the real process: once, for a while, or until
 * `kill -9`; as a broken disk and as a full one. Pushes that meet it are refused and the server is read-only, reads go on, it
 * comes back by itself, and every acknowledged push is there exactly once, in memory and after a restart. Where lmdb ends the
 * process, as it can when it cannot write a page, the same holds after the next start.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { encodeFile, f32 } from '../support/api.ts';
import { assertRefused, DisturbedServer, type Training } from '../support/disturbed-server.ts';
import { FailingCalls, type Fault, type Kind, kinds } from '../support/failing-calls.ts';
import { randomUnits } from '../support/floats.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { pathGradients, pathVariables } from '../support/training-path.ts';

const codes = ['EIO', 'ENOSPC'] as const;
const small: Training = { creation: { variables: pathVariables }, push: { json: { gradients: pathGradients } } };
/** Their data have files of their own. */
const large: Training = {
  creation: { variables: { w: { shape: [270_000] } } },
  push: {
    bytes: encodeFile({ w: f32(Array.from({ length: 270_000 }, (_, k) => (k % 7) - 3)) }),
    headers: { accept: 'application/json', prefer: 'return=minimal' },
  },
};
const byHand = { every_steps: null, every_seconds: null };
/** Longer than what is acknowledged from the tail takes to come into lmdb. */
const lagMs = 400;
/** More than any change makes of one kind. */
const positionsMax = 40;

type Setup = { readonly disturbed: DisturbedServer; readonly faults: FailingCalls };

async function start(t: TestContext, checkpointing: object, training = small): Promise<Setup | undefined> {
  const dataDir = await temporaryFolder(t);
  const faults = await FailingCalls.prepare(t, dataDir);
  if (faults === undefined) return undefined;
  const creation = { ...training.creation, durability: 'always', checkpointing };
  const disturbed = await DisturbedServer.start(t, dataDir, { ...training, creation }, faults.env);
  disturbed.onAbort = () => faults.clear();
  return { disturbed, faults };
}

type Mode = 'once' | 'for a while' | 'until killed';

/** Three pushes at a time, the fault at one call later each time, until there is no such call; how many there were. */
async function disturb({ disturbed, faults }: Setup, kind: Kind, code: Fault['code'], mode: Mode): Promise<number> {
  for (let at = 0; at < positionsMax; at++) {
    const before = disturbed.refusals.length;
    const { aborts } = disturbed;
    faults.arm({ kinds: [kind], at, code, lasting: mode !== 'once', torn: mode === 'until killed' });
    const pushes = Promise.all([0, 1, 2].map(() => disturbed.push(code)));
    await disturbed.refused(pushes);
    if (faults.failed === 0) await pause(lagMs);
    const isMet = disturbed.refusals.length > before || (await disturbed.isReadOnly());
    if (mode !== 'once' && isMet && disturbed.aborts === aborts) {
      if (mode === 'for a while') await disturbed.assertReadOnly(code);
      else await disturbed.kill();
      faults.clear();
      if (mode === 'until killed') await disturbed.restart();
    }
    await pushes;
    const hit = faults.failed > 0 || disturbed.aborts > aborts;
    faults.clear();
    await disturbed.assertBack();
    await disturbed.assertAgreement();
    if (!hit) return at;
  }
  assert.fail(`more than ${positionsMax} calls`);
}

describe('pushes', { concurrency: 2 }, () => {
  for (const code of codes) {
    // Every call with half of its bytes written: the restarts take long, and what follows does not depend on the error.
    const modes =
      code === 'EIO' ? (['once', 'for a while', 'until killed'] as const) : (['once', 'for a while'] as const);
    for (const mode of modes) {
      test(`${code} ${mode}`, { timeout: 300_000 }, async (t) => {
        const setup = await start(t, byHand);
        if (setup === undefined) return;
        const positions = new Map<Kind, number>();
        for (const kind of kinds) positions.set(kind, await disturb(setup, kind, code, mode));
        await setup.disturbed.restart();
        await setup.disturbed.assertAgreement();
        t.diagnostic(
          JSON.stringify({ positions: Object.fromEntries(positions), refusals: setup.disturbed.refusals.length }),
        );
        for (const kind of ['write', 'sync'] as const)
          assert.ok((positions.get(kind) as number) > 0, `no push makes a ${kind}`);
        assert.ok(setup.disturbed.refusals.length > 0, 'no push met a fault');
      });
    }
  }
});

test('large pushes, EIO once', { timeout: 300_000 }, async (t) => {
  const setup = await start(t, byHand, large);
  if (setup === undefined) return;
  const positions = new Map<Kind, number>();
  for (const kind of kinds) positions.set(kind, await disturb(setup, kind, 'EIO', 'once'));
  await setup.disturbed.restart();
  await setup.disturbed.assertAgreement();
  t.diagnostic(JSON.stringify(Object.fromEntries(positions)));
  for (const kind of ['open', 'write', 'sync', 'rename'] as const)
    assert.ok((positions.get(kind) as number) > 0, `no push makes a call of the kind ${kind}`);
});

/** Each is sent until it is done. */
const changes = {
  checkpoint: () => ['POST', '/v1/sessions/s/checkpoints', {}] as const,
  creation: (at: string) => ['PUT', `/v1/sessions/${at}`, { json: { variables: { w: { values: [1, 2] } } } }] as const,
  assignment: () => ['PUT', '/v1/sessions/s/variables', { json: { variables: pathVariables } }] as const,
};

describe('other changes', { concurrency: 2 }, () => {
  for (const code of codes) {
    for (const [name, change] of Object.entries(changes)) {
      test(`${name}, ${code}`, { timeout: 300_000 }, async (t) => {
        const setup = await start(t, byHand);
        if (setup === undefined) return;
        const { disturbed, faults } = setup;
        let refusals = 0;
        let done = 0;
        for (const kind of kinds) {
          for (let at = 0, hit = true; hit; at++) {
            assert.ok(at < positionsMax, `more than ${positionsMax} calls`);
            faults.arm({ kinds: [kind], at, code });
            const [method, path, call] = change(`${kind}-${at}`);
            await disturbed.insist(method, path, call, (answer) => {
              assertRefused(answer, code);
              refusals++;
            });
            done++;
            hit = faults.failed > 0;
            faults.clear();
            await disturbed.assertBack();
          }
        }
        const read = async () => (await disturbed.call('GET', '/v1/sessions/s/fingerprint')).json;
        const sessions = async () =>
          (await disturbed.call('GET', '/v1/sessions?limit=1000')).json.sessions.map(
            (each: { name: string }) => each.name,
          );
        const before = [await read(), await sessions()] as const;
        assert.equal(before[1].length, name === 'creation' ? done + 1 : 1);
        await disturbed.restart();
        assert.deepEqual([await read(), await sessions()], before);
        assert.ok(refusals > 0, 'nothing met a fault');
      });
    }
  }
});

for (const seed of [Number(process.env.FAULT_SEED ?? 1)]) {
  test(`faults at random under pushes and checkpoints (seed ${seed})`, { timeout: 300_000 }, async (t) => {
    const setup = await start(t, { every_steps: 3, every_seconds: null, keep: 2 });
    if (setup === undefined) return;
    const { disturbed, faults } = setup;
    const random = randomUnits(seed);
    const below = (limit: number) => Math.floor(random() * limit);
    for (let round = 0; round < 12; round++) {
      const fault: Fault = {
        kinds: kinds.filter(() => random() < 0.5),
        at: below(20),
        code: codes[below(2)] as Fault['code'],
        lasting: random() < 0.3,
        torn: random() < 0.5,
      };
      faults.arm(fault);
      const pushes = Promise.all(Array.from({ length: 8 }, () => disturbed.push()));
      await disturbed.refused(pushes);
      if (random() < 0.3) {
        await pause(below(30));
        await disturbed.kill();
        faults.clear();
        await disturbed.restart();
      }
      faults.clear();
      await pushes;
      await disturbed.assertBack();
      await disturbed.assertAgreement();
    }
    await disturbed.restart();
    await disturbed.assertAgreement();
    assert.ok(disturbed.refusals.length > 0, 'no push met a fault');
  });
}
