/**
 * The operators' command line, on folders that a real server has left: what it says of a healthy one, that it names what is
 * damaged and changes nothing, that a journal written anew says the same, and that an exported session goes on where it stood.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../../src/cli.ts';
import { JournalFile } from '../../src/journal/journal-file.ts';
import { decodeHead } from '../../src/journal/record.ts';
import { Tail } from '../../src/journal/tail.ts';
import type { Json } from '../support/api.ts';
import { type ServerProcess, startServer, temporaryFolder } from '../support/server-process.ts';
import { pathGradients, pathVariables } from '../support/training-path.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const levels = { a: 'always', e: 'everysec', c: 'checkpoint' } as const;
/** Distinct, so that records are. */
const gradientsOf = (name: string) => (name === 'e' ? { kernel: pathGradients.kernel } : pathGradients);

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** In this process. */
async function run(...args: string[]): Promise<Ended> {
  const said = { stdout: '', stderr: '' };
  const into = (stream: keyof typeof said) => ({
    write: (text: string) => {
      said[stream] += text;
    },
  });
  const code = await runCommand(args, { stdout: into('stdout'), stderr: into('stderr') });
  return { code, ...said };
}

/** As an operator does. */
function runAlone(...args: string[]): Promise<Ended> {
  const node = ['--import', import.meta.resolve('tsx'), join(root, 'src/server.ts'), ...args];
  return new Promise((resolve) => {
    execFile(process.execPath, node, { cwd: root }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

async function inspect(folder: string): Promise<Json> {
  const { code, stdout, stderr } = await run('inspect', folder, '--json');
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}

const cleanups: (() => unknown)[] = [];
const file = { after: (task: () => unknown) => void cleanups.push(task) };
/** The folder after `kill -9`, and after a shutdown; the fingerprint of each session's last state. */
let killed: string;
let closed: string;
const fingerprints: Record<string, string> = {};

before(async () => {
  const folder = await temporaryFolder(file);
  [killed, closed] = [await temporaryFolder(file), await temporaryFolder(file)];
  const server = await startServer(file, folder);
  for (const [name, durability] of Object.entries(levels)) {
    const checkpointing = { every_steps: null, every_seconds: null, keep: 4 };
    await request(server, 'PUT', name, { variables: pathVariables, durability, checkpointing });
    for (let k = 0; k < 3; k++) {
      await push(server, name, 4);
      if (k < 2) await request(server, 'POST', `${name}/checkpoints`);
    }
    fingerprints[name] = await fingerprint(server, name);
  }
  await request(server, 'POST', 'c/checkpoints');
  await server.end('SIGKILL');
  await copyFolder(folder, killed);
  await (await startServer(file, folder)).end('SIGTERM');
  await copyFolder(folder, closed);
});

after(async () => {
  for (const task of cleanups) await task();
});

async function request(
  server: ServerProcess,
  method: string,
  path: string,
  json?: unknown,
  key?: string,
): Promise<Json> {
  const headers = key === undefined ? {} : { 'idempotency-key': key };
  const answer = await server.call(method, `/v1/sessions/${path}`, { json, headers });
  assert.ok(answer.status < 300, answer.bytes.toString());
  return answer.json;
}

async function push(server: ServerProcess, name: string, steps: number): Promise<void> {
  for (let step = 0; step < steps; step++) {
    const key = step === 0 ? undefined : `${name}-${Math.random()}`;
    await request(server, 'POST', `${name}/gradients`, { gradients: gradientsOf(name) }, key);
  }
}

async function fingerprint(server: ServerProcess, name: string): Promise<string> {
  return (await request(server, 'GET', `${name}/fingerprint`)).sha256;
}

/** All but the lock. */
async function copyFolder(from: string, to: string): Promise<void> {
  await cp(from, to, { recursive: true, filter: async (path) => !(await stat(path)).isSocket() });
}

async function copyOf(t: { after(task: () => Promise<void>): void }, folder: string): Promise<string> {
  const copy = await temporaryFolder(t);
  await copyFolder(folder, copy);
  return copy;
}

/** What is in a folder, but for locks. */
async function listing(folder: string): Promise<Record<string, string>> {
  const list: Record<string, string> = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (/^lock-\d+\.sock$|-lock$/.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    list[path] = entry.isFile()
      ? createHash('sha256')
          .update(await readFile(path))
          .digest('hex')
      : 'folder';
  }
  return list;
}

/** Runs a command that must leave the folder as it is. */
async function runOn(folder: string, command: string, ...rest: string[]): Promise<Ended> {
  const found = await listing(folder);
  const ended = await run(command, folder, ...rest);
  assert.deepEqual(await listing(folder), found, `${command} must change nothing`);
  return ended;
}

async function journalId(folder: string, session: string): Promise<string> {
  return JSON.parse(await readFile(join(folder, 'sessions', session, 'session.json'), 'utf8')).journal;
}

const journalOf = (folder: string): string => join(folder, 'journal/000001.mdb');

/** The entry of a session's record, as the journal has it. */
async function recordOf(folder: string, session: string, revision: number): Promise<{ key: Buffer; value: Buffer }> {
  const id = await journalId(folder, session);
  const journal = new JournalFile(journalOf(folder));
  const isIt = ({ key }: { key: Buffer }) =>
    key[0] === 1 && key.toString('hex', 1, 9) === id && key.readDoubleBE(9) === revision;
  const found = journal.entries().find(isIt);
  await journal.close();
  assert.ok(found, `the journal must have record ${revision} of ${session}`);
  return found;
}

/** In a byte of its data, wherever it stands: old pages have it too. */
async function damageRecord(folder: string, session: string, revision: number): Promise<void> {
  const { value } = await recordOf(folder, session, revision);
  const bytes = await readFile(journalOf(folder));
  assert.ok(bytes.includes(value));
  for (let at = bytes.indexOf(value); at >= 0; at = bytes.indexOf(value))
    bytes[at + value.length - 3] = (bytes[at + value.length - 3] as number) ^ 1;
  await writeFile(journalOf(folder), bytes);
}

async function flipByte(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] as number) ^ 1;
  await writeFile(path, bytes);
}

describe('inspect', { timeout: 120_000 }, () => {
  const checkpoint = (id: number, iterations: number) => ({ id: `ckpt-00000${id}`, iterations });
  const row = ({ name, state, position, durability, checkpoints, journal, idempotency_keys }: Json) => ({
    name,
    state,
    position: position.iterations,
    durability,
    checkpoints: checkpoints.map(({ id, iterations }: Json) => ({ id, iterations })),
    records: [journal.records, journal.first?.iterations, journal.last?.iterations, journal.replayed.steps],
    keys: idempotency_keys,
  });

  test('says after kill -9 what a start would bring back, and changes nothing', async () => {
    const found = await listing(killed);
    const { sessions, journal, damaged, problems } = await inspect(killed);
    assert.deepEqual(await listing(killed), found);
    const checkpoints = [checkpoint(3, 8), checkpoint(2, 4), checkpoint(1, 0)];
    assert.deepEqual(sessions.map(row), [
      { name: 'a', state: 'live', position: 12, durability: 'always', checkpoints, records: [12, 1, 12, 4], keys: 9 },
      {
        name: 'c',
        state: 'live',
        position: 12,
        durability: 'checkpoint',
        checkpoints: [checkpoint(4, 12), ...checkpoints],
        records: [0, undefined, undefined, 0],
        keys: 9,
      },
      { name: 'e', state: 'live', position: 12, durability: 'everysec', checkpoints, records: [12, 1, 12, 4], keys: 9 },
    ]);
    assert.equal(journal.file, 'journal/000001.mdb');
    assert.equal(journal.bytes, (await stat(journalOf(killed))).size);
    assert.deepEqual([damaged, problems], [[], []]);
  });

  test('says after a shutdown that nothing is to be replayed, as a table too', async () => {
    const { sessions } = await inspect(closed);
    for (const { name, position, journal, checkpoints, bytes } of sessions) {
      assert.deepEqual([position.iterations, journal.replayed.steps, checkpoints.length], [12, 0, 4], name);
      assert.equal(checkpoints[0].iterations, 12);
      assert.equal(bytes, 3 * 4 * (24 + 15));
    }
    const { stdout } = await runOn(closed, 'inspect');
    assert.match(
      stdout,
      /^session +state +iterations +revision +durability +bytes +keys\na +live +12 +\d+ +always +468 +9\n/,
    );
    assert.match(stdout, /\na +ckpt-000004 +12 +\d+ +20\S+Z +\d+\n/);
    assert.match(stdout, /\ndamaged: nothing\n/);
  });

  test('lists what was set aside, and names damage', async (t) => {
    const folder = await copyOf(t, closed);
    await mkdir(join(folder, 'damaged/a'), { recursive: true });
    await writeFile(join(folder, 'damaged/a/ckpt-000001.safetensors'), 'none');
    await writeFile(join(folder, 'sessions/e/ckpt-000003.safetensors'), 'none either');
    await writeFile(join(folder, 'sessions/c/session.json'), '{}');
    const { damaged, problems, sessions } = await inspect(folder);
    assert.deepEqual(damaged, [{ file: 'damaged/a/ckpt-000001.safetensors', bytes: 4 }]);
    assert.deepEqual(
      problems.map(({ file: path, session }: Json) => [path, session]),
      [
        ['sessions/c/session.json', 'c'],
        ['sessions/e/ckpt-000003.safetensors', 'e'],
      ],
    );
    assert.equal(sessions[1].state, 'live');
  });
});

test('what only the tail has is counted, verified and exported', { timeout: 120_000 }, async (t) => {
  const folder = await copyOf(t, killed);
  const { key, value } = await recordOf(folder, 'e', 12);
  const journal = new JournalFile(journalOf(folder));
  await journal.commit(() => journal.remove([key]), 0);
  await journal.close();
  const tail = await Tail.open(join(folder, 'journal'));
  await tail.clear();
  const behind = await run('verify', folder);
  assert.match(behind.stdout, /ckpt-000003 \(iteration 8\) to the end \(iteration 11\): 3 changes replayed/);
  const { bytes: headBytes } = decodeHead(value);
  const frame = { session: key.subarray(1, 9), keys: [], head: value.subarray(0, headBytes) };
  await tail.append({ ...frame, data: [value.subarray(headBytes)] }, true, Promise.resolve());
  await tail.close();

  const { sessions, journal: described } = await inspect(folder);
  assert.equal(described.tail.records, 1);
  assert.deepEqual([sessions[2].position.iterations, sessions[2].journal.replayed.steps], [12, 4]);
  const verified = await runOn(folder, 'verify');
  assert.equal(verified.code, 0, verified.stdout);
  assert.match(verified.stdout, new RegExp(`fingerprint at iteration 12: ${fingerprints.e}`));
  const exported = await runOn(folder, 'export', 'e', join(await temporaryFolder(t), 'e.safetensors'));
  assert.match(exported.stdout, new RegExp(`fingerprint: ${fingerprints.e}`));
});

describe('verify', { timeout: 240_000 }, () => {
  for (const [how, folder] of [
    ['kill -9', () => killed],
    ['a shutdown', () => closed],
  ] as const) {
    test(`finds nothing wrong after ${how}, and comes to the fingerprints that the server gave`, async () => {
      const { code, stdout, stderr } = await runOn(folder(), 'verify');
      assert.deepEqual([code, stderr], [0, ''], stdout);
      assert.deepEqual(await runAlone('verify', folder()), { code, stdout, stderr });
      for (const name of Object.keys(levels)) {
        const [, own] = stdout.split(`session ${name}: `) as [string, string];
        assert.match(own.split('session ')[0] as string, new RegExp(`at iteration 12: ${fingerprints[name]}\n`));
      }
      assert.match(
        stdout,
        /ckpt-000002 \(iteration 4\) to ckpt-000003 \(iteration 8\): 4 changes replayed, the same state/,
      );
      assert.match(stdout, /the journal does not reach/);
      assert.match(stdout, /\nall is well\n$/);
    });
  }

  /** Name, what is done, and the one problem that must be named. */
  const damages: [string, (folder: string) => Promise<void>, RegExp][] = [
    [
      'a byte of a checkpoint',
      async (folder) => {
        const path = join(folder, 'sessions/a/ckpt-000002.safetensors');
        await flipByte(path, (await stat(path)).size - 3);
      },
      /^problem: sessions\/a\/ckpt-000002\.safetensors \(session a\): a checkpoint must have the SHA-256 /,
    ],
    [
      "a byte of a record's data",
      (folder) => damageRecord(folder, 'a', 10),
      /^problem: journal\/000001\.mdb \(session a\): the data of a record must have the checksum .* \(record 10\)$/,
    ],
    [
      'a checkpoint removed',
      (folder) => rm(join(folder, 'sessions/a/ckpt-000003.safetensors')),
      /^problem: sessions\/a\/ckpt-000003\.safetensors \(session a\): .* It is missing$/,
    ],
    [
      'a record removed',
      async (folder) => {
        const { key } = await recordOf(folder, 'a', 6);
        const journal = new JournalFile(journalOf(folder));
        await journal.commit(() => journal.remove([key]), 0);
        await journal.close();
      },
      /^problem: journal\/000001\.mdb \(session a\): a record must lead on from the one before, .* \(record 7\)$/,
    ],
    [
      'another state in a checkpoint whose SHA-256 is right',
      async (folder) => {
        const path = join(folder, 'sessions/a/ckpt-000002.safetensors');
        await flipByte(path, (await stat(path)).size - 3);
        const sha256 = createHash('sha256')
          .update(await readFile(path))
          .digest('hex');
        await writeFile(`${path}.sha256`, `${sha256}  ckpt-000002.safetensors\n`);
      },
      /^problem: sessions\/a\/ckpt-000002\.safetensors \(session a\): a checkpoint must be what the journal comes to/,
    ],
    [
      'no journal',
      (folder) => rm(journalOf(folder)),
      /^problem: journal\/000001\.mdb \(session a\): there must be a journal\. There is none$/,
    ],
    [
      "a journal whose pages are none of lmdb's",
      async (folder) => {
        const bytes = await readFile(journalOf(folder));
        await writeFile(journalOf(folder), bytes.fill(0xff, 8192));
      },
      /^problem: journal\/000001\.mdb \(session a\): page \d+ must have its number\. It has /,
    ],
  ];
  for (const [name, damage, problem] of damages) {
    test(`names ${name}, and changes nothing`, async (t) => {
      const folder = await copyOf(t, killed);
      await damage(folder);
      const { code, stdout, stderr } = await runOn(folder, 'verify');
      assert.equal(code, 1, stdout + stderr);
      const problems = stdout.split('\n').filter((line) => line.startsWith('problem: '));
      assert.ok(
        problems.some((line) => problem.test(line)),
        stdout,
      );
      const others = problems.filter((line) => !/session a\)|session e\)|^problem: journal/.test(line));
      assert.deepEqual(others, []);
    });
  }
});

