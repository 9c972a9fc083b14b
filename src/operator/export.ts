/** `export`: a session as a start would bring it back, or as it once was, as one file that a session can be created from. */
import { Session } from '../session/session.ts';
import { exportSession, takeName } from '../store/exported-file.ts';
import { stateAt } from '../store/history.ts';
import type { StoppedFolder } from '../store/stopped-folder.ts';
import { fingerprintOf } from '../store/whole-state.ts';
import { type Exit, exits, problemLine, type Report } from './report.ts';
import { isLive, replayStored, sessionFrom } from './stored-state.ts';

export interface ExportOptions {
  /** The session. */
  readonly name: string;
  /** The file to be made. */
  readonly file: string;
  /** Of the state that is wanted, if it is not the last one. */
  readonly iterations: number | undefined;
}

export async function exportState(folder: StoppedFolder, options: ExportOptions, report: Report): Promise<Exit> {
  const { name, file } = options;
  const giveUp = await takeName(file);
  try {
    const { session, journal } = await find(folder, options);
    for (const problem of [...folder.findings.list, ...folder.journalFindings.list])
      if (problem.session === name || problem.session === undefined) report.warn(problemLine(problem));
    const { bytes, sha256 } = await exportSession(session, journal, file);
    report.say(`${file}: ${name} at iteration ${session.contents.iterations}, ${bytes} bytes, SHA-256 ${sha256}`);
    report.say(`fingerprint: ${await fingerprintOf(session.contents)}`);
    return exits.well;
  } catch (error) {
    await giveUp();
    throw error;
  }
}

/** The state that is wanted, and what the session is in the journal. */
async function find(
  folder: StoppedFolder,
  { name, iterations }: ExportOptions,
): Promise<{ session: Session; journal: string }> {
  const sessions = await folder.sessions();
  const journal = await folder.journal(sessions);
  const live = sessions.filter((each) => isLive(each, journal));
  const stored = live.find((each) => each.name === name);
  if (stored === undefined) {
    const known = live.slice(0, 5).map((each) => each.name);
    throw new Error(`SESSION must be one of the folder's: ${known.join(', ') || 'it has none'}. Received: ${name}`);
  }
  const { checkpoints, record } = stored;
  const first = record.first_checkpoint;
  const loaded = await checkpoints.loadNewest(first);
  if (loaded === undefined)
    throw new Error(`SESSION must have a checkpoint that can be read. Received: ${name}, which has none`);
  const session = sessionFrom(stored, loaded);
  await replayStored(session, stored, journal, folder);
  if (iterations === undefined || iterations === session.contents.iterations)
    return { session, journal: record.journal };
  const past = { session, journal: journal.of(record.journal), folder: checkpoints, first };
  const { contents, revision } = await stateAt(past, iterations);
  return { session: new Session(name, session.createdAt, contents, revision), journal: record.journal };
}
