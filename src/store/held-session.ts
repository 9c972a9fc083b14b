/**
 * A session as requests meet it: its steps, reads and changes, and the signal that wakes those who wait for a
 * change. Every call that changes something can come with an idempotency key; a repeat is told what came of the first.
 */
import { shuttingDown } from '../errors.ts';
import { storageProblem } from '../journal/files.ts';
import type { Part } from '../kernel/extent.ts';
import { learningRateAt } from '../optimizer/scalars.ts';
import { extentOf, type Slices } from '../session/gradient.ts';
import type { Head, Receive, Selection, SessionContents, SessionPatch } from '../session/session.ts';
import type { Durability } from '../session/settings.ts';
import { stateBytes } from '../session/variable.ts';
import type { Checkpointer } from './checkpointer.ts';
import { type DurableState, durableStateOf } from './durable-state.ts';
import { type PastState, pastState, presentState } from './history.ts';
import type { KeyEntry } from './idempotency.ts';
import type { LiveSession } from './live-session.ts';
import { type Outcome, outcomeOf } from './outcome.ts';
import { Pushes } from './pushes.ts';
import { setQuarantined } from './quarantine.ts';
import type { ChangeRequest, StepReply, StepRequest } from './requests.ts';
import type { Revisions } from './revisions.ts';
import { SessionCheckpoints } from './session-checkpoints.ts';
import type { SessionEvents } from './session-events.ts';
import { type SessionView, viewOf } from './session-view.ts';
import { touchedRows } from './touched-rows.ts';
import { fingerprintOf } from './whole-state.ts';
import { countWorkers, viewWorkers, type WorkerView } from './worker-view.ts';

export class HeldSession {
  readonly #live: LiveSession;
  readonly #checkpointer: Checkpointer;
  readonly #revisions: Revisions;
  readonly #onStep: () => void;
  readonly checkpoints: SessionCheckpoints;
  readonly pushes: Pushes;
  #measured: { variables: SessionContents['variables']; bytes: number } | undefined;
  #waiting = true;

  /** `onStep` is called after every change, for whoever sees to checkpoints. */
  constructor(live: LiveSession, checkpointer: Checkpointer, revisions: Revisions, onStep: () => void) {
    this.#live = live;
    this.#checkpointer = checkpointer;
    this.#revisions = revisions;
    this.#onStep = onStep;
    this.checkpoints = new SessionCheckpoints(live, checkpointer, onStep);
    this.pushes = new Pushes(live, (revision, milliseconds, gone) => this.waitForChange(revision, milliseconds, gone));
  }

  get name(): string {
    return this.#live.session.name;
  }

  get revision(): number {
    return this.#live.session.revision;
  }

  get contents(): SessionContents {
    return this.#live.session.contents;
  }

  get live(): LiveSession {
    return this.#live;
  }

