/**
 * The power goes at any moment of a training, and what was not synced is lost, or lost by chance. The server starts on what
 * the disk has left, and every promise holds: a session that was created is there, one that was deleted is not, `always` has
 * every acknowledged step, `everysec` those that are older than a second, `checkpoint` those of the last checkpoint. Whatever
 * a session has is exactly the state after its number of steps: no step is missing in between. And training goes on.
 *
 * The server is ended in peace, so that every request has an answer and all orders are known; the moments are chosen
 * afterwards, in the log of what it did. POWER_CUTS says how many (24).
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { randomUnits } from '../support/floats.ts';
import { type ServerProcess, startServer, temporaryFolder } from '../support/server-process.ts';
import { contentsOf } from './contents.ts';
import { SimulatedDisk, type Survival } from './materialize.ts';
import type { Entry, SyncKind } from './operation-log.ts';
import { type Moment, pushesOf, type TrainedSession, train } from './recorded-training.ts';
import { Recorder } from './recorder.ts';
import { fingerprints } from './varied-path.ts';

const cuts = Number(process.env.POWER_CUTS ?? 12);
/** "fdatasync", for instance: a disk that says to have done it and has not. To see that the checks can fail. */
const lies = (process.env.POWER_CUT_LIES?.split(',') ?? []) as readonly SyncKind[];
/** A folder for what the disk had when a check fails, if that is to be kept. */
const keep = process.env.POWER_CUT_KEEP;
const trainingMs = 6_000;
const firstOperations = 60;
/** Of the server's second: for its timer, and for a machine with other work. */
const slackMs = 100;
/** For a server to start; a busy machine takes seconds. */
const startMs = 120_000;

interface Cut extends Moment {
  readonly survival: Survival;
}

interface Promises {
  /** With the fingerprint after each number of steps. */
  readonly states: ReadonlyMap<TrainedSession, readonly string[]>;
  /** How long a push of `everysec` may be on its way to the disk. */
  readonly everysecMs: number;
}

test('what was promised survives a power cut', { timeout: 1_200_000 }, async (t) => {
  const recorder = await Recorder.create(t);
  if (recorder === undefined) return;
  const server = await startServer(t, recorder.folder, recorder.env);
  const sessions = await train(server, recorder, trainingMs);
  await server.end('SIGTERM');
  const entries = await recorder.entries();

  const whole = await SimulatedDisk.load(undefined);
  whole.advance(entries, recorder.position());
  const copy = join(await temporaryFolder(t), 'data');
  await whole.writeTo(copy, 'everything');
  assert.deepEqual(await contentsOf(copy, /-lock$/), await contentsOf(recorder.folder, /-lock$/), 'the log has a gap');

  const promises = await promisesOf(t, sessions, entries);
  const disk = await SimulatedDisk.load(undefined, { lies });
  for (const [index, cut] of randomCuts(entries, cuts).entries()) {
    disk.advance(entries, cut.position);
    if (index % 3 === 2) await assertKeptTwice(t, disk, cut, promises);
    else await assertKept(t, disk, cut, cut, promises);
  }
  const steps = sessions.filter(({ deleted }) => !deleted).map(({ name, pushes }) => `${name}: ${pushes.length}`);
  t.diagnostic(`${entries.length} operations, ${sessions.length} sessions, steps: ${steps.join(', ')}`);
});

async function promisesOf(
  t: TestContext,
  sessions: readonly TrainedSession[],
  entries: readonly Entry[],
): Promise<Promises> {
  const server = await startServer(t, await temporaryFolder(t));
  const states = new Map<TrainedSession, string[]>();
  for (const [index, session] of sessions.entries()) {
    states.set(session, await fingerprints(server, `s${index}`, session.path, pushesOf(session)));
  }
  await server.end('SIGKILL');
  return { states, everysecMs: 1000 + slackMs + longestSync(entries) };
}

/** From the last entry that a sync covers to its end, which is at least as long as it took. */
function longestSync(entries: readonly Entry[]): number {
  const starts = new Map(entries.map(({ end, time }) => [end, time]));
  const lengths = entries.map((entry) =>
    entry.type === 'sync' && entry.kind !== 'synced write' ? entry.time - (starts.get(entry.covered) ?? entry.time) : 0,
  );
  return lengths.reduce((longest, length) => Math.max(longest, length), 0);
}

/**
 * In order. Half of them right behind an operation, of these every other one behind one of the first, while the server makes
 * its files; the others at any time. A third lose all that was not synced.
 */
function randomCuts(entries: readonly Entry[], count: number): Cut[] {
  const random = randomUnits(Date.now() & 0xffff);
  const [begin, end] = [(entries[0] as Entry).time, (entries.at(-1) as Entry).time];
  return Array.from({ length: count }, (_, index): Cut => {
    const survival = index % 3 === 0 ? ('synced' as const) : { seed: Math.floor(random() * 1e6) };
    const among = index % 4 === 0 ? Math.min(firstOperations, entries.length) : entries.length;
    const entry = entries[Math.floor(random() * among)] as Entry;
    if (index % 2 === 0) return { position: entry.end, time: entry.time, survival };
    const time = begin + random() * (end - begin);
    return { position: entries.findLast((each) => each.time <= time)?.end ?? 0, time, survival };
  }).sort((a, b) => a.position - b.position);
}

