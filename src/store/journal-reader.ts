/**
 * The journal of a server that is not running, read and left as it is: what is in its newest file, and behind it what the tail
 * still has, the way a start would find both. Where its pages are damaged, it is named what that concerns, and nothing is read.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { SessionId } from '../journal/journal-entries.ts';
import { JournalDamage, type JournalFile, type StoredRecord } from '../journal/journal-file.ts';
import { fileName, journalNumbers, openFile } from '../journal/journal-folder.ts';
import { JournalPages } from '../journal/journal-pages.ts';
import type { ReadHead } from '../journal/record.ts';
import { changesOf, type SessionJournal } from '../journal/session-journal.ts';
import { tailPaths } from '../journal/tail.ts';
import { readLeft } from '../journal/tail-frames.ts';
import { Catalogue } from './catalogue.ts';
import type { Findings } from './findings.ts';
import { decodeEntry } from './idempotency.ts';
import { JournalPart } from './journal-survey.ts';

/** Damaged records of one session that are named; what is behind so many is not looked at. */
const damagedMax = 20;

export class JournalReader {
  readonly folder: string;
  /** Of the newest file; `undefined` where there is none. */
  readonly number: number | undefined;
  /** Of that file. */
  bytes = 0;
  /** `undefined` where there is no file, or it cannot be opened. */
  file: JournalFile | undefined;
  /** Why the file cannot be opened, if that is so. */
  problem: string | undefined;
  /** By session, hexadecimal. */
  readonly parts = new Map<string, JournalPart>();
  /** The sessions that are deleted, though their files may still be there. */
  deleted: ReadonlySet<string> = new Set();
  /** Bytes of the tail, and how many records it has that the file has not. */
  readonly tail = { bytes: 0, records: 0 };
  readonly #findings: Findings;
  /** What the sessions that there are are called, by their id in the journal. */
  readonly #names: ReadonlyMap<string | undefined, string>;
  /** What the tail has behind the file, by session. */
  readonly #behind = new Map<string, StoredRecord[]>();

  private constructor(
    folder: string,
    number: number | undefined,
    findings: Findings,
    names: ReadonlyMap<string | undefined, string>,
  ) {
    this.folder = folder;
    this.number = number;
    this.#findings = findings;
    this.#names = names;
  }

  /** `names`: what the sessions that there are are called, by their id in the journal. */
  static async open(
    folder: string,
    findings: Findings,
    names: ReadonlyMap<string | undefined, string>,
  ): Promise<JournalReader> {
    const numbers = await journalNumbers(folder).catch(() => []);
    const reader = new JournalReader(folder, numbers.at(-1), findings, names);
    try {
      if (reader.number !== undefined) await reader.#readAll();
    } catch (error) {
      await reader.close();
      reader.problem = (error as Error).message;
      findings.add(reader.path, undefined, `the journal must be readable. It is not: ${reader.problem}`);
    }
    return reader;
  }

  get path(): string {
    return join(this.folder, fileName(this.number ?? 1));
  }

  /** A session's part, as a replay asks for it. */
  of(id: string): Pick<SessionJournal, 'heads' | 'read'> {
    return {
      read: (after) => changesOf(this.#records(id, after), after),
      heads: (after) => this.#heads(id, after),
    };
  }

  /** The heads of the records that lead on from revision `after`. */
  *leadingOn(id: string, after: number): Generator<ReadHead> {
    const last = this.parts.get(id)?.runFrom(after)?.last.revision ?? after;
    if (last === after) return;
    for (const head of this.#heads(id, after)) {
      yield head;
      if (head.revision >= last) return;
    }
  }

  async close(): Promise<void> {
    const { file } = this;
    this.file = undefined;
    await file?.close();
  }

  *#records(id: string, after: number): Generator<StoredRecord> {
    this.#requireReadable(id);
    if (this.file !== undefined) yield* this.file.records(Buffer.from(id, 'hex'), after);
    for (const record of this.#behind.get(id) ?? []) if (record.head.revision > after) yield record;
  }

  *#heads(id: string, after: number): Generator<ReadHead> {
    this.#requireReadable(id);
    if (this.file !== undefined) yield* this.file.heads(Buffer.from(id, 'hex'), after);
    for (const { head } of this.#behind.get(id) ?? []) if (head.revision > after) yield head;
  }

  #requireReadable(id: string): void {
    const reason = this.problem ?? this.parts.get(id)?.unreadable;
    if (reason !== undefined) throw new JournalDamage(reason);
  }

