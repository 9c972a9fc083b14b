/** The checkpoints of a session as requests meet them: to write, list, read, delete one, and to put the session back to it. */
import type { Readable } from 'node:stream';
import { Problem } from '../errors.ts';
import { storageProblem } from '../journal/files.ts';
import { learningRateAt } from '../optimizer/scalars.ts';
import { stateBytes } from '../session/variable.ts';
import type { CheckpointInfo } from './checkpoint-folder.ts';
import type { Checkpointer, SavedState, WrittenCheckpoint } from './checkpointer.ts';
import type { DiskUse } from './disk-space.ts';
import type { After, LiveSession } from './live-session.ts';
import { type Outcome, outcomeOf } from './outcome.ts';
import type { ChangeRequest, Precondition } from './requests.ts';
import { type SessionView, viewOf } from './session-view.ts';

export class SessionCheckpoints {
  readonly #live: LiveSession;
  readonly #checkpointer: Checkpointer;
  readonly #onChange: () => void;

  /** `onChange` is called after a restore, for whoever sees to checkpoints. */
  constructor(live: LiveSession, checkpointer: Checkpointer, onChange: () => void) {
    this.#live = live;
    this.#checkpointer = checkpointer;
    this.#onChange = onChange;
  }

  /** Newest first. */
  get list(): CheckpointInfo[] {
    return this.#checkpointer.folder.list();
  }

  /** By id, or `latest`. Throws `checkpoint_not_found`. */
  find(id: string): CheckpointInfo {
    return this.#checkpointer.folder.find(id);
  }

  /** The bytes `start` to `end` (inclusive) of a checkpoint's file. */
  read(id: string, range: { start: number; end: number }): Promise<Readable> {
    return this.#checkpointer.folder.read(id, range);
  }

  /** Writes a checkpoint of the session as it stands when its turn comes, while steps go on. */
  write(request: ChangeRequest = {}): Promise<Outcome<WrittenCheckpoint>> {
    const first = async () => {
      const written = await this.#write('change', request.precondition);
      await this.#note(request, { wrote: written.info });
      return written;
    };
    return outcomeOf(this.#live, request, first, async ({ wrote, revision }) => {
      return { info: wrote as CheckpointInfo, revision };
    });
  }

  /** Throws `checkpoint_in_use` for one that a restart needs. */
  delete(id: string, request: ChangeRequest): Promise<Outcome<void>> {
    const { folder } = this.#checkpointer;
    const first = async () => {
      const info = await this.#live.change({ precondition: request.precondition }, async () => {
        const found = folder.find(id);
        if (!this.#checkpointer.isNeeded(found.id)) return found;
        const rule =
          'a checkpoint that a restart needs must stay: the newest one, and the one restored until there is a newer one';
        throw new Problem('checkpoint_in_use', `${rule}. Received: ${found.id}`);
      });
      await this.#note(request, { removed: info.id });
      await this.#checkpointer.undisturbed(() => folder.remove(info.id)).catch(rethrow);
    };
    return outcomeOf(this.#live, request, first, async ({ removed }) => {
      // The key came to the disk first: a crash may have come between.
      if (this.list.some((each) => each.id === removed)) await folder.remove(removed as string).catch(rethrow);
    });
  }

  /** Puts the session back to a checkpoint, with its optimizer and settings; the revision goes on. */
  async restore(id: string, request: ChangeRequest): Promise<Outcome<SessionView>> {
    const { folder } = this.#checkpointer;
    const { session, log } = this.#live;
    const first = () =>
      this.#live.change(request, async (commit) => {
        const info = folder.find(id);
        // A checkpoint of it follows.
        this.#live.disk.take('change', info.bytes);
        // The state that there is goes only when the other one is whole.
        const release = this.#live.memory.reserve(info.bytes);
        try {
          const { contents } = await folder.load(info.id).catch(rethrow);
          const { optimizer, iterations, settings } = contents;
          const learningRate = learningRateAt(optimizer, iterations);
          await commit({ kind: 'restore', checkpoint: info.id, sha256: info.sha256 }, { iterations, learningRate });
          session.replace(contents);
          this.#checkpointer.restoredFrom(info.id, session.revision);
          log.levelChanged(settings.durability);
        } finally {
          release();
        }
        return viewOf(this.#live, this.#checkpointer);
      });
    const outcome = await outcomeOf(this.#live, request, first, async () => viewOf(this.#live, this.#checkpointer));
    // What the level that came back promises leads on from a checkpoint; if it cannot be written now, it is tried again.
    if (log.lacksCheckpoint(this.#live.durability)) await this.#checkpointer.write().catch(() => undefined);
    this.#onChange();
    return outcome;
  }

  /** What the newest one has. */
  get saved(): SavedState {
    return this.#checkpointer.saved;
  }

  /** How many could not be written since the server was started. */
  get failures(): number {
    return this.#checkpointer.failures;
  }

  /** Writes a checkpoint if the session's rules ask for one; `undefined` if they do not. */
  writeIfDue(now: number): Promise<WrittenCheckpoint> | undefined {
    if (!this.#checkpointer.isDue(now)) return undefined;
    this.#checkpointer.postpone(now);
    return this.#live.disk.allows('checkpoint', this.#bytes) ? this.#write('checkpoint') : undefined;
  }

  /**
   * Whether a last one may be written: it would not fill the disk, or it is all that there would be of what came after the one
   * before.
   */
  get mayBeSaved(): boolean {
    const { disk, log, durability } = this.#live;
    return log.level(durability) === 'checkpoint' || disk.allows('checkpoint', this.#bytes);
  }

  /** Whether the newest checkpoint has it as it is. */
  get isSaved(): boolean {
    return this.#checkpointer.upToDate;
  }

  /** Resolves when none is being written, and what they have made needless is gone. */
  idle(): Promise<void> {
    return this.#checkpointer.idle();
  }

  /** Writes one if there was a change since the last. */
  async save(): Promise<void> {
    if (!this.#checkpointer.upToDate) await this.#checkpointer.write();
  }

  async #write(use: DiskUse, precondition?: Precondition): Promise<WrittenCheckpoint> {
    const written = this.#live.disk.reserve(use, this.#bytes);
    try {
      return await this.#checkpointer.write(precondition);
    } finally {
      written();
    }
  }

  /** What a checkpoint takes, its header aside. */
  get #bytes(): number {
    return stateBytes(this.#live.session.contents.variables.values());
  }

  /** Remembers the key of a call that has left the session as it was. */
  async #note({ key }: ChangeRequest, after: After): Promise<void> {
    if (key !== undefined) await this.#live.note(key, after);
  }
}

function rethrow(error: unknown): never {
  throw storageProblem(error);
}