/** A server starts on what the disk has after `cut`, all that was promised before `last` is there, and it goes on. */
async function assertKept(t: TestContext, disk: SimulatedDisk, cut: Cut, last: Cut, promises: Promises): Promise<void> {
  const folder = join(await temporaryFolder(t), 'data');
  await disk.writeTo(folder, cut.survival);
  await describing(t, disk, cut, async () => {
    const server = await start(t, folder);
    const found = await assertPromises(server, last, promises);
    for (const [{ name, path }, iterations] of found) {
      const answer = await server.call('POST', `/v1/sessions/${name}/gradients`, path.push(1));
      assert.equal(answer.status, 200, answer.bytes.toString());
      assert.equal(answer.json.iterations, iterations + 1);
    }
    await server.end('SIGKILL');
  });
}

/** The power goes once more, at any moment of the recovery or of the shutdown that comes after it. */
async function assertKeptTwice(t: TestContext, disk: SimulatedDisk, cut: Cut, promises: Promises): Promise<void> {
  const recorder = (await Recorder.create(t)) as Recorder;
  await disk.writeTo(recorder.folder, cut.survival);
  const next = await SimulatedDisk.load(recorder.folder, { lies });
  await describing(t, disk, cut, async () => {
    const server = await start(t, recorder.folder, recorder.env);
    await assertPromises(server, cut, promises);
    await server.end('SIGTERM');
    const entries = await recorder.entries();
    const [again] = randomCuts(entries, 1) as [Cut];
    next.advance(entries, again.position);
    await assertKept(t, next, { ...again, survival: { seed: again.position } }, cut, promises);
  });
}

/** Returns what there is of each session, in steps. */
async function assertPromises(server: ServerProcess, cut: Cut, { states, everysecMs }: Promises) {
  const get = async (path: string) => (await server.call('GET', path)).json;
  assert.deepEqual((await get('/readyz')).damaged, [], 'a power cut damages nothing');
  const listed = await get('/v1/sessions?limit=1000');
  const names = new Set<string>(listed.sessions.map(({ name }: { name: string }) => name));
  // Of those that had the same name, the last one.
  const begun = [...states.keys()].filter(({ creating }) => creating.position < cut.position);
  const found = new Map<TrainedSession, number>();
  for (const session of new Map(begun.map((each) => [each.name, each])).values()) {
    const { name, created, deleting, deleted } = session;
    const isThere = names.delete(name);
    const isPromised = created.position <= cut.position && !(deleting && deleting.position < cut.position);
    if (isPromised) assert.ok(isThere, `${name} was created and is not there`);
    if (deleted && deleted.position <= cut.position) assert.ok(!isThere, `${name} was deleted and is there`);
    if (!isThere) continue;
    const { iterations, sha256 } = await get(`/v1/sessions/${name}/fingerprint`);
    const promised = promisedSteps(session, cut, everysecMs);
    assert.ok(iterations >= promised, `${name} must have ${promised} steps. It has ${iterations}`);
    assert.equal(sha256, states.get(session)?.[iterations], `${name} has not the state after ${iterations} steps`);
    found.set(session, iterations);
  }
  assert.deepEqual([...names], [], 'nobody has created these');
  return found;
}

function promisedSteps({ durability, pushes, saved }: TrainedSession, cut: Cut, everysecMs: number): number {
  const told = ({ told: { position, time } }: { told: Moment }) =>
    durability === 'everysec' ? time <= cut.time - everysecMs : position <= cut.position;
  const checkpoints = saved.filter((each) => each.told.position <= cut.position);
  const kept = durability === 'checkpoint' ? checkpoints : [...checkpoints, ...pushes.filter(told)];
  return kept.reduce((most, { iterations }) => Math.max(most, iterations), 0);
}

/** Fails where the server does not come, as one that reads a journal without an end. */
async function start(t: TestContext, folder: string, env?: Record<string, string>): Promise<ServerProcess> {
  const late = delay(startMs, undefined, { ref: false }).then(() => assert.fail('the server must start'));
  return Promise.race([startServer(t, folder, env), late]);
}

/** Says of a failure when the power went and what the disk had. */
async function describing(t: TestContext, disk: SimulatedDisk, cut: Cut, task: () => Promise<void>): Promise<void> {
  try {
    await task();
  } catch (error) {
    const copy = join(keep ?? (await temporaryFolder(t)), `cut-${cut.position}`);
    await disk.writeTo(copy, cut.survival);
    const files = Object.entries(await contentsOf(copy)).map(([path, text]) => `${path} (${text?.length ?? 'folder'})`);
    throw new Error(`after ${JSON.stringify(cut)}, with ${files.join(', ')}: ${error}`, { cause: error });
  }
}
