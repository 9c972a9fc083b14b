/**
 * One checkpoint file: what is written is what is read, for any session; it is a safetensors file like any other; and no
 * byte of it can change, be cut off or be added unnoticed. Whole files of another format are checkpoint-format.test.ts's.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { parts } from '../../src/kernel/extent.ts';
import type { Aggregation } from '../../src/session/aggregation.ts';
import { Session } from '../../src/session/session.ts';
import { defaultSettings } from '../../src/session/settings.ts';
import { takeSnapshot } from '../../src/session/snapshot.ts';
import { readCheckpointDescription, readCheckpointFile, writeCheckpointFile } from '../../src/store/checkpoint-file.ts';
import type { VariableDtype } from '../../src/tensor/dtype.ts';
import { parseSafetensors } from '../../src/tensor/safetensors.ts';
import { elementCount } from '../../src/tensor/tensor.ts';
import { FailingDisk } from '../support/failing-disk.ts';
import { encode, randomFloats } from '../support/floats.ts';
import { applyStep, dense, everything, sampleSession, sessionOf } from '../support/sessions.ts';

const savedAt = '2026-03-04T05:06:07.890Z';
const goOn = () => undefined;
let folder: string;
let path: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'checkpoint-file-'));
  path = join(folder, 'file.safetensors');
});
after(() => rm(folder, { recursive: true }));

async function write(session: Session, giveUp: () => Error | undefined = goOn) {
  const snapshot = takeSnapshot(session);
  try {
    return await writeCheckpointFile(path, snapshot, { savedAt, journal: '00000000000000ff' }, giveUp);
  } finally {
    snapshot.end();
  }
}

/** The session that the file holds. */
async function readBack(sha256: string): Promise<Session> {
  const { description, contents } = await readCheckpointFile(path, sha256);
  assert.equal(description.savedAt, savedAt);
  return new Session(description.session, description.createdAt, contents, description.revision);
}

function fill(session: Session, seed: number): Session {
  for (const { memory, shape, dtype } of session.contents.variables.values()) {
    const count = elementCount(shape);
    for (const part of parts)
      memory.write(part, 0, count, encode(randomFloats(seed + part.charCodeAt(0), count, dtype), dtype));
    if (count > 1) memory.write('w', 0, 2, encode([Number.NaN, Number.NEGATIVE_INFINITY], dtype));
  }
  return session;
}

const names = fc.oneof(
  fc.constantFrom('__proto__', 'constructor', '0', '10', 'dense/kernel', 'a-b.c_'),
  fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_./-]{0,20}$/),
);
const variable = fc.record({
  shape: fc.array(fc.nat(4), { maxLength: 4 }),
  dtype: fc.constantFrom<VariableDtype>('F32', 'F64'),
});
const variables = fc
  .uniqueArray(fc.tuple(names, variable), { selector: ([name]) => name, maxLength: 5 })
  .map((all) => all.map(([name, { shape, dtype }]) => ({ name, shape, dtype })));
const rate = fc.double({ min: 0, max: 1, noNaN: true });
const schedules = fc.record({ initial_learning_rate: rate, decay_steps: fc.integer({ min: 1, max: 9999 }) });
const configs = fc.record({
  learning_rate: fc.oneof(
    rate,
    schedules.map((config) => ({ class_name: 'CosineDecay', config })),
  ),
  beta_1: fc.double({ min: 0, max: 0.99, noNaN: true }),
  clipnorm: fc.option(rate),
  name: fc.string({ unit: 'grapheme' }),
});
const text = fc.string({ unit: 'binary', maxLength: 12 });
const settings = fc.record({
  durability: fc.constantFrom('always' as const, 'everysec' as const, 'checkpoint' as const),
  checkpointing: fc.record({
    every_steps: fc.option(fc.integer({ min: 1 })),
    every_seconds: fc.option(fc.integer({ min: 1 })),
    keep: fc.integer({ min: 1, max: 99 }),
    keep_journal_steps: fc.option(fc.nat(), { nil: null }),
  }),
  aggregation: fc.constantFrom<Aggregation>(
    { mode: 'async' },
    { mode: 'async', max_staleness: 3, staleness_policy: 'scale', quarantine_after: 2 },
    { mode: 'sync', replicas_to_aggregate: 2, total_num_replicas: 3, reduction: 'sum', timeout_ms: 5 },
    { mode: 'ssp', max_lead: 0, worker_timeout_ms: 5, timeout_ms: 6 },
  ),
  // Through JSON, as metadata has always come.
  metadata: fc
    .dictionary(text, fc.jsonValue())
    .map((json) => JSON.parse(JSON.stringify(json)) as Record<string, unknown>),
});

