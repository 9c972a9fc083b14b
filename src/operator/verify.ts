/**
 * `verify`: whether what lies in a data folder is what was written, and whether its two halves agree: from each checkpoint the
 * journal must come to the next one, bit for bit. Everything that is wrong is named.
 */
import { isDeepStrictEqual } from 'node:util';
import { serializeOptimizer } from '../optimizer/adamax-config.ts';
import type { Session, SessionContents } from '../session/session.ts';
import type { LoadedCheckpoint } from '../store/checkpoint-folder.ts';
import type { DescribedCheckpoint } from '../store/checkpoint-reader.ts';
import type { JournalReader } from '../store/journal-reader.ts';
import type { StoppedFolder, StoredSession } from '../store/stopped-folder.ts';
import { fingerprintOf } from '../store/whole-state.ts';
import { type Exit, exits, problemLine, type Report } from './report.ts';
import { isLive, type LiveStored, replayStored, sessionFrom } from './stored-state.ts';

interface Verification {
  readonly folder: StoppedFolder;
  readonly journal: JournalReader;
  readonly report: Report;
}

/** A checkpoint that was read whole, and the session as it is there. */
interface Stage {
  readonly checkpoint: DescribedCheckpoint;
  readonly session: Session;
}

export async function verify(folder: StoppedFolder, report: Report): Promise<Exit> {
  const sessions = await folder.sessions();
  const journal = await folder.journal(sessions);
  const task = { folder, journal, report };
  for (const session of sessions) {
    const part = session.record && journal.parts.get(session.record.journal);
    const counts = `${session.checkpoints.since(0).length} checkpoints, ${part?.records ?? 0} records, ${part?.keys ?? 0} keys`;
    report.say(`session ${session.name}: ${counts}`);
    if (isLive(session, journal)) await verifySession(task, session);
    else await verifyLeft(task, session);
  }
  const problems = [...folder.findings.list, ...folder.journalFindings.list];
  for (const problem of problems) report.say(problemLine(problem));
  report.say(problems.length === 0 ? 'all is well' : `${problems.length} problem${problems.length === 1 ? '' : 's'}`);
  return problems.length === 0 ? exits.well : exits.wrong;
}

/** Of one that has been deleted, nothing leads anywhere. */
async function verifyLeft({ report }: Verification, { checkpoints }: StoredSession): Promise<void> {
  for (const { id } of checkpoints.since(0)) await load(checkpoints, id);
  report.say('  it has been deleted');
}

async function verifySession(task: Verification, session: LiveStored): Promise<void> {
  const { checkpoints, record } = session;
  const own = checkpoints.since(record.first_checkpoint).reverse();
  for (const { id } of checkpoints.since(0)) if (!own.some((each) => each.id === id)) await load(checkpoints, id);
  let stage: Stage | undefined;
  for (const checkpoint of own) {
    const loaded = await load(checkpoints, checkpoint.id);
    if (loaded === undefined) continue;
    if (stage !== undefined) await compare(task, session, stage, checkpoint, loaded.contents);
    stage?.session.release();
    stage = { checkpoint, session: sessionFrom(session, loaded) };
  }
  if (stage === undefined) {
    task.folder.findings.add(
      session.path,
      session.name,
      'a session must have a checkpoint that can be read. It has none',
    );
    return;
  }
  requireJournal(task, session, stage);
  await replayToTheEnd(task, session, stage);
  stage.session.release();
}

/** Replays from one checkpoint to the next, where the journal reaches that far. */
async function compare(
  { folder, journal, report }: Verification,
  stored: LiveStored,
  { checkpoint: from, session }: Stage,
  to: DescribedCheckpoint,
  contents: SessionContents,
): Promise<void> {
  const stretch = `  ${placeOf(from)} to ${placeOf(to)}`;
  const part = journal.parts.get(stored.record.journal);
  const run = part?.runFrom(from.revision);
  if (run === undefined || part?.unreadable !== undefined || run.last.revision < to.revision) {
    report.say(`${stretch}: the journal does not reach`);
    return;
  }
  const gone = part?.restores.find(({ revision, description }) => {
    const { checkpoint, sha256 } = description as { checkpoint: string; sha256: string };
    const isThere = stored.checkpoints.since(0).some((each) => each.id === checkpoint && each.sha256 === sha256);
    return from.revision < revision && revision <= to.revision && !isThere;
  });
  if (gone !== undefined) {
    report.say(
      `${stretch}: it goes back to a checkpoint that is not needed any more and gone (record ${gone.revision})`,
    );
    return;
  }
  const { changes, damage } = await replayStored(session, stored, journal, folder, to.revision);
  if (damage !== undefined) return report.say(`${stretch}: not replayed`);
  const [replayed, saved] = [await fingerprintOf(session.contents), await fingerprintOf(contents)];
  const isSame =
    session.revision === to.revision &&
    replayed === saved &&
    isDeepStrictEqual(configurationOf(session.contents), configurationOf(contents));
  report.say(`${stretch}: ${changes} changes replayed, ${isSame ? 'the same state' : 'another state'}`);
  if (isSame) return;
  const rule = `a checkpoint must be what the journal comes to from the one before, ${from.id}`;
  const received = `Its state has the fingerprint ${saved}, the journal's ${replayed} at revision ${session.revision}`;
  folder.findings.add(stored.checkpoints.pathOf(to.id), stored.name, `${rule}. ${received}`);
}

/** What recovery would make of it. */
async function replayToTheEnd(
  { folder, journal, report }: Verification,
  stored: LiveStored,
  { checkpoint, session }: Stage,
): Promise<void> {
  const { changes } = await replayStored(session, stored, journal, folder);
  const { iterations } = session.contents;
  report.say(`  ${placeOf(checkpoint)} to the end (iteration ${iterations}): ${changes} changes replayed`);
  report.say(`  fingerprint at iteration ${iterations}: ${await fingerprintOf(session.contents)}`);
}

/** A session that was not closed has something in it. */
function requireJournal({ folder, journal }: Verification, { name, record }: LiveStored, { checkpoint }: Stage): void {
  const isOpen = checkpoint.revision !== record.revision_limit && checkpoint.description.journal !== undefined;
  if (isOpen && journal.number === undefined)
    folder.journalFindings.add(journal.path, name, 'there must be a journal. There is none');
}

/** Damage is named by whoever reads. */
function load(checkpoints: StoredSession['checkpoints'], id: string): Promise<LoadedCheckpoint | undefined> {
  return checkpoints.load(id).catch(() => undefined);
}

/** All of a state but its tensors, as JSON has it. */
function configurationOf({ optimizer, iterations, settings }: SessionContents): unknown {
  return JSON.parse(JSON.stringify({ optimizer: serializeOptimizer(optimizer), iterations, settings }));
}

function placeOf({ id, iterations }: DescribedCheckpoint): string {
  return `${id} (iteration ${iterations})`;
}
