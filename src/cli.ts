/** The operators' command line: which commands there are, what they take, and how they end. What they do is in operator/. */
import { parseArgs } from 'node:util';
import { compact } from './operator/compact.ts';
import { exportState } from './operator/export.ts';
import { inspect } from './operator/inspect.ts';
import { type Exit, exits, type Report } from './operator/report.ts';
import { createToken } from './operator/token.ts';
import { verify } from './operator/verify.ts';
import { StoppedFolder } from './store/stopped-folder.ts';

interface Given {
  /** One for each name of the command's arguments. */
  readonly args: readonly string[];
  readonly options: {
    readonly json?: boolean;
    readonly iterations?: string;
    readonly name?: string;
    readonly role?: string[];
    readonly session?: string[];
    readonly expires?: string;
  };
}

interface Command {
  readonly args: readonly string[];
  readonly options: Readonly<Record<string, { readonly type: 'boolean' | 'string'; readonly multiple?: boolean }>>;
  readonly run: (given: Given, report: Report) => Promise<Exit>;
}

const commands: Readonly<Record<string, Command>> = {
  inspect: {
    args: ['DATA_DIR'],
    options: { json: { type: 'boolean' } },
    run: onFolder((folder, { options }, report) => inspect(folder, options.json === true, report)),
  },
  verify: {
    args: ['DATA_DIR'],
    options: {},
    run: onFolder((folder, _, report) => verify(folder, report)),
  },
  compact: {
    args: ['DATA_DIR'],
    options: {},
    run: onFolder((folder, _, report) => compact(folder, report)),
  },
  export: {
    args: ['DATA_DIR', 'SESSION', 'FILE'],
    options: { iterations: { type: 'string' } },
    run: onFolder((folder, { args, options }, report) => {
      const [, name, file] = args as [string, string, string];
      const iterations = options.iterations === undefined ? undefined : Number(options.iterations);
      return exportState(folder, { name, file, iterations }, report);
    }),
  },
  token: {
    args: ['create'],
    options: {
      name: { type: 'string' },
      role: { type: 'string', multiple: true },
      session: { type: 'string', multiple: true },
      expires: { type: 'string' },
      json: { type: 'boolean' },
    },
    run: async ({ args, options: { name, role, session = ['*'], expires, json } }, report) => {
      if (args[0] !== 'create') throw new WrongUsage(`token must be followed by create. Received: ${args[0]}`);
      if (name === undefined || role === undefined)
        throw new WrongUsage('token create must have a --name and a --role');
      return createToken({ name, roles: role, sessions: session, expires }, json === true, report);
    },
  },
};

/** A command on the data folder that is its first argument. */
function onFolder(run: (folder: StoppedFolder, given: Given, report: Report) => Promise<Exit>): Command['run'] {
  return async (given, report) => {
    const folder = await StoppedFolder.open(given.args[0] as string);
    try {
      return await run(folder, given, report);
    } finally {
      await folder.close();
    }
  };
}

const usage = `usage: adamax-server                                             serves, as its environment says
       adamax-server inspect DATA_DIR [--json]                   says what lies in a data folder
       adamax-server verify DATA_DIR                             checks all of it; exits with 1 where something is wrong
       adamax-server compact DATA_DIR                            writes the journal anew, without its free pages
       adamax-server export DATA_DIR SESSION FILE [--iterations N]
                                                                 writes a session as a file to create one from
       adamax-server token create --name NAME --role read|push|admin [--session PATTERN]... [--expires TIME] [--json]
                                                                 makes a token, and the entry for it in AUTH_FILE
Commands on a data folder need one that no server is using. All exit with 2 where they cannot be carried out.
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
    return await command.run(rest, report);
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