const counted = fc.option(fc.nat(), { nil: undefined });
const contributors = fc.array(fc.record({ worker: text, staleness: counted, clock: counted }), { maxLength: 5 });

describe('a session that is written and read again', () => {
  test('is the same in every bit and setting, with empty tensors, scalars, F64, schedules and any Unicode', async () => {
    const counters = fc.record({ iterations: fc.maxSafeNat(), revision: fc.maxSafeNat() });
    await fc.assert(
      fc.asyncProperty(
        variables,
        configs,
        settings,
        counters,
        contributors,
        fc.nat(),
        async (specs, config, given, counter, by, seed) => {
          const shapes = Object.fromEntries(specs.map(({ name, ...spec }) => [name, spec]));
          const session = fill(sessionOf(shapes, { config, settings: given, ...counter }), seed);
          for (const contributor of by) session.contents.workers.note(contributor);
          if (by[0] !== undefined) session.contents.workers.setQuarantined(by[0].worker, true);
          const { sha256 } = await write(session);
          const again = everything(await readBack(sha256)) as { tensors: { name: string }[] };
          const expected = everything(session) as { tensors: { name: string }[] };
          // The file has the larger dtype first; the names are what counts.
          const order = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
          assert.deepEqual(
            { ...again, tensors: again.tensors.sort(order) },
            { ...expected, tensors: expected.tensors.sort(order) },
          );
        },
      ),
      { numRuns: 25 },
    );
  });

  test('goes on with the same bits as the one that was never written', async () => {
    const session = await sampleSession();
    const { sha256 } = await write(session);
    const again = await readBack(sha256);
    for (const each of [session, again])
      await applyStep(each, { w: dense([1, 2, 3, 4, 5, 6], [3, 2]), s: dense([0.5], []) });
    const tensors = (each: Session) =>
      JSON.stringify(
        (everything(each) as { tensors: { name: string }[] }).tensors.sort((a, b) => (a.name < b.name ? -1 : 1)),
      );
    assert.equal(tensors(again), tensors(session));
    assert.deepEqual(again.head, session.head);
  });

  test('may be larger than the pieces that it is written and read in', async () => {
    const session = fill(
      sessionOf({
        a: { shape: [300_001] },
        b: { shape: [3, 5], dtype: 'F64' },
        c: { shape: [140_000], dtype: 'F64' },
        d: { shape: [40, 500] },
      }),
      3,
    );
    const { sha256, bytes } = await write(session);
    assert.ok(bytes > 6_000_000);
    const [got, expected] = [(await readBack(sha256)).contents.variables, session.contents.variables];
    for (const [name, { memory, shape, dtype }] of expected) {
      for (const part of parts) {
        const [a, b] = [
          encode(new Float64Array(elementCount(shape)), dtype),
          encode(new Float64Array(elementCount(shape)), dtype),
        ];
        memory.read(part, 0, elementCount(shape), a);
        got.get(name)?.memory.read(part, 0, elementCount(shape), b);
        assert.equal(Buffer.compare(a.bytes, b.bytes), 0, `${part} of ${name}`);
      }
    }
  });

  test('is as it stood when the snapshot was taken, whatever changes while it is written', async () => {
    const shape = [800_000];
    const session = fill(sessionOf({ a: { shape } }), 4);
    const checked = await session.check(new Map([['a', dense(Array(800_000).fill(1), shape)]]));
    const moment = await write(session);
    let steps = 0;
    let stepping: Promise<void> | undefined;
    // The memory changes before the call returns; the next step waits until this one is over.
    const step = async (): Promise<void> => {
      await session.apply(session.prepare(checked, () => []));
      steps++;
      stepping = undefined;
    };
    const { sha256 } = await write(session, () => {
      stepping ??= step();
      return undefined;
    });
    await stepping;
    assert.ok(steps >= 5, `only ${steps} steps came between`);
    assert.equal(sha256, moment.sha256);
    assert.notEqual((await write(session)).sha256, moment.sha256);
  });
});