describe('compact', { timeout: 240_000 }, () => {
  test('keeps every entry, and the server comes back to the same bits', async (t) => {
    const folder = await copyOf(t, killed);
    const journal = new JournalFile(journalOf(folder));
    const kept = journal.entries();
    // What is put and removed again leaves free pages.
    const [entry] = kept as [(typeof kept)[number]];
    const many = Array.from({ length: 200 }, (_, k) => ({
      key: Buffer.concat([Buffer.of(9), Buffer.of(k)]),
      value: Buffer.alloc(4000),
    }));
    await journal.commit(() => many.map((each) => journal.putEntry(each)), 1_000_000);
    await journal.commit(() => journal.remove(many.map(({ key }) => key)), 1_000_000);
    assert.ok(entry && kept.length === 12 * 2 + 9 * 3);
    await journal.close();
    const before = (await stat(journalOf(folder))).size;
    const { code, stdout, stderr } = await run('compact', folder);
    assert.equal(code, 0, stderr);
    const [, told, after] = /^journal: (\d+) bytes before, (\d+) bytes after, 51 entries copied\n$/.exec(stdout) ?? [];
    const path = join(folder, 'journal/000002.mdb');
    assert.deepEqual([Number(told), Number(after)], [before, (await stat(path)).size]);
    assert.ok(Number(after) < before / 4, stdout);
    assert.deepEqual((await readdir(join(folder, 'journal'))).filter((name) => !name.endsWith('-lock')).sort(), [
      '000002.mdb',
      'data',
      'tail.0',
      'tail.1',
    ]);
    const anew = new JournalFile(path);
    assert.deepEqual(anew.entries(), kept);
    await anew.close();
    const server = await startServer(t, folder);
    for (const name of ['a', 'e', 'c']) assert.equal(await fingerprint(server, name), fingerprints[name], name);
    await push(server, 'a', 1);
    assert.equal((await server.end('SIGTERM')).code, 0);
    assert.equal((await run('verify', folder)).code, 0);
  });

  test('refuses a journal with a damaged record, and changes nothing', async (t) => {
    const folder = await copyOf(t, killed);
    await damageRecord(folder, 'a', 3);
    const { code, stdout, stderr } = await runOn(folder, 'compact');
    assert.equal(code, 1, stderr);
    assert.match(stdout, /^problem: journal\/000001\.mdb \(session a\): .* \(record 3\)\n$/);
    assert.match(stderr, /nothing was changed/);
  });
});