  /** Of its variables and slots in memory. */
  get bytes(): number {
    const { variables } = this.contents;
    if (this.#measured?.variables !== variables) this.#measured = { variables, bytes: stateBytes(variables.values()) };
    return this.#measured.bytes;
  }

  /** How much of it would be there after a crash. */
  get durable(): DurableState {
    return durableStateOf(this.#live, this.#checkpointer);
  }

  get view(): SessionView {
    return viewOf(this.#live, this.#checkpointer);
  }

  /**
   * Applies gradients, alone or with those of other workers. The reply gets the values right after the step or, of a repeat, the
   * values now; of several that are the same, one gets them, and all are told which.
   */
  async applyGradients<R extends StepReply>(
    gradients: ReadonlyMap<string, Slices>,
    request: StepRequest,
    reply: R,
  ): Promise<{ head: Head; reply: R }> {
    const first = async () => {
      this.#live.takeRoom(request, extentOf(gradients.values()).bytes);
      const applied = await this.pushes.push(gradients, request, reply);
      this.#onStep();
      return applied as { head: Head; reply: R };
    };
    return this.#live.keys.once(request.key, first, async (entry) => {
      const receive: Receive = (head, tensors) => {
        const places = reply.receive(asAnswered(head, entry), tensors);
        reply.begin?.(this.durability, true);
        return places;
      };
      const head = await this.read('w', touchedRows(gradients), receive);
      return { head: asAnswered(head, entry), reply };
    });
  }

  /** The level that a change is acknowledged at now. */
  get durability(): Durability {
    return this.#live.log.level(this.#live.durability);
  }

  read(part: Part, selections: readonly Selection[] | undefined, receive: Receive): Promise<Head> {
    return this.#live.read(() => this.#live.session.read(part, selections, receive));
  }

  get workers(): WorkerView[] {
    return viewWorkers(this.contents.workers, this.pushes.watch);
  }

  get workerCounts(): ReturnType<typeof countWorkers> {
    return countWorkers(this.contents.workers, this.pushes.watch);
  }

  /** Takes a worker back that was put aside. */
  release(worker: string, request: ChangeRequest): Promise<Outcome<Head>> {
    const { session } = this.#live;
    const first = () => setQuarantined(this.#live, worker, false, request);
    return outcomeOf(this.#live, request, first, async (entry) => asAnswered(session.head, entry));
  }

  /** Of variables by name, or of all, what has changed since the session was at `revision`, as far as that is known. */
  readSince(revision: number, names: readonly string[] | undefined, receive: Receive): Promise<Head> {
    return this.#live.read(() => this.#live.session.readSince(revision, names, receive));
  }

  assign(part: Part, assignments: ReadonlyMap<string, Slices>, request: ChangeRequest): Promise<Outcome<Head>> {
    const { session } = this.#live;
    const first = () =>
      this.#live.change(request, async (commit) => {
        this.#live.takeRoom(request, extentOf(assignments.values()).bytes);
        const checked = session.checkAssignments(part, assignments);
        await commit({ kind: 'assign', part, assignments }, {});
        return session.assign(checked);
      });
    return outcomeOf(this.#live, request, first, async (entry) => asAnswered(session.head, entry));
  }

  async patch(patch: SessionPatch, request: ChangeRequest): Promise<Outcome<SessionView>> {
    const { session, log } = this.#live;
    const first = () =>
      this.#live.change(request, async (commit) => {
        const configuration = session.patched(patch);
        const { optimizer, iterations, settings } = configuration;
        await commit(
          { kind: 'patch', ...configuration },
          { iterations, learningRate: learningRateAt(optimizer, iterations) },
        );
        session.configure(configuration);
        log.levelChanged(settings.durability);
        return this.view;
      });
    const outcome = await outcomeOf(this.#live, request, first, async () => this.view);
    // Now, since less may be kept because the disk has too little room for the next checkpoint.
    if (patch.checkpointing !== undefined) this.#checkpointer.trim();
    // What the new level promises leads on from a checkpoint; if it cannot be written now, it is tried again.
    if (log.lacksCheckpoint(this.#live.durability)) await this.checkpoints.write().catch(() => undefined);
    return outcome;
  }

  /**
   * Waits until the revision is another one, for so long, or until `signal` is aborted or `endWaits` is called. Throws
   * `session_not_found` if the session was deleted meanwhile.
   */
  async waitForChange(revision: number, milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
    const isOver = () => !this.#waiting || this.revision !== revision;
    await this.events.until(isOver, milliseconds, signal);
    this.#live.assertLive();
  }

  /** Nobody waits any more, for a change or for other workers, neither who does now nor who would. */
  endWaits(): void {
    this.#waiting = false;
    this.pushes.close(this.#live.gone() ?? shuttingDown());
    this.#live.events.wake();
  }

  /** What happens to it. Throws `session_not_found` where nothing will any more. */
  get events(): SessionEvents {
    this.#live.assertLive();
    return this.#live.events;
  }

  /** Who listens hears no more from it. */
  endEvents(): void {
    this.#live.events.end();
  }

  /**
   * The SHA-256, in hexadecimal, of the state's canonical bytes, and where the session then stood. Steps wait meanwhile;
   * other sessions do not.
   */
  fingerprint(): Promise<{ head: Head; sha256: string }> {
    return this.#live.read(async () => ({ head: this.#live.session.head, sha256: await fingerprintOf(this.contents) }));
  }

  /**
   * The state in memory of its own: as it stands or, if `iterations` is another than now, as it last was with that counter.
   * Throws `iteration_unavailable` where checkpoints and journal do not reach it.
   */
  async copy(iterations: number | undefined, { precondition }: ChangeRequest): Promise<PastState> {
    const live = this.#live;
    const present = await live.turns.alone(async () => {
      live.requireFit(precondition);
      return iterations === undefined || iterations === this.contents.iterations ? presentState(live) : undefined;
    });
    return present ?? pastState(live, this.#checkpointer, iterations as number).catch(rethrow);
  }

  /** A last checkpoint if there was a change and it does not fill the disk, and a note that nothing came after it. */
  async close(): Promise<void> {
    if (this.checkpoints.mayBeSaved) await this.checkpoints.save();
    await this.#live.turns.alone(async () => {
      if (this.#checkpointer.upToDate) await this.#revisions.settle(this.revision);
    });
    await this.#checkpointer.idle();
  }

  /** Runs `remove` in its turn; what waits behind it finds no session. A checkpoint under way is given up. */
  async delete(request: ChangeRequest, remove: () => Promise<void>): Promise<void> {
    await this.#live.change({ precondition: request.precondition }, async () => {
      await remove();
      this.#live.markDeleted();
      const { session, events } = this.#live;
      events.publish({ kind: 'session', ...session.position, change: 'deleted' });
      this.endWaits();
      this.endEvents();
    });
    await this.#checkpointer.idle();
    this.#live.session.release();
  }
}

/** What a repeat is told: where the first request had brought the session, and where it stands now. */
function asAnswered(head: Head, { iterations, learningRate }: KeyEntry): Head {
  return { ...head, iterations, learningRate };
}

function rethrow(error: unknown): never {
  throw storageProblem(error);
}
