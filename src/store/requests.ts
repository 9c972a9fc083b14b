/** What the requests that change a session come with, and where a step's values go. */

import type { ArrivedData } from '../journal/arrived-data.ts';
import type { Progress } from '../kernel/threads.ts';
import type { Receive } from '../session/session.ts';
import type { Durability } from '../session/settings.ts';
import type { RequestKey } from './idempotency.ts';

/** Decides whether a request applies, given the revision; `undefined`: it always does. */
export type Precondition = ((revision: number) => boolean) | undefined;

/** What any request for a change may come with. */
export interface ChangeRequest {
  readonly precondition?: Precondition;
  readonly key?: RequestKey | undefined;
  /** Whether room on the disk is set aside for what it writes. */
  readonly hasRoom?: boolean | undefined;
}

export interface StepRequest extends ChangeRequest {
  /** Who sends the gradients. */
  readonly worker?: string | undefined;
  /** The iteration that the gradients were computed from. */
  readonly base?: number | undefined;
  /** When the last byte of the gradients was there, by `performance.now()`. */
  readonly receivedAt?: number;
  /** Aborted when the client has gone: who waits for other workers does so no more. */
  readonly gone?: (() => AbortSignal) | undefined;
  /** Told of what it waits for that is others' work, until that is settled. */
  readonly aside?: (until: Promise<unknown>) => void;
  /** What has been written of the gradients while they arrived. */
  readonly arrived?: ArrivedData | undefined;
  /** Told until when the memory of the gradients is read, which may be after the step has been acknowledged. */
  readonly hold?: (until: Promise<unknown>) => void;
}

/** Where the values after a step go, and who is told when. */
export interface StepReply {
  /** Replies of the same kind to the same step are the same bytes; `undefined`: this one is nobody else's. */
  readonly kind?: string | undefined;
  /** Asked before so many bytes of memory are taken for the step; throws if they may not be. */
  readonly lend?: (bytes: number) => void;
  readonly receive: Receive;
  /** Nothing can fail any more, and the values are about to come; whether they answer a repeat, and what the step was acknowledged at. */
  readonly begin?: ((durability: Durability, replayed: boolean) => void) | undefined;
  readonly progress?: Progress | undefined;
}
