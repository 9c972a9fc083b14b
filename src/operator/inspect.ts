/** `inspect`: what lies in a data folder, for people as tables and for machines as JSON. */
import { relative } from 'node:path';
import type { ReadHead } from '../journal/record.ts';
import type { Durability } from '../session/settings.ts';
import { stateBytes } from '../session/variable.ts';
import type { Finding } from '../store/findings.ts';
import type { JournalReader } from '../store/journal-reader.ts';
import type { StoppedFolder, StoredFile, StoredSession } from '../store/stopped-folder.ts';
import { type Exit, exits, problemLine, type Report, table } from './report.ts';

interface Position {
  readonly revision: number;
  readonly iterations: number;
}

/** As machines get it. */
interface Inspection {
  readonly sessions: readonly InspectedSession[];
  readonly journal: {
    /** From the data folder; null where there is none. */
    readonly file: string | null;
    readonly bytes: number;
    readonly tail: { readonly bytes: number; readonly records: number };
  };
  /** What was set aside. */
  readonly damaged: readonly StoredFile[];
  readonly problems: readonly Finding[];
}

interface InspectedSession {
  readonly name: string;
  /** `deleted`: by a crash not quite; `kept`: only checkpoints are left of it. */
  readonly state: 'live' | 'deleted' | 'kept';
  /** Where the newest checkpoint and the journal behind it come to; null where there is no checkpoint. */
  readonly position: Position | null;
  readonly durability: Durability | null;
  /** Of its variables and slots. */
  readonly bytes: number;
  readonly checkpoints: readonly (Position & { id: string; created_at: string; bytes: number })[];
  readonly journal: {
    readonly records: number;
    readonly bytes: number;
    readonly first: Position | null;
    readonly last: Position | null;
    /** Behind the newest checkpoint: what a start applies again, and how much of that are steps. */
    readonly replayed: { readonly records: number; readonly steps: number };
  };
  readonly idempotency_keys: number;
}

export async function inspect(folder: StoppedFolder, isJson: boolean, report: Report): Promise<Exit> {
  const sessions = await folder.sessions();
  const journal = await folder.journal(sessions);
  const inspection: Inspection = {
    sessions: sessions.map((session) => inspectSession(session, journal)),
    journal: {
      file: journal.number === undefined ? null : relative(folder.path, journal.path),
      bytes: journal.bytes,
      tail: journal.tail,
    },
    damaged: await folder.damaged(),
    problems: [...folder.findings.list, ...folder.journalFindings.list],
  };
  if (isJson) report.say(JSON.stringify(inspection, undefined, 2));
  else for (const line of lines(inspection)) report.say(line);
  return exits.well;
}

function inspectSession({ name, record, checkpoints }: StoredSession, journal: JournalReader): InspectedSession {
  const all = checkpoints.since(0);
  const [newest] = record === undefined ? [] : checkpoints.since(record.first_checkpoint);
  const part = record && journal.parts.get(record.journal);
  let position: Position | null = newest === undefined ? null : positionOf(newest);
  let durability = newest?.description.settings.durability;
  const replayed = { records: 0, steps: 0 };
  for (const head of newest && record ? journal.leadingOn(record.journal, newest.revision) : []) {
    position = positionOf(head);
    durability = durabilityAfter(head, all) ?? durability;
    replayed.records++;
    if (head.kind === 'gradients') replayed.steps++;
  }
  return {
    name,
    state: record === undefined ? 'kept' : journal.deleted.has(record.journal) ? 'deleted' : 'live',
    position,
    durability: durability ?? null,
    bytes: newest === undefined ? 0 : stateBytes(newest.description.variables),
    checkpoints: all.map(({ id, created_at, bytes, ...rest }) => ({ id, ...positionOf(rest), created_at, bytes })),
    journal: {
      records: part?.records ?? 0,
      bytes: part?.bytes ?? 0,
      first: part?.first === undefined ? null : positionOf(part.first),
      last: part?.last === undefined ? null : positionOf(part.last),
      replayed,
    },
    idempotency_keys: part?.keys ?? 0,
  };
}

/** Where the record changes it. */
function durabilityAfter(
  { kind, description }: ReadHead,
  checkpoints: ReturnType<StoredSession['checkpoints']['since']>,
): Durability | undefined {
  if (kind === 'patch') return (description as { settings: { durability: Durability } }).settings.durability;
  if (kind !== 'restore') return undefined;
  const { checkpoint } = description as { checkpoint: string };
  return checkpoints.find(({ id }) => id === checkpoint)?.description.settings.durability;
}

function positionOf({ revision, iterations }: Position): Position {
  return { revision, iterations };
}

function* lines({ sessions, journal, damaged, problems }: Inspection): Generator<string> {
  if (sessions.length === 0) yield 'no sessions';
  else yield* sessionTable(sessions);
  const checkpoints = sessions.flatMap(({ name, checkpoints: own }) =>
    own.map(({ id, iterations, revision, created_at, bytes }) => [name, id, iterations, revision, created_at, bytes]),
  );
  if (checkpoints.length > 0) {
    yield '';
    yield* table(['session', 'checkpoint', 'iterations', 'revision', 'created_at', 'bytes'], checkpoints);
  }
  const withRecords = sessions.filter((session) => session.journal.records > 0);
  if (withRecords.length > 0) {
    yield '';
    yield* journalTable(withRecords);
  }
  yield '';
  yield `journal: ${journal.file ?? 'none'}, ${journal.bytes} bytes`;
  yield `tail: ${journal.tail.bytes} bytes, ${journal.tail.records} records that are not in the journal yet`;
  yield `damaged: ${damaged.length === 0 ? 'nothing' : ''}`.trimEnd();
  for (const { file, bytes } of damaged) yield `  ${file}, ${bytes} bytes`;
  for (const problem of problems) yield problemLine(problem);
}

function sessionTable(sessions: readonly InspectedSession[]): string[] {
  const titles = ['session', 'state', 'iterations', 'revision', 'durability', 'bytes', 'keys'];
  const rows = sessions.map(({ name, state, position, durability, bytes, idempotency_keys }) => [
    name,
    state,
    position?.iterations ?? '-',
    position?.revision ?? '-',
    durability ?? '-',
    bytes,
    idempotency_keys,
  ]);
  return table(titles, rows);
}

function journalTable(sessions: readonly InspectedSession[]): string[] {
  const titles = ['session', 'records', 'bytes', 'revisions', 'iterations', 'to replay', 'steps'];
  const rows = sessions.map(({ name, journal: { records, bytes, first, last, replayed } }) => [
    name,
    records,
    bytes,
    `${first?.revision} to ${last?.revision}`,
    `${first?.iterations} to ${last?.iterations}`,
    replayed.records,
    replayed.steps,
  ]);
  return table(titles, rows);
}
