/** When a push is acknowledged, what a crash then costs, and how far back the journal reaches. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { type Answer, type Api, type Json, startApi } from '../support/api.ts';
import { create, getDocument, patch, push, refused, succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';

const variables = {
  w: { values: [1, 2, 3] },
  e: { shape: [4, 2], initializer: 'ones' },
  d: { values: [0.1], dtype: 'F64' },
};
const gradients = {
  w: { values: [1, -2, 0.5] },
  e: { indices: [3, 1, 3], values: [1, 2, 3, 4, 5, 6] },
  d: { values: [3] },
};
const noRules = { every_steps: null, every_seconds: null };

async function step(api: Api, name: string): Promise<Answer> {
  return succeeded(await api.call('POST', `/v1/sessions/${name}/gradients`, { json: { gradients } }));
}

async function fingerprint(api: Api, name: string): Promise<Json> {
  return succeeded(await api.call('GET', `/v1/sessions/${name}/fingerprint`)).json;
}

async function writeCheckpoint(api: Api, name: string): Promise<void> {
  succeeded(await api.call('POST', `/v1/sessions/${name}/checkpoints`), 201);
}

async function crash(t: TestContext, api: Api): Promise<Api> {
  return startApi(t, {}, await crashedCopy(t, api.folder));
}

/** What the fingerprint was after each number of steps. */
async function trained(api: Api, name: string, steps: number, others: object): Promise<Json[]> {
  await create(api, name, variables, others);
  const prints = [await fingerprint(api, name)];
  for (let k = 0; k < steps; k++) {
    await step(api, name);
    prints.push(await fingerprint(api, name));
  }
  return prints;
}

describe('a level of durability', () => {
  for (const durability of ['always', 'everysec', 'checkpoint']) {
    test(`${durability} is in the document and in every reply to a push`, async (t) => {
      const api = await startApi(t);
      const document = await create(api, 'a', variables, { durability });
      assert.equal(document.durability, durability);
      assert.equal((await getDocument(api, 'a')).durability, durability);
      assert.equal((await step(api, 'a')).headers.durability, durability);
      const again = await api.restart();
      assert.equal((await getDocument(again, 'a')).durability, durability);
      assert.equal((await step(again, 'a')).headers.durability, durability);
    });

    test(`${durability} costs what it says in a crash, and no revision comes again with other contents`, async (t) => {
      const api = await startApi(t);
      const prints = await trained(api, 'a', 3, { durability, checkpointing: noRules });
      await writeCheckpoint(api, 'a');
      for (let k = 0; k < 2; k++) {
        await step(api, 'a');
        prints.push(await fingerprint(api, 'a'));
      }
      const before = await getDocument(api, 'a');
      const again = await crash(t, api);
      const { iterations, revision } = await getDocument(again, 'a');
      assert.equal(iterations, durability === 'checkpoint' ? 3 : 5);
      assert.deepEqual(await fingerprint(again, 'a'), prints[iterations]);
      if (durability === 'always') assert.equal(revision, before.revision);
      else assert.ok(revision > before.revision, `${revision} after ${before.revision}`);
      const reply = await push(again, 'a', gradients);
      assert.deepEqual([reply.iterations, reply.revision], [iterations + 1, revision + 1]);
      assert.deepEqual((await again.call('GET', '/readyz')).json.damaged, []);
    });
  }

  test('is always where none is asked for, and again where a patch takes it away', async (t) => {
    const api = await startApi(t);
    assert.equal((await create(api, 'a', variables)).durability, 'always');
    await patch(api, 'a', { durability: 'checkpoint' });
    assert.equal((await patch(api, 'a', { durability: null })).durability, 'always');
  });

  test('that is none of the three is refused, at the creation and in a patch', async (t) => {
    const api = await startApi(t);
    await create(api, 'a', variables);
    for (const durability of ['never', 'Always', '', 1, true, ['always']]) {
      refused(await api.call('PUT', '/v1/sessions/b', { json: { variables, durability } }), 'invalid_parameter');
      refused(await api.call('PATCH', '/v1/sessions/a', { json: { durability } }), 'invalid_parameter');
    }
    assert.equal((await getDocument(api, 'a')).durability, 'always');
  });

  test('is changed while it trains: each push is kept as its reply says', async (t) => {
    const api = await startApi(t);
    const prints = await trained(api, 'a', 2, { checkpointing: noRules });
    let safe = 2;
    for (const durability of ['checkpoint', 'always', 'everysec', 'checkpoint', 'everysec', 'always']) {
      assert.equal((await patch(api, 'a', { durability })).durability, durability);
      for (let k = 0; k < 2; k++) {
        const { headers } = await step(api, 'a');
        assert.equal(headers.durability, durability);
        prints.push(await fingerprint(api, 'a'));
        if (durability !== 'checkpoint') safe = prints.length - 1;
      }
      const again = await crash(t, api);
      const { iterations, durability: found } = await getDocument(again, 'a');
      assert.ok(iterations >= safe, `${iterations} iterations are left of ${safe} that were to survive`);
      assert.deepEqual(await fingerprint(again, 'a'), prints[iterations]);
      assert.equal(found, durability);
      assert.equal((await step(again, 'a')).headers.durability, durability);
      assert.deepEqual((await again.call('GET', '/readyz')).json.damaged, []);
    }
  });

  test('that a session was leaving `checkpoint` for when it crashed was not promised yet, and nothing is damaged', async (t) => {
    const api = await startApi(t);
    await create(api, 'a', variables, { durability: 'checkpoint', checkpointing: noRules });
    await step(api, 'a');
    const before = await fingerprint(await crash(t, api), 'a');
    await patch(api, 'a', { durability: 'always' });
    await step(api, 'a');
    await api.store.session('a').live.log.journal.flush();
    const folder = await crashedCopy(t, api.folder);
    // As if the crash had come before the checkpoint that the records lead on from was whole.
    for (const suffix of ['', '.sha256']) await rm(join(folder, `sessions/a/ckpt-000002.safetensors${suffix}`));
    const crashed = await startApi(t, {}, folder);
    assert.deepEqual(await fingerprint(crashed, 'a'), before);
    assert.deepEqual(succeeded(await crashed.call('GET', '/readyz')).json.damaged, []);
    await patch(crashed, 'a', { durability: 'always' });
    await step(crashed, 'a');
    const after = await fingerprint(crashed, 'a');
    assert.deepEqual(await fingerprint(await crash(t, crashed), 'a'), after);
  });

  test('that a restore brings back holds from its answer on', async (t) => {
    const api = await startApi(t);
    await create(api, 'a', variables, { checkpointing: noRules });
    await patch(api, 'a', { durability: 'checkpoint' });
    await step(api, 'a');
    const restored = await api.call('POST', '/v1/sessions/a/checkpoints/ckpt-000001/restore');
    assert.equal(succeeded(restored).json.durability, 'always');
    assert.equal((await step(api, 'a')).headers.durability, 'always');
    const expected = await fingerprint(api, 'a');
    assert.deepEqual(await fingerprint(await crash(t, api), 'a'), expected);
  });

  test('always goes on exactly, crash after crash, with patches, assignments and restores between', async (t) => {
    let api = await startApi(t);
    await create(api, 'a', variables, { checkpointing: noRules });
    const assignment = { json: { variables: { w: { values: [7, 8, 9] } } } };
    const changes: (() => Promise<unknown>)[] = [
      () => step(api, 'a'),
      () => patch(api, 'a', { iterations: 5, optimizer: { config: { learning_rate: 0.5 } } }),
      () => step(api, 'a'),
      async () => succeeded(await api.call('PUT', '/v1/sessions/a/slots/m', assignment)),
      () => writeCheckpoint(api, 'a'),
      async () => succeeded(await api.call('PUT', '/v1/sessions/a/variables', assignment)),
      async () => succeeded(await api.call('POST', '/v1/sessions/a/checkpoints/ckpt-000001/restore')),
      () => step(api, 'a'),
    ];
    // A restore is followed by a checkpoint in its own time.
    const state = async () => ({
      ...(await getDocument(api, 'a')),
      last_checkpoint: 0,
      ...(await fingerprint(api, 'a')),
    });
    for (const change of changes) {
      await change();
      const before = await state();
      api = await crash(t, api);
      assert.deepEqual(await state(), before);
    }
  });
});

