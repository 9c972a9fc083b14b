/** Under `always`, what one damaged file has lost another one makes good; and what is lost all the same comes back under no false name. */
import assert from 'node:assert/strict';
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { decodeHead } from '../../src/journal/record.ts';
import type { RequestKey } from '../../src/store/idempotency.ts';
import { startApi } from '../support/api.ts';
import { refused, succeeded } from '../support/calls.ts';
import { crashedCopy } from '../support/crashed.ts';
import { temporaryFolder } from '../support/server-process.ts';
import { advance, createOnPath, openStore } from '../support/stores.ts';
import { heldState, pathAt, pathStep } from '../support/training-path.ts';

const newest = 'sessions/a/ckpt-000003.safetensors';
const journal = 'journal/000001.mdb';

interface Prepared {
  /** As a crash left it: checkpoints of 0, 2 and 4 iterations, and records up to `steps`. */
  readonly folder: string;
  readonly steps: number;
}

async function prepare(t: TestContext, steps = 6, rules: Parameters<typeof createOnPath>[2] = {}): Promise<Prepared> {
  const own = await temporaryFolder(t);
  const { store } = await openStore(t, own);
  const held = await createOnPath(store, 'a', rules, 'always');
  for (let k = 0; k < 2; k++) {
    await advance(held, 2);
    await held.checkpoints.write();
  }
  // What a checkpoint makes needless goes before this is answered.
  await held.copy(undefined, {});
  await advance(held, steps - 4);
  for (let wait = 0; wait < 50 && rules?.keep_journal_steps === 0; wait++)
    await new Promise((next) => setTimeout(next, 10));
  return { folder: await crashedCopy(t, own), steps };
}

async function flip(path: string, at: number, bit: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] as number) ^ (1 << bit);
  await writeFile(path, bytes);
}

/** Flips a bit in the head of every copy of the step's record. */
async function damageStep({ folder }: Prepared, iterations: number): Promise<void> {
  const path = join(folder, journal);
  const bytes = await readFile(path);
  let found = 0;
  for (let at = bytes.indexOf('AJ1g'); at >= 0; at = bytes.indexOf('AJ1g', at + 1)) {
    try {
      if (decodeHead(bytes.subarray(at)).iterations !== iterations) continue;
    } catch {
      continue;
    }
    bytes[at + 4] = (bytes[at + 4] as number) ^ 1;
    found++;
  }
  assert.ok(found > 0, 'the record must be in the file');
  await writeFile(path, bytes);
}

describe('the newest checkpoint damaged costs nothing, and is named:', () => {
  const damages: Record<string, (path: string, bytes: number) => Promise<void>> = {
    ...Object.fromEntries(
      [0, 7, 8, 20, 300].map((at) => [`byte ${at}`, (path: string) => flip(path, at, at % 8)] as const),
    ),
    ...Object.fromEntries(
      [1, 5, 90, 200].map((back) => [
        `byte ${back} from its end`,
        (path: string, bytes: number) => flip(path, bytes - back, 6),
      ]),
    ),
    emptied: (path) => truncate(path, 0),
    'cut by a byte': (path, bytes) => truncate(path, bytes - 1),
    'its .sha256': (path) => flip(`${path}.sha256`, 3, 0),
  };
  for (const [what, damage] of Object.entries(damages)) {
    test(what, async (t) => {
      const { folder, steps } = await prepare(t);
      const path = join(folder, newest);
      await damage(path, (await stat(path)).size);
      const { store, close } = await openStore(t, folder);
      const { revision, iterations, digest } = heldState(store.session('a'));
      assert.deepEqual({ iterations, digest }, { iterations: steps, digest: await pathAt(steps) });
      assert.ok(revision >= steps, `revision ${revision}`);
      assert.deepEqual(
        store.status.damaged.map(({ session, file }) => [session, file]),
        [['a', join(folder, 'damaged/a/ckpt-000003.safetensors')]],
      );
      await advance(store.session('a'), 1);
      await close();
      const again = await openStore(t, folder);
      assert.equal(heldState(again.store.session('a')).digest, await pathAt(steps + 1));
      assert.deepEqual(again.store.status.damaged, []);
    });
  }
});

