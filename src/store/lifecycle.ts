/** How sessions come and go: creation, fork and deletion, each applied once however often it is asked for. */
import { storageProblem } from '../journal/files.ts';
import type { Threads } from '../kernel/threads.ts';
import { sessionsMax } from '../limits.ts';
import { type Head, Session, type SessionContents } from '../session/session.ts';
import { settle } from './creation.ts';
import type { DiskSpace } from './disk-space.ts';
import type { HeldSession } from './held-session.ts';
import type { KeyEntry, RequestKey } from './idempotency.ts';
import type { Log } from './log.ts';
import type { MemoryBudget } from './memory-budget.ts';
import { type Names, taken } from './names.ts';
import type { Outcome } from './outcome.ts';
import { exceeded, type Quota, requireQuota } from './quota.ts';
import type { ChangeRequest } from './requests.ts';
import type { SessionFolder } from './session-folder.ts';
import type { Started } from './start.ts';

/** A session to be created, checked already: what it will take, and how to make it. */
export interface NewSession {
  /** Memory for its variables and slots. */
  readonly bytes: number;
  make(): Promise<SessionContents>;
}

/** What of the store sessions come into and go from. */
export interface Household {
  readonly sessions: Map<string, HeldSession>;
  /** Throws `session_not_found`, and `recovering` until all are back. */
  readonly session: (name: string) => HeldSession;
  readonly names: Names;
  readonly memory: MemoryBudget;
  readonly disk: DiskSpace;
  readonly threads: Threads;
  readonly log: Log;
  readonly place: (name: string) => SessionFolder;
  /** Throws `recovering` until all sessions are back. */
  readonly recovered: () => Started;
}

/** What is made: under which name, how large, for which request. */
interface Creation {
  readonly name: string;
  readonly bytes: number;
  readonly make: () => Promise<{ contents: SessionContents; keys: readonly KeyEntry[] }>;
  readonly key: RequestKey | undefined;
  /** The session that the request named in its address, if it is another one. */
  readonly sentTo: string | undefined;
  readonly quota: Quota | undefined;
}

export class Lifecycle {
  readonly #house: Household;
  /** Sessions in the making, with what they will take. */
  readonly #making = new Map<string, number>();

  constructor(house: Household) {
    this.#house = house;
  }

