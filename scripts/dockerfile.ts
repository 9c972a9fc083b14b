/**
 * A Dockerfile as stages of instructions, and the few readings of them that its checks need. It knows as much of the format
 * as ours uses (no heredocs, no escape directive); which contents are good is the business of check-dockerfile.ts.
 */

export interface Instruction {
  readonly keyword: string;
  readonly rest: string;
}

export interface Stage {
  readonly image: string;
  readonly name: string | undefined;
  readonly instructions: readonly Instruction[];
}

export interface Copy {
  /** The stage it copies from; undefined for the build context. */
  readonly from: string | undefined;
  readonly sources: readonly string[];
  readonly target: string;
}

/** The instructions of a Dockerfile in order: comments dropped, continued lines joined. */
function parseInstructions(text: string): Instruction[] {
  return text
    .replace(/^\s*#.*\n/gm, '')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, keyword = '', rest = ''] = /^\s*(\S+)\s*(.*)$/.exec(line) ?? [];
      return { keyword: keyword.toUpperCase(), rest: rest.trim() };
    });
}

/** The stages in order; an ARG before the first FROM is replaced by its default. */
export function parseStages(text: string): Stage[] {
  const defaults = new Map<string, string>();
  const stages: { image: string; name: string | undefined; instructions: Instruction[] }[] = [];
  for (const instruction of parseInstructions(text)) {
    const stage = stages.at(-1);
    if (instruction.keyword === 'FROM') {
      const [image = '', , name] = instruction.rest.split(/\s+/);
      stages.push({
        image: image.replace(/\$\{?(\w+)\}?/g, (_, key: string) => defaults.get(key) ?? ''),
        name,
        instructions: [],
      });
    } else if (stage === undefined) {
      const [name = '', value = ''] = instruction.rest.split('=');
      defaults.set(name, value);
    } else {
      stage.instructions.push(instruction);
    }
  }
  return stages;
}

/** What follows a keyword, for each of its instructions in a stage. */
export function restsOf(stage: Stage | undefined, keyword: string): string[] {
  return (stage?.instructions ?? []).filter((each) => each.keyword === keyword).map((each) => each.rest);
}

/** The value that the last ENV of a stage gives a variable. */
export function environmentOf(stage: Stage | undefined, name: string): string | undefined {
  const pairs = restsOf(stage, 'ENV').flatMap((rest) => rest.split(/\s+/));
  return pairs.findLast((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}

export function copiesOf(stage: Stage | undefined): Copy[] {
  return restsOf(stage, 'COPY').map((rest) => {
    const words = rest.split(/\s+/);
    const paths = words.filter((word) => !word.startsWith('--'));
    const from = words.find((word) => word.startsWith('--from='))?.slice('--from='.length);
    return { from, sources: paths.slice(0, -1), target: paths.at(-1) ?? '' };
  });
}

/** The words of an exec form (a JSON array of strings); empty for a shell form. */
export function execForm(rest: string | undefined): string[] {
  return rest?.startsWith('[') ? (JSON.parse(rest) as string[]) : [];
}