describe('export', { timeout: 240_000 }, () => {
  test('gives the last state, or an earlier one, from which a session can be created', async (t) => {
    const [folder, target] = [await copyOf(t, killed), await temporaryFolder(t)];
    const path = (name: string) => join(target, `${name}.safetensors`);
    const last = await runOn(folder, 'export', 'a', path('last'));
    assert.deepEqual([last.code, last.stderr], [0, ''], last.stdout);
    assert.equal((await runOn(folder, 'export', 'a', path('sixth'), '--iterations', '6')).code, 0);
    assert.deepEqual((await readdir(target)).sort(), ['last.safetensors', 'sixth.safetensors']);

    const server = await startServer(t, folder);
    for (const name of ['last', 'sixth']) {
      const created = await server.call('PUT', `/v1/sessions/${name}`, { bytes: await readFile(path(name)) });
      assert.equal(created.status, 201, created.bytes.toString());
    }
    await request(server, 'POST', 'a/fork', { name: 'past', iterations: 6 });
    const { iterations, sha256 } = await request(server, 'GET', 'last/fingerprint');
    assert.deepEqual({ iterations, sha256 }, { iterations: 12, sha256: fingerprints.a });
    assert.deepEqual(
      await request(server, 'GET', 'sixth/fingerprint'),
      await request(server, 'GET', 'past/fingerprint'),
    );
    for (const name of ['last', 'a']) await push(server, name, 2);
    assert.equal(await fingerprint(server, 'last'), await fingerprint(server, 'a'));
  });

  test('refuses a file that exists, a session that does not, and an iteration out of reach', async (t) => {
    const target = await temporaryFolder(t);
    const there = join(target, 'there');
    await writeFile(there, 'mine');
    const refused: [string[], RegExp][] = [
      [['a', there], /FILE must be a new file .* \(it exists already\)/],
      [['a', join(target, 'no/folder')], /FILE must be a new file .* \(ENOENT/],
      [['z', join(target, 'z')], /SESSION must be one of the folder's: a, c, e\. Received: z/],
      [['a', join(target, 'far'), '--iterations', '99'], /iterations must be .*: 12, 8, 4, 0, .*\. Received: 99/],
    ];
    for (const [args, message] of refused) {
      const { code, stderr } = await runOn(killed, 'export', ...args);
      assert.equal(code, 2);
      assert.match(stderr, message);
    }
    assert.deepEqual(await readdir(target), ['there']);
    assert.equal(await readFile(there, 'utf8'), 'mine');
  });

  test('goes as far as the journal can be read, and says so', async (t) => {
    const folder = await copyOf(t, killed);
    await damageRecord(folder, 'a', 11);
    const { code, stdout, stderr } = await runOn(folder, 'export', 'a', join(await temporaryFolder(t), 'a'));
    assert.equal(code, 0);
    assert.match(stdout, /: a at iteration 10, /);
    assert.match(stderr, /problem: journal\/000001\.mdb \(session a\): .* \(record 11\)\n$/);
  });
});

test('a folder that a server is using is refused by every command', { timeout: 120_000 }, async (t) => {
  const folder = await copyOf(t, closed);
  await startServer(t, folder);
  const target = join(await temporaryFolder(t), 'file');
  for (const [command, ...rest] of [['inspect'], ['verify'], ['compact'], ['export', 'a', target]] as const) {
    const { code, stdout, stderr } = await run(command, folder, ...rest);
    assert.deepEqual([code, stdout], [2, ''], command);
    assert.equal(stderr, `adamax-server: DATA_DIR must not be in use: stop the server first. Received: ${folder}\n`);
  }
});

test('wrong usage is answered with the rule, what came, and the usage', { timeout: 120_000 }, async () => {
  const wrong: [string[], RegExp][] = [
    [['serve'], /a command must be one of inspect, verify, compact, export, token\. Received: "serve"/],
    [['toString'], /Received: "toString"/],
    [['--json'], /Received: "--json"/],
    [['inspect'], /inspect must have the arguments DATA_DIR\. Received: none/],
    [['verify', 'one', 'two'], /verify must have the arguments DATA_DIR\. Received: "one" "two"/],
    [['export', 'one'], /export must have the arguments DATA_DIR SESSION FILE\. Received: "one"/],
    [['compact', 'one', '--json'], /Unknown option '--json'/],
    [
      ['export', 'a', 'b', 'c', '--iterations', '1.5'],
      /--iterations must be an integer of at least 0\. Received: "1\.5"/,
    ],
  ];
  for (const [args, message] of wrong) {
    const { code, stdout, stderr } = await run(...args);
    assert.deepEqual([code, stdout], [2, ''], args.join(' '));
    assert.match(stderr, message);
    assert.match(stderr, /\nusage: adamax-server /);
  }
  const none = await run('verify', join(root, 'src'));
  assert.equal(none.code, 2);
  assert.match(none.stderr, /^adamax-server: DATA_DIR must be the data folder of a server\. Received: .*src \(/);
  assert.deepEqual(await runAlone('verify'), await run('verify'));
  const help = await run('--help');
  assert.deepEqual([help.code, help.stderr], [0, '']);
  assert.match(help.stdout, /^usage: adamax-server /);
});
