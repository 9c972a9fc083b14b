/**
 * What clients do with a server under the recorder, and what they are told: sessions of each durability, pushed to by several
 * clients at a time, checkpoints, and sessions that come and go. With every answer, when it came and how far the log was.
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { Answer, Call } from '../support/api.ts';
import type { ServerProcess } from '../support/server-process.ts';
import type { Recorder } from './recorder.ts';
import { largePath, smallPath, type VariedPath } from './varied-path.ts';

export type Durability = 'always' | 'everysec' | 'checkpoint';

export interface Moment {
  /** In the log: whatever was done for the answer lies before. */
  readonly position: number;
  /** Milliseconds since 1970. */
  readonly time: number;
}

export interface TrainedSession {
  readonly name: string;
  readonly durability: Durability;
  readonly path: VariedPath;
  /** Before the creation was asked for. */
  readonly creating: Moment;
  readonly created: Moment;
  /** Before the deletion was asked for. */
  deleting?: Moment;
  deleted?: Moment;
  /** Acknowledged pushes: which one it was, and which step it became. */
  readonly pushes: { readonly number: number; readonly iterations: number; readonly told: Moment }[];
  /** Acknowledged checkpoints. */
  readonly saved: { readonly iterations: number; readonly told: Moment }[];
}

const kinds: readonly { name: string; durability: Durability; path: VariedPath; clients: number; pauseMs: number }[] = [
  { name: 'always-1', durability: 'always', path: smallPath, clients: 3, pauseMs: 10 },
  { name: 'always-2', durability: 'always', path: smallPath, clients: 1, pauseMs: 30 },
  { name: 'always-large', durability: 'always', path: largePath, clients: 1, pauseMs: 400 },
  { name: 'everysec-1', durability: 'everysec', path: smallPath, clients: 2, pauseMs: 10 },
  { name: 'everysec-2', durability: 'everysec', path: smallPath, clients: 1, pauseMs: 100 },
  { name: 'everysec-large', durability: 'everysec', path: largePath, clients: 1, pauseMs: 500 },
  { name: 'checkpoint-1', durability: 'checkpoint', path: smallPath, clients: 2, pauseMs: 10 },
];

/** On a machine with other work, training takes longer until it has been so many. */
const stepsMin = 300;

/** Trains so long; every request has been answered when it is over. Of a name there may be several, one after the other. */
export async function train(
  server: ServerProcess,
  recorder: Recorder,
  milliseconds: number,
): Promise<TrainedSession[]> {
  const begun = Date.now();
  let steps = 0;
  const isOver = () => {
    const elapsed = Date.now() - begun;
    return elapsed > 5 * milliseconds || (elapsed > milliseconds && steps >= stepsMin);
  };
  const now = (): Moment => ({ position: recorder.position(), time: Date.now() });
  const call = async (method: string, path: string, options?: Call): Promise<Answer> => {
    const answer = await server.call(method, `/v1/sessions/${path}`, options);
    assert.ok(answer.status < 300, `${method} ${path}: ${answer.bytes}`);
    return answer;
  };

  const sessions: TrainedSession[] = [];
  const create = async (name: string, durability: Durability, path: VariedPath): Promise<TrainedSession> => {
    const checkpointing = { every_steps: durability === 'checkpoint' ? 15 : 60, every_seconds: null, keep: 2 };
    const creating = now();
    await call('PUT', name, { json: { variables: path.variables, durability, checkpointing } });
    const session = { name, durability, path, creating, created: now(), pushes: [], saved: [] };
    sessions.push(session);
    return session;
  };
  const push = async (session: TrainedSession, number: number): Promise<void> => {
    const { json } = await call('POST', `${session.name}/gradients`, session.path.push(number));
    session.pushes.push({ number, iterations: json.iterations, told: now() });
    steps++;
  };
  const keepPushing = async (session: TrainedSession, next: () => number, pauseMs: number): Promise<void> => {
    while (!isOver()) {
      await push(session, next());
      await delay(pauseMs);
    }
  };
  const save = async (session: TrainedSession, pauseMs: number): Promise<void> => {
    while (!isOver()) {
      await delay(pauseMs);
      const { json } = await call('POST', `${session.name}/checkpoints`);
      session.saved.push({ iterations: json.iterations, told: now() });
    }
  };
  const comeAndGo = async (durability: Durability): Promise<void> => {
    for (let count = 1; !isOver(); count++) {
      const session = await create(`passing-${durability}-${count % 7}`, durability, smallPath);
      for (let number = 1; number <= count % 3; number++) await push(session, number);
      await delay(50);
      session.deleting = now();
      await call('DELETE', session.name);
      session.deleted = now();
      await delay(50);
    }
  };

  const trainOne = async ({ name, durability, path, clients, pauseMs }: (typeof kinds)[number]): Promise<void> => {
    const session = await create(name, durability, path);
    let number = 0;
    const next = () => ++number;
    const pushing = Array.from({ length: clients }, () => keepPushing(session, next, pauseMs));
    await Promise.all([...pushing, save(session, durability === 'checkpoint' ? 150 : 1200)]);
  };
  await Promise.all([...kinds.map(trainOne), comeAndGo('checkpoint'), comeAndGo('always')]);
  return sessions;
}

/** The numbers of the pushes that a session has come by, in the order in which they were applied. */
export function pushesOf({ pushes, name }: TrainedSession): number[] {
  const inOrder = pushes.toSorted((a, b) => a.iterations - b.iterations);
  for (const [index, { iterations }] of inOrder.entries()) assert.equal(iterations, index + 1, `${name} skips a step`);
  return inOrder.map(({ number }) => number);
}
