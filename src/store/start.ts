/** The start of a store: everything that its folder holds is brought back, as far as it can be read, before anything is changed. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Journal } from '../journal/journal.ts';
import { Catalogue } from './catalogue.ts';
import type { Damage } from './checkpoint-folder.ts';
import { type Concerns, forgetConcerns } from './concerns.ts';
import { Deletions } from './deletions.ts';
import type { HeldSession } from './held-session.ts';
import type { Names } from './names.ts';
import { type FoundSession, findSession, recover } from './recovery.ts';
import type { SessionFolder } from './session-folder.ts';
import { nobodys, openJournal } from './whole-journal.ts';

/** Sessions that are recovered at a time: while one is read from the disk, another is worked on. */
const recoveredAtOnce = 4;

export interface Start {
  /** The data folder. */
  readonly folder: string;
  readonly names: Names;
  readonly keysMax: number;
  readonly place: (name: string) => SessionFolder;
  readonly onDamage: (damage: Damage) => void;
  /** Told how many sessions are to come, before the first does. */
  readonly onExpected: (sessions: number) => void;
  /** Told of every change that is applied again. */
  readonly onChange: () => void;
  readonly onSession: (held: HeldSession, changes: number) => void;
}

export interface Started {
  readonly journal: Journal;
  readonly catalogue: Catalogue;
  readonly deletions: Deletions;
}

export async function start(task: Start): Promise<Started> {
  const found = await find(task);
  const aside = join(task.folder, 'damaged', 'journal');
  const folder = join(task.folder, 'journal');
  const { journal, concerned } = await openJournal(folder, aside, task.keysMax, found, task.onDamage);
  const catalogue = new Catalogue(journal);
  const deletions = new Deletions(task.folder, journal, catalogue);
  for (const entry of catalogue.keys()) task.names.remember('', entry);
  const deleted = new Set(catalogue.deletions().map((each) => each.journal));
  await deletions.finishAll();
  const live = found.filter(({ record }) => !deleted.has(record.journal));
  const [concern] = concerned.values();
  if (concern !== undefined && !live.some(({ record }) => concerned.has(record.journal)))
    task.onDamage({ file: concern.file, reason: nobodys(concern.reason) });
  task.onExpected(live.length);
  await recoverAll(task, live, journal, concerned, aside);
  if (concerned.size > 0) await forgetConcerns(folder);
  const known = new Set(live.map(({ record }) => record.journal));
  for (const id of journal.file.sessions()) {
    if (!known.has(id.toString('hex')) && !Catalogue.isIts(id)) await journal.forget(id);
  }
  return { journal, catalogue, deletions };
}

/** The sessions that there are; a file among their folders is nobody's. */
async function find({ folder, place }: Start): Promise<FoundSession[]> {
  const entries = await readdir(join(folder, 'sessions'), { withFileTypes: true });
  const names = entries.flatMap((entry) => (entry.isFile() ? [] : [entry.name])).sort();
  const found: FoundSession[] = [];
  for (const name of names) {
    const session = await findSession(place(name));
    if (session !== undefined) found.push(session);
  }
  return found;
}

async function recoverAll(
  { onChange, onSession }: Start,
  found: readonly FoundSession[],
  journal: Journal,
  concerned: Concerns,
  aside: string,
): Promise<void> {
  const waiting = [...found];
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const concern = concerned.get(next.record.journal);
      const recovered = await recover(next, journal, concern, aside, onChange);
      if (recovered !== undefined) onSession(recovered.held, recovered.replayed.changes);
    }
  };
  await Promise.all(Array.from({ length: recoveredAtOnce }, work));
}
