/** The operators' command line: which commands there are, what they take, and how they end. What they do is in operator/. */
import { parseArgs } from 'node:util';
import { compact } from './operator/compact.ts';
import { exportState } from './operator/export.ts';
import { inspect } from './operator/inspect.ts';
import { type Exit, exits, type Report } from './operator/report.ts';
import { verify } from './operator/verify.ts';
import { StoppedFolder } from './store/stopped-folder.ts';

interface Given {
  /** One for each name of the command's arguments. */
  readonly args: readonly string[];
  readonly options: { readonly json?: boolean; readonly iterations?: string };
}

interface Command {
  readonly args: readonly string[];
  readonly options: Readonly<Record<string, { readonly type: 'boolean' | 'string' }>>;
  readonly run: (folder: StoppedFolder, given: Given, report: Report) => Promise<Exit>;
}

const commands: Readonly<Record<string, Command>> = {
  inspect: {
    args: ['DATA_DIR'],
    options: { json: { type: 'boolean' } },
    run: (folder, { options }, report) => inspect(folder, options.json === true, report),
  },
  verify: {
    args: ['DATA_DIR'],
    options: {},
    run: (folder, _, report) => verify(folder, report),
  },
  compact: {
    args: ['DATA_DIR'],
    options: {},
    run: (folder, _, report) => compact(folder, report),
  },
  export: {
    args: ['DATA_DIR', 'SESSION', 'FILE'],
    options: { iterations: { type: 'string' } },
    run: (folder, { args, options }, report) => {
      const [, name, file] = args as [string, string, string];
      const iterations = options.iterations === undefined ? undefined : Number(options.iterations);
      return exportState(folder, { name, file, iterations }, report);
    },
  },
};

const usage = `usage: adamax-server                                             serves, as its environment says
       adamax-server inspect DATA_DIR [--json]                   says what lies in a data folder
       adamax-server verify DATA_DIR                             checks all of it; exits with 1 where something is wrong
       adamax-server compact DATA_DIR                            writes the journal anew, without its free pages
       adamax-server export DATA_DIR SESSION FILE [--iterations N]
                                                                 writes a session as a file to create one from
Commands need a data folder that no server is using, and exit with 2 where they cannot be carried out.
`;

class WrongUsage extends Error {}

type Stream = { write(text: string): unknown };

/** Resolves to the exit code. */
export async function runCommand(
  given: readonly string[],
  { stdout, stderr }: { readonly stdout: Stream; readonly stderr: Stream },
): Promise<Exit> {
  if (given.includes('--help')) {
    stdout.write(usage);
    return exits.well;
  }
  const report: Report = {
    say: (line) => void stdout.write(`${line}\n`),
    warn: (line) => void stderr.write(`adamax-server: ${line}\n`),
  };
  try {
    const { command, ...rest } = read(given);
    const folder = await StoppedFolder.open(rest.args[0] as string);
    try {
      return await command.run(folder, rest, report);
    } finally {
      await folder.close();
    }
  } catch (error) {
    report.warn((error as Error).message);
    if (error instanceof WrongUsage) stderr.write(usage);
    return exits.notDone;
  }
}

/** What was asked for. Throws where that is nothing that there is. */
function read([name, ...rest]: readonly string[]): Given & { command: Command } {
  const command = Object.hasOwn(commands, name ?? '') ? commands[name as string] : undefined;
  if (command === undefined) {
    const known = Object.keys(commands).join(', ');
    throw new WrongUsage(`a command must be one of ${known}. Received: ${JSON.stringify(name)}`);
  }
  const { values: options, positionals: args } = parse(rest, command);
  if (args.length !== command.args.length || args.includes('')) {
    const received = args.length === 0 ? 'none' : args.map((each) => JSON.stringify(each)).join(' ');
    throw new WrongUsage(`${name} must have the arguments ${command.args.join(' ')}. Received: ${received}`);
  }
  const { iterations } = options;
  if (iterations !== undefined && !(/^\d+$/.test(iterations) && Number.isSafeInteger(Number(iterations))))
    throw new WrongUsage(`--iterations must be an integer of at least 0. Received: ${JSON.stringify(iterations)}`);
  return { command, args, options };
}

function parse(args: string[], { options }: Command): { values: Given['options']; positionals: string[] } {
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (error) {
    throw new WrongUsage((error as Error).message);
  }
}
