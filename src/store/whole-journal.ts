/**
 * The journal as the store has it: opened at the start with what a crash may have left, and set right after a failure of the disk,
 * so that memory and disk say the same again before anything more is taken.
 */
import { copyFile, rename } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { makeFolder } from '../journal/files.ts';
import { Journal } from '../journal/journal.ts';
import { JournalDamage, type JournalFile } from '../journal/journal-file.ts';
import { fileName, journalNumbers, keepAside } from '../journal/journal-folder.ts';
import { JournalPages } from '../journal/journal-pages.ts';
import { takeTail } from '../journal/left-in-tail.ts';
import { linkOrCopy, replaceBySound } from '../journal/sound-copy.ts';
import { Catalogue } from './catalogue.ts';
import type { Damage } from './checkpoint-folder.ts';
import { type Concerns, noteConcerns, notedConcerns } from './concerns.ts';
import type { HeldSession } from './held-session.ts';
import { encodeEntry, type KeyEntry } from './idempotency.ts';
import type { FoundSession } from './recovery.ts';

/** Entries of records that memory does not have: of one transaction's requests. */
const entriesMax = 1_000_000;
/** What a key takes at most, in a file of their own. */
const keyBytes = 1_024;

export interface OpenedJournal {
  readonly journal: Journal;
  /** Of sessions that may have lost something of what they had in it, by their id there. */
  readonly concerned: Concerns;
}

/**
 * Opens the journal in `folder`, for these sessions. A damaged file goes to the folder `aside`, and what is sound in it is gone on
 * with; of one that cannot be replaced so, all sessions fall back to their checkpoints.
 */
export async function openJournal(
  folder: string,
  aside: string,
  keysMax: number,
  found: readonly FoundSession[],
  onDamage: (damage: Damage) => void,
): Promise<OpenedJournal> {
  await makeFolder(folder);
  try {
    const { concerned, isWhole } = await mendPages(folder, aside, found, onDamage);
    const journal = await Journal.open(folder, keysMax);
    await emptyTail(journal, aside, found, onDamage);
    await journal.clearData(isWhole ? undefined : aside);
    return { journal, concerned };
  } catch (error) {
    if (!(error instanceof JournalDamage)) throw error;
    const concern = { reason: error.message, file: await setAside(folder, aside) };
    const concerned = new Map(found.map(({ record }) => [record.journal, concern] as const));
    return { journal: await Journal.open(folder, keysMax), concerned };
  }
}

/** Looks at the newest file's pages, and replaces it where they are damaged. Throws `JournalDamage` where it is no file. */
async function mendPages(
  folder: string,
  aside: string,
  found: readonly FoundSession[],
  onDamage: (damage: Damage) => void,
): Promise<{ concerned: Concerns; isWhole: boolean }> {
  const newest = (await journalNumbers(folder)).at(-1);
  if (newest === undefined) return { concerned: missing(join(folder, fileName(1)), found), isWhole: false };
  const pages = await examinePages(join(folder, fileName(newest)));
  try {
    const [first] = pages.faults;
    const noted = await notedConcerns(folder);
    if (first === undefined) return { concerned: noted, isWhole: noted.size === 0 };
    const file = await keepAside(folder, newest, aside, linkOrCopy);
    const concerned = new Map(noted);
    for (const { record } of found) {
      const reason = pages.reasonFor(Buffer.from(record.journal, 'hex'));
      if (reason !== undefined) concerned.set(record.journal, { reason, file });
    }
    await noteConcerns(folder, concerned);
    await replaceBySound(folder, newest, pages);
    const gone = pages.reasonFor(Buffer.from(Catalogue.id, 'hex'));
    if (gone !== undefined) onDamage({ file, reason: `what is known of deleted sessions may be lost: ${gone}` });
    else if (concerned.size === 0) onDamage({ file, reason: nobodys(first.reason) });
    return { concerned, isWhole: false };
  } finally {
    pages.close();
  }
}

/** Of damage to what no session has anything in. */
export function nobodys(reason: string): string {
  return `it costs no session anything: ${reason}`;
}