describe('a fork at an earlier iteration', () => {
  const forkAt = (api: Api, iterations: number) =>
    api.call('POST', '/v1/sessions/a/fork', { json: { name: `at-${iterations}`, iterations } });

  /** Which iterations a fork reaches; its bits must be those that the session had there. */
  async function reached(api: Api, prints: readonly Json[]): Promise<number[]> {
    const found: number[] = [];
    for (const [iterations, print] of prints.entries()) {
      const answer = await forkAt(api, iterations);
      if (answer.status !== 201) {
        refused(answer, 'iteration_unavailable');
        continue;
      }
      assert.deepEqual(await fingerprint(api, `at-${iterations}`), print);
      assert.equal(answer.json.iterations, iterations);
      found.push(iterations);
      succeeded(await api.call('DELETE', `/v1/sessions/at-${iterations}`), 204);
    }
    return found;
  }

  const all = (from: number) => Array.from({ length: 13 - from }, (_, k) => from + k);
  /** With checkpoints at 0, 4, 8 and 12 iterations, of which three are kept. */
  for (const [keep_journal_steps, least] of [
    [null, all(4)],
    [5, [4, 7, 8, 9, 10, 11, 12]],
    [0, [4, 8, 12]],
    [1_000, all(4)],
  ] as const) {
    test(`is the same to the bit as far as keep_journal_steps ${keep_journal_steps} reaches`, async (t) => {
      const api = await startApi(t);
      const prints: Json[] = [];
      const checkpointing = { ...noRules, keep: 3, keep_journal_steps };
      for (let k = 0; k <= 12; k++) {
        if (k === 0) await create(api, 'a', variables, { checkpointing });
        else await step(api, 'a');
        prints.push(await fingerprint(api, 'a'));
        if (k > 0 && k % 4 === 0) await writeCheckpoint(api, 'a');
      }
      const found = await reached(api, prints);
      assert.deepEqual(
        least.filter((iterations) => !found.includes(iterations)),
        [],
        `a fork must reach ${least}. It reaches ${found}`,
      );
      if (keep_journal_steps === 0) assert.deepEqual(found, [...least]);
      refused(await forkAt(api, 13), 'iteration_unavailable');
      // History costs nothing of the present, and a restart nothing of history.
      assert.deepEqual(await reached(await api.restart(), prints), found);
    });
  }

  test('reaches every step since the last checkpoint, whatever is kept, and after a crash too', async (t) => {
    const api = await startApi(t);
    const prints = await trained(api, 'a', 6, { checkpointing: { ...noRules, keep_journal_steps: 0 } });
    assert.deepEqual(await reached(api, prints), [0, 1, 2, 3, 4, 5, 6]);
    assert.deepEqual(await reached(await crash(t, api), prints), [0, 1, 2, 3, 4, 5, 6]);
  });
});
