/** `compact`: the journal written anew without free pages, if there is nothing wrong with what is in it. */
import { compactJournal } from '../store/journal-copy.ts';
import type { StoppedFolder } from '../store/stopped-folder.ts';
import { type Exit, exits, problemLine, type Report } from './report.ts';

export async function compact(folder: StoppedFolder, report: Report): Promise<Exit> {
  const journal = await folder.journal(await folder.sessions());
  const problems = folder.journalFindings.list;
  if (problems.length > 0) {
    for (const problem of problems) report.say(problemLine(problem));
    report.warn('a journal must be without damage to be compacted: nothing was changed');
    return exits.wrong;
  }
  const { entries, before, after } = await compactJournal(journal);
  report.say(`journal: ${before} bytes before, ${after} bytes after, ${entries} entries copied`);
  return exits.well;
}