describe('a checkpoint file', () => {
  test('has the length and SHA-256 that are told of it, and can be described by its header alone', async () => {
    const session = await sampleSession();
    const { bytes, sha256 } = await write(session);
    const file = await readFile(path);
    assert.equal(bytes, file.length);
    assert.equal(sha256, createHash('sha256').update(file).digest('hex'));
    const description = await readCheckpointDescription(path);
    assert.deepEqual(
      [description.bytes, description.session, description.revision, description.iterations, description.savedAt],
      [file.length, 's', 42, 5, savedAt],
    );
  });

  test('opens as safetensors, with w, w:m and w:v for every variable and the rest in its metadata', async () => {
    const session = await sampleSession();
    await write(session);
    const { metadata, tensors } = parseSafetensors(await readFile(path));
    assert.deepEqual([...tensors.keys()].sort(), ['b', 'b:m', 'b:v', 's', 's:m', 's:v', 'w', 'w:m', 'w:v']);
    for (const { name, memory, shape, dtype } of session.contents.variables.values()) {
      for (const part of parts) {
        const expected = encode(new Float64Array(elementCount(shape)), dtype);
        memory.read(part, 0, elementCount(shape), expected);
        const tensor = tensors.get(part === 'w' ? name : `${name}:${part}`);
        assert.deepEqual([tensor?.dtype, tensor?.shape], [dtype, shape]);
        assert.equal(Buffer.compare(tensor?.bytes as Uint8Array, expected.bytes), 0);
      }
    }
    assert.equal(metadata.get('format'), 'adamax-server/1');
    assert.equal(metadata.get('session'), 's');
    assert.equal(metadata.get('iterations'), '5');
    assert.deepEqual(JSON.parse(metadata.get('optimizer') as string).config, session.contents.optimizer);
    assert.deepEqual(JSON.parse(metadata.get('checkpointing') as string), defaultSettings.checkpointing);
  });

  test('is given up with the error that is returned', async () => {
    const reason = new Error('deleted');
    let asked = 0;
    await assert.rejects(
      write(sessionOf({ a: { shape: [200_000] } }), () => (asked++ < 2 ? undefined : reason)),
      (error) => error === reason,
    );
  });
});

test('a large file is forced to the disk on the way as well, and each failure of that is the file’s', async (t) => {
  // 12 bytes for each of 3 M floats: two times 16 MiB, and the end.
  const session = sessionOf({ w: { shape: [3_000_000] } });
  const disk = await FailingDisk.install(t);
  assert.equal(await disk.count(['sync'], () => write(session)), 3);
  for (let at = 0; at < 3; at++) {
    const { error } = await disk.during({ operations: ['sync'], at, code: 'EIO' }, () => write(session));
    assert.equal((error as NodeJS.ErrnoException | undefined)?.code, 'EIO', `sync ${at}`);
  }
  const { sha256 } = await write(session);
  assert.equal((await readBack(sha256)).contents.variables.size, 1);
});

describe('damage to a file is noticed', () => {
  let file: Buffer;
  let sha256: string;
  before(async () => {
    ({ sha256 } = await write(sessionOf({ w: { shape: [2], values: [1, 2] } })));
    file = await readFile(path);
  });
  const assertRefused = async (bytes: Uint8Array, what: string) => {
    await writeFile(path, bytes);
    await assert.rejects(readCheckpointFile(path, sha256), { name: 'Problem' }, what);
  };

  test('in every single byte', async () => {
    for (let at = 0; at < file.length; at++) {
      const flipped = Buffer.from(file);
      flipped[at] = (file[at] as number) ^ (1 << (at % 8));
      await assertRefused(flipped, `byte ${at}`);
    }
  });

  test('whatever a byte becomes', async () => {
    const change = fc.record({ at: fc.nat(file.length - 1), by: fc.integer({ min: 1, max: 255 }) });
    await fc.assert(
      fc.asyncProperty(change, async ({ at, by }) => {
        const changed = Buffer.from(file);
        changed[at] = (file[at] as number) ^ by;
        await assertRefused(changed, `byte ${at}`);
      }),
      { numRuns: 100 },
    );
  });

  test('where it is cut off, at any length, or goes on', async () => {
    for (let length = 0; length < file.length; length++)
      await assertRefused(file.subarray(0, length), `${length} bytes`);
    await assertRefused(Buffer.concat([file, Buffer.of(0)]), 'one byte more');
  });

  test('where it is a good file, but not the one that the SHA-256 was taken of', async () => {
    await writeFile(path, file);
    await assert.rejects(readCheckpointFile(path, '0'.repeat(64)), {
      code: 'malformed_body',
      message: /must have the SHA-256 0{64}\. Received: [0-9a-f]{64}$/,
    });
  });
});
