/**
 * What the journal holds of one session, found by going through its records once: how many, from where to where, which of them
 * lead on from each other, and what is wrong with them.
 */
import type { JournalDamage, StoredRecord } from '../journal/journal-file.ts';
import type { ReadHead } from '../journal/record.ts';
import { strayed } from '../journal/session-journal.ts';

/** Records that lead on from each other. */
export interface Run {
  /** The revision that the first leads on from. */
  readonly from: number;
  readonly first: ReadHead;
  readonly last: ReadHead;
}

export class JournalPart {
  records = 0;
  bytes = 0;
  keys = 0;
  /** In order. There is more than one where the session was without a journal for a while, or where records are damaged. */
  readonly runs: Run[] = [];
  /** Records that go back to a checkpoint. */
  readonly restores: ReadHead[] = [];
  /** The last revision that there is a record of, a damaged one too. */
  reached = -1;
  /** Why nothing can be read, if that is so. */
  unreadable: string | undefined;
  isDamaged = false;
  /** The record before could not be read. */
  #isBroken = false;

  get first(): ReadHead | undefined {
    return this.runs[0]?.first;
  }

  get last(): ReadHead | undefined {
    return this.runs.at(-1)?.last;
  }

  /** The run that leads on from revision `after`, or comes to it. */
  runFrom(after: number): Run | undefined {
    return this.runs.find(({ from, last }) => from <= after && after <= last.revision);
  }

  /** Takes the next record; returns what is wrong with its place. */
  take({ head }: StoredRecord): JournalDamage | undefined {
    this.records++;
    this.reached = head.revision;
    this.bytes += head.bytes + head.dataBytes;
    if (head.kind === 'restore') this.restores.push(head);
    const { last } = this;
    const previous = this.runs.pop();
    if (previous === undefined || last === undefined) {
      this.runs.push({ from: head.previous, first: head, last: head });
      return undefined;
    }
    const leadsOn = !this.#isBroken && head.previous === last.revision && head.chain === last.checksum;
    if (leadsOn) this.runs.push({ ...previous, last: head });
    else this.runs.push(previous, { from: head.previous, first: head, last: head });
    // Where a session has gone on without a journal, a checkpoint comes before the next record, and no chain leads to it.
    const beginsAnew = head.chain === 0 && head.previous > last.revision;
    const isWrong = !leadsOn && !this.#isBroken && !beginsAnew;
    this.#isBroken = false;
    return isWrong ? strayed(head, last.revision) : undefined;
  }

  /** The record at `revision` could not be read. */
  skip(revision: number): void {
    this.reached = revision;
    this.isDamaged = true;
    this.#isBroken = true;
  }
}