  async #readAll(): Promise<void> {
    this.bytes = (await stat(this.path)).size;
    this.problem = await this.#damage();
    if (this.problem !== undefined) return;
    this.file = openFile(this.path);
    for (const session of this.file.sessions()) {
      const part = new JournalPart();
      this.parts.set(session.toString('hex'), part);
      this.#survey(this.file, session, part);
    }
    const catalogue = this.parts.get(Catalogue.id);
    if (catalogue !== undefined && catalogue.unreadable === undefined && !catalogue.isDamaged)
      this.deleted = new Set(Catalogue.deletionsIn(this.file).map(({ journal }) => journal));
    await this.#readTail();
  }

  /** What is wrong with the file's pages, if anything is; each session that it concerns is blamed. */
  async #damage(): Promise<string | undefined> {
    const pages = await JournalPages.examine(this.path);
    pages.close();
    const [first] = pages.faults;
    if (first === undefined) return undefined;
    let isAny = false;
    for (const [id, name] of this.#names) {
      const reason = id && pages.reasonFor(Buffer.from(id, 'hex'));
      if (!reason) continue;
      this.#findings.add(this.path, name, reason);
      isAny = true;
    }
    if (!isAny) this.#findings.add(this.path, undefined, first.reason);
    return first.reason;
  }

  /** Goes through all that the file has of a session. */
  #survey(file: JournalFile, session: SessionId, part: JournalPart): void {
    const id = session.toString('hex');
    for (let after = -1, damaged = 0; part.unreadable === undefined; ) {
      const damage = this.#take(id, part, after);
      if (damage === undefined) break;
      this.#blame(id, describe(damage));
      after = damage.revision;
      part.skip(after);
      if (++damaged === damagedMax) part.unreadable = `more than ${damaged} of its records are damaged`;
    }
    if (part.unreadable !== undefined) {
      this.#blame(id, part.unreadable);
      return;
    }
    for (const { number, value } of file.keys(session)) {
      part.keys++;
      if (decodeEntry(value) === undefined)
        this.#blame(id, `an idempotency key must have the checksum that it carries. It has another (key ${number})`);
    }
  }

  /** Takes the records behind revision `after`, up to a damaged one. */
  #take(id: string, part: JournalPart, after: number): { message: string; revision: number } | undefined {
    try {
      for (const record of this.#records(id, after)) this.#takeOne(id, part, record);
      return undefined;
    } catch (error) {
      const { message, revision } = error as JournalDamage;
      if (error instanceof JournalDamage && revision !== undefined) return { message, revision };
      throw error;
    }
  }

  #takeOne(id: string, part: JournalPart, record: StoredRecord): void {
    const wrong = part.take(record);
    if (wrong !== undefined) this.#blame(id, describe(wrong));
  }

  /** What a start would take from it. */
  async #readTail(): Promise<void> {
    const left = await readLeft(tailPaths(this.folder));
    this.tail.bytes = left.bytes;
    try {
      for (const session of left.lost) {
        const rule = 'a frame of the tail must have the checksum that it carries. One has another';
        if (session !== undefined) this.#blame(session.toString('hex'), rule);
        else for (const path of tailPaths(this.folder)) this.#findings.add(path, undefined, rule);
      }
      for await (const { session, keys, head, data } of left.frames()) {
        const id = session.toString('hex');
        const part = this.parts.get(id) ?? new JournalPart();
        if (part.unreadable !== undefined || head.revision <= part.reached) continue;
        this.parts.set(id, part);
        this.#behind.set(id, [...(this.#behind.get(id) ?? []), { head, data }]);
        this.#takeOne(id, part, { head, data });
        part.keys += keys.length;
        this.tail.records++;
      }
    } finally {
      await left.close();
    }
  }

  #blame(id: string, rule: string): void {
    this.#findings.add(this.path, this.#names.get(id) ?? `journal id ${id}`, rule);
  }
}

/** With the record that it is about. */
export function describe({ message, revision }: Pick<JournalDamage, 'message' | 'revision'>): string {
  return revision === undefined ? message : `${message} (record ${revision})`;
}