async function examinePages(path: string): Promise<JournalPages> {
  try {
    return await JournalPages.examine(path);
  } catch (error) {
    throw new JournalDamage(`a journal must be a file that can be read. It says: ${(error as Error).message}`);
  }
}

/** A session that this version has written has a journal. */
function missing(file: string, found: readonly FoundSession[]): Concerns {
  const lost = found.filter(({ wasOpen, checkpoints }) => wasOpen && checkpoints.journal !== undefined);
  const concern = { reason: 'there must be a journal. There is none', file };
  return new Map(lost.map(({ record }) => [record.journal, concern]));
}

/** What is in the tail is put into the journal. Where some of it cannot be read, a copy is kept. */
async function emptyTail(
  journal: Journal,
  aside: string,
  found: readonly FoundSession[],
  onDamage: (damage: Damage) => void,
): Promise<void> {
  const reached = found.map(({ record, checkpoints }) => {
    const [checkpoint] = checkpoints.since(record.first_checkpoint);
    return [record.journal, checkpoint?.revision ?? 0] as const;
  });
  const lost = await takeTail(journal, new Map(reached));
  if (lost.size > 0) {
    await makeFolder(aside);
    const copies = journal.tail.paths.map((path) => [path, join(aside, `${basename(path)}.${Date.now()}`)] as const);
    for (const [path, copy] of copies) await copyFile(path, copy);
    const file = copies.map(([, copy]) => copy).join(', ');
    const reason =
      "its last changes may be lost: a frame of the journal's tail must have the checksum that it carries. One has another";
    for (const { record, folder } of found)
      if (lost.has(record.journal)) onDamage({ session: folder.name, file, reason });
  }
  await journal.tail.clear();
}

async function setAside(folder: string, aside: string): Promise<string> {
  await makeFolder(aside);
  const target = join(aside, `journal.${Date.now()}`);
  await rename(folder, target);
  return target;
}

/**
 * Sets memory and disk at one again. After a full disk the same file is gone on with, if it has all that memory has; else each
 * session's state goes into a checkpoint, and a new file begins. Throws where the disk still fails.
 */
export async function setRight(
  journal: Journal,
  catalogue: Catalogue,
  sessions: readonly HeldSession[],
  gone: readonly KeyEntry[],
): Promise<void> {
  // What was under way when the disk failed is applied, or has failed with it, and nothing is about to be put that was judged
  // before: it might lead on from what has failed.
  for (const { live } of sessions) await live.turns.alone(() => undefined);
  if (journal.problem?.code === 'insufficient_storage') {
    try {
      await journal.reopen((file) => sessions.flatMap((held) => superfluous(file, held)));
      for (const { live } of sessions) live.log.goOnFrom(live.session.position);
      return;
    } catch (error) {
      if (!(error instanceof JournalDamage)) throw error;
    }
  }
  for (const held of sessions) await held.checkpoints.save();
  const keys = new Map(sessions.map((held) => [held, ownKeys(held)]));
  const fill = (file: JournalFile): void => {
    catalogue.put(file, gone);
    for (const [{ live }, own] of keys) live.log.journal.moveTo(file, own);
  };
  const count = [...keys.values()].reduce((sum, own) => sum + own.length, gone.length);
  await journal.beginAnew(fill, count * keyBytes);
  for (const { live } of sessions) live.log.beganAnew(live.durability);
}

/** The keys that stand with the session, encoded. */
function ownKeys({ live }: HeldSession): Buffer[] {
  return live.keys.entries.filter(({ sentTo }) => sentTo === undefined).map(encodeEntry);
}

/** Entries of records that memory does not have. Throws where it has one that the file has not. */
function superfluous(file: JournalFile, { live, checkpoints }: HeldSession): Buffer[] {
  const { id } = live.log.journal;
  const { revision } = live.session;
  if (!checkpoints.isSaved && live.log.isOn && file.headAt(id, revision) === undefined) {
    throw new JournalDamage(`the journal must have come to revision ${revision} of a session. It has not`);
  }
  return file.recordEntries(id, revision + 1, Number.POSITIVE_INFINITY, entriesMax);
}