  /** Creates a session; it is on the disk when this returns. Throws `session_exists`. */
  create(name: string, wanted: NewSession, key?: RequestKey, quota?: Quota): Promise<Outcome<HeldSession>> {
    const make = async () => ({ contents: await wanted.make(), keys: [] });
    return this.#house.names.keysOf(name).once(
      key,
      () => this.#create({ name, bytes: wanted.bytes, make, key, sentTo: undefined, quota }),
      (entry) => this.#made(entry),
    );
  }

  /**
   * Creates the session `into` with the state of `name` as it stands, or last stood at `iterations`. What the keys of that time
   * did is known to it as well. Throws `session_exists` and `iteration_unavailable`.
   */
  fork(
    name: string,
    into: string,
    iterations: number | undefined,
    request: ChangeRequest,
    quota?: Quota,
  ): Promise<Outcome<HeldSession>> {
    const keys = this.#house.names.keysOf(name);
    const first = () => {
      const held = this.#house.session(name);
      const make = async () => {
        const { contents, revision } = await held.copy(iterations, request);
        const known = keys.entries.filter((entry) => isOfState(entry) && entry.revision <= revision);
        return { contents, keys: known.map((entry) => ({ ...entry, revision: 0 })) };
      };
      return this.#create({ name: into, bytes: held.bytes, make, key: request.key, sentTo: name, quota });
    };
    return keys.once(request.key, first, (entry) => this.#made(entry));
  }

  /** Deletes a session and, unless they are to be kept, its checkpoints. */
  delete(name: string, keepCheckpoints: boolean, request: ChangeRequest): Promise<Outcome<void>> {
    const first = async () => {
      const held = this.#house.session(name);
      await this.#house.names.alone(name, () => this.#delete(held, keepCheckpoints, request));
      return { result: undefined, replayed: false };
    };
    return this.#house.names.keysOf(name).once(request.key, first, async () => ({ result: undefined, replayed: true }));
  }

  async #create({ name, bytes, make, key, sentTo, quota }: Creation): Promise<Outcome<HeldSession>> {
    return this.#house.names.alone(name, async () => {
      const { journal } = this.#house.recovered();
      if (this.#house.sessions.has(name)) throw taken(name);
      const making = [...this.#making].map(([each, size]) => ({ name: each, bytes: size }));
      if (this.#house.sessions.size + making.length >= sessionsMax) {
        throw exceeded(`at most ${sessionsMax} sessions can exist. Received: one more`);
      }
      if (quota !== undefined) requireQuota(quota, [...this.#house.sessions.values(), ...making], bytes);
      const release = this.#house.memory.reserve(bytes);
      this.#making.set(name, bytes);
      let written: (() => void) | undefined;
      let session: Session | undefined;
      try {
        written = this.#house.disk.reserve('session', bytes);
        const { contents, keys } = await make();
        session = new Session(name, new Date().toISOString(), contents, 0, this.#house.threads);
        const entries = key === undefined ? keys : [...keys, creationEntry(key, session.head, sentTo)];
        const held = await settle(this.#house.place(name), journal, session, entries);
        for (const entry of entries) this.#house.names.remember(name, entry);
        this.#house.sessions.set(name, held);
        this.#house.log.info({ session: name }, 'session created');
        return { result: held, replayed: false };
      } catch (error) {
        session?.release();
        throw storageProblem(error);
      } finally {
        this.#making.delete(name);
        release();
        written?.();
      }
    });
  }

  /** What a creation made, for its repeat. Throws `session_not_found` where it has been deleted since. */
  async #made({ made }: KeyEntry): Promise<Outcome<HeldSession>> {
    return { result: this.#house.session(made as string), replayed: true };
  }

  async #delete(held: HeldSession, keepCheckpoints: boolean, request: ChangeRequest): Promise<void> {
    const { deletions } = this.#house.recovered();
    const { name } = held;
    const kept = this.#house.names.keysOf(name).entries.filter(({ made }) => made === name);
    const { head } = held.view;
    if (request.key !== undefined) kept.push({ ...request.key, ...positionOf(head) });
    const entries = kept.map((entry) => ({ ...entry, sentTo: entry.sentTo ?? name }));
    // A fork is known by the session that it was asked of, and was on the disk with the one that it made.
    const forks = this.#house.names.elsewhere.filter(({ made, sentTo }) => made === name && sentTo !== name);
    const journal = held.live.log.journal.id.toString('hex');
    let finish: (() => Promise<void>) | undefined;
    await held.delete(request, async () => {
      finish = await deletions.decide({ name, journal, keep_checkpoints: keepCheckpoints }, [...entries, ...forks]);
    });
    this.#house.sessions.delete(name);
    this.#house.names.forget(name, entries);
    await finish?.().catch((error) => {
      this.#house.log.warn(
        { session: name, error: String(error) },
        'what is left of a deleted session goes at the next start',
      );
    });
    this.#house.log.info({ session: name, keepCheckpoints }, 'session deleted');
  }
}

/** Whether a request changed what a fork takes over: not for what it made, or did to checkpoints. */
function isOfState({ sentTo, made, wrote, removed }: KeyEntry): boolean {
  return sentTo === undefined && made === undefined && wrote === undefined && removed === undefined;
}

function creationEntry(key: RequestKey, head: Head, sentTo: string | undefined): KeyEntry {
  const entry = { ...key, ...positionOf(head), made: head.session };
  return sentTo === undefined ? entry : { ...entry, sentTo };
}

function positionOf({
  revision,
  iterations,
  learningRate,
}: Head): Pick<KeyEntry, 'revision' | 'iterations' | 'learningRate'> {
  return { revision, iterations, learningRate };
}
