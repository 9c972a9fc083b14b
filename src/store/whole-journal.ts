/**
 * The journal as the store has it: opened at the start with what a crash may have left, and set right after a failure of the disk,
 * so that memory and disk say the same again before anything more is taken.
 */
import { copyFile, rename } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Catalogue } from './catalogue.ts';
import type { Damage } from './checkpoint-folder.ts';
import { makeFolder } from './files.ts';
import type { HeldSession } from './held-session.ts';
import { encodeEntry, type KeyEntry } from './idempotency.ts';
import { Journal } from './journal.ts';
import { checkJournal } from './journal-check.ts';
import { JournalDamage, type JournalFile } from './journal-file.ts';
import { fileName, journalNumbers } from './journal-folder.ts';
import { takeTail } from './left-in-tail.ts';
import type { FoundSession } from './recovery.ts';

/** Entries of records that memory does not have: of one transaction's requests. */
const entriesMax = 1_000_000;
/** What a key takes at most, in a file of their own. */
const keyBytes = 1_024;

export interface OpenedJournal {
  readonly journal: Journal;
  /** Why some sessions' part cannot be read, by their id in it. */
  readonly unreadable: ReadonlyMap<string, string>;
}

/**
 * Opens the journal in `folder`, for these sessions. One that cannot be read goes to the folder `aside`, and all its sessions fall
 * back to their checkpoints.
 */
export async function openJournal(
  folder: string,
  aside: string,
  keysMax: number,
  found: readonly FoundSession[],
  onDamage: (damage: Damage) => void,
): Promise<OpenedJournal> {
  const wanted = found.filter(({ wasOpen }) => wasOpen);
  try {
    const unreadable = await check(folder, wanted);
    const journal = await Journal.open(folder, keysMax);
    await emptyTail(journal, aside, found, onDamage);
    return { journal, unreadable };
  } catch (error) {
    if (!(error instanceof JournalDamage)) throw error;
    const reason = (error as Error).message;
    const file = await setAside(folder, aside);
    for (const each of wanted)
      onDamage({ session: each.folder.name, file, reason: `the journal cannot be read: ${reason}` });
    const lost = wanted.map(({ record }) => [record.journal, reason] as const);
    return { journal: await Journal.open(folder, keysMax), unreadable: new Map(lost) };
  }
}

/** Reads what is needed in a process of its own. */
async function check(folder: string, wanted: readonly FoundSession[]): Promise<ReadonlyMap<string, string>> {
  await makeFolder(folder);
  const newest = (await journalNumbers(folder)).at(-1);
  if (newest === undefined) return missing(wanted);
  const list = wanted.map(({ record, checkpoints }) => {
    const [checkpoint] = checkpoints.since(record.first_checkpoint);
    return [record.journal, checkpoint?.revision ?? 0] as const;
  });
  try {
    return await checkJournal(join(folder, fileName(newest)), list);
  } catch (error) {
    throw new JournalDamage((error as Error).message);
  }
}

/** A session that this version has written has a journal. */
function missing(wanted: readonly FoundSession[]): ReadonlyMap<string, string> {
  const lost = wanted.filter(({ checkpoints }) => checkpoints.journal !== undefined);
  return new Map(lost.map(({ record }) => [record.journal, 'there must be a journal. There is none']));
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
  aside?: string,
): Promise<void> {
  // What was under way when the disk failed is applied, or has failed with it.
  for (const { live } of sessions) await live.turns.read(() => undefined);
  if (aside === undefined && journal.problem?.code === 'insufficient_storage') {
    try {
      await journal.reopen((file) => sessions.flatMap((held) => superfluous(file, held)));
      for (const { live } of sessions) live.log.journal.goOnFrom(live.session.revision);
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
  await journal.beginAnew(fill, count * keyBytes, aside);
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