for (const text of [
  '',
  'garbage',
  '{"format":2}',
  '{"format":2,"journal":"00","first_checkpoint":1,"revision_limit":9}',
]) {
  test(`session.json saying ${text || 'nothing'} costs nothing, and is named`, async (t) => {
    const { folder, steps } = await prepare(t);
    await writeFile(join(folder, 'sessions/a/session.json'), text);
    const { store } = await openStore(t, folder);
    const { revision, iterations, digest } = heldState(store.session('a'));
    assert.deepEqual({ iterations, digest }, { iterations: steps, digest: await pathAt(steps) });
    assert.ok(revision >= steps, `revision ${revision}`);
    const [report, ...others] = store.status.damaged;
    assert.match(report?.file ?? '', /damaged\/a\/session\.json/);
    assert.equal(await readFile(report?.file as string, 'utf8'), text);
    assert.deepEqual(others, []);
  });
}

test('where the records up to a damaged checkpoint are trimmed, no revision comes again for another state', async (t) => {
  const prepared = await prepare(t, 4, { keep_journal_steps: 0 });
  await flip(join(prepared.folder, newest), 300, 0);
  const { store } = await openStore(t, prepared.folder);
  const { revision, iterations, digest } = heldState(store.session('a'));
  assert.deepEqual(store.status.damaged.length, 1);
  assert.equal(digest, await pathAt(iterations));
  if (iterations < 4)
    assert.ok(revision > 4, `revision ${revision} stood for ${revision} iterations, and now for ${iterations}`);
});

describe('a damaged record', () => {
  const key = (name: string): RequestKey => ({ key: name, digest: name });

  test('leaves the keys of the steps before it known, and makes those of lost ones free', async (t) => {
    const own = await temporaryFolder(t);
    const { store } = await openStore(t, own);
    const held = await createOnPath(store, 'a', {}, 'always');
    const gradients = new Map(Object.entries(pathStep));
    for (const name of ['k1', 'k2', 'k3', 'k4'])
      await held.applyGradients(gradients, { key: key(name) }, { receive: () => [] });
    await held.live.log.journal.flush();
    const folder = await crashedCopy(t, own);
    await damageStep({ folder, steps: 4 }, 3);
    for (let start = 0; start < 2; start++) {
      const { store: again, close } = await openStore(t, folder);
      const back = again.session('a');
      assert.equal(again.status.damaged.length, start === 0 ? 1 : 0);
      const before = heldState(back).iterations;
      for (const name of ['k1', 'k2']) await back.applyGradients(gradients, { key: key(name) }, { receive: () => [] });
      assert.equal(heldState(back).iterations, before, 'what the session has must not be applied again');
      for (const name of ['k3', 'k4']) await back.applyGradients(gradients, { key: key(name) }, { receive: () => [] });
      assert.equal(heldState(back).iterations, 4, 'what is lost must be applied when it is sent again');
      await close();
    }
  });

  test('that the newest checkpoint leads on from is named and costs nothing, after a clean end too', async (t) => {
    for (const crashed of [true, false]) {
      const prepared = await prepare(t, 4);
      if (!crashed) await (await openStore(t, prepared.folder)).close();
      await damageStep(prepared, 4);
      const { store, log, close } = await openStore(t, prepared.folder);
      assert.equal(heldState(store.session('a')).digest, await pathAt(4));
      const [report] = store.status.damaged;
      assert.match(report?.reason ?? '', /its history up to iteration 4 is lost/);
      assert.ok(
        log.some((line) => line.includes('history up to')),
        'the log must name it',
      );
      assert.equal((await readdir(join(prepared.folder, 'damaged/journal'))).length, 1);
      await advance(store.session('a'), 1);
      await close();
      const again = await openStore(t, prepared.folder);
      assert.equal(heldState(again.store.session('a')).digest, await pathAt(5));
      assert.deepEqual(again.store.status.damaged, []);
    }
  });

  test('in the past makes forks there unavailable, and no others', async (t) => {
    const prepared = await prepare(t);
    await damageStep(prepared, 3);
    const api = await startApi(t, {}, prepared.folder);
    const fork = (iterations: number) =>
      api.call('POST', '/v1/sessions/a/fork', { json: { name: `at-${iterations}`, iterations } });
    refused(await fork(3), 'iteration_unavailable');
    for (const iterations of [0, 1, 2, 4, 6]) {
      succeeded(await fork(iterations), 201);
      assert.equal(heldState(api.store.session(`at-${iterations}`)).digest, await pathAt(iterations));
    }
  });
});
