/** `adamax-server token create`: what it prints is a token and an entry that know each other, and nothing that AUTH_FILE could not hold. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { parseTokenFile } from '../../src/access/token-file.ts';
import { runCommand } from '../../src/cli.ts';

async function create(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const said = { stdout: '', stderr: '' };
  const code = await runCommand(['token', 'create', ...args], {
    stdout: {
      write: (text) => {
        said.stdout += text;
      },
    },
    stderr: {
      write: (text) => {
        said.stderr += text;
      },
    },
  });
  return { code, ...said };
}

const options = [
  '--name',
  'w1',
  '--role',
  'push',
  '--session',
  'team-a-*',
  '--session',
  'shared',
  '--expires',
  '2027-01-01T00:00:00Z',
];

test('a token and its entry, for programs', async () => {
  const { code, stdout } = await create(...options, '--json');
  assert.equal(code, 0);
  const { token, entry } = JSON.parse(stdout);
  assert.match(token, /^adamax_[A-Za-z0-9_-]{43}$/);
  assert.deepEqual(entry, {
    name: 'w1',
    sha256: createHash('sha256').update(token).digest('hex'),
    roles: ['push'],
    sessions: ['team-a-*', 'shared'],
    expires: '2027-01-01T00:00:00Z',
  });
  const [read] = parseTokenFile(JSON.stringify({ tokens: [entry] }));
  assert.ok(
    read?.reaches('team-a-7') && read.reaches('shared') && !read.reaches('others'),
    'its sessions and no others',
  );
});

test('a token and its entry, for people; each is another one', async () => {
  const tokens = [];
  for (const { stdout } of [await create(...options), await create(...options)]) {
    const [token] = /^adamax_\S+$/m.exec(stdout) ?? [];
    const [entry] = /^\{.*\}$/m.exec(stdout) ?? [];
    assert.equal(
      JSON.parse(entry as string).sha256,
      createHash('sha256')
        .update(token as string)
        .digest('hex'),
    );
    tokens.push(token);
  }
  assert.notEqual(tokens[0], tokens[1]);
});

test('without patterns it reaches all sessions', async () => {
  const { stdout } = await create('--name', 'w', '--role', 'read', '--json');
  assert.deepEqual(JSON.parse(stdout).entry.sessions, ['*']);
});

for (const [name, args, rule] of [
  ['no name', ['--role', 'read'], /token create must have a --name and a --role/],
  ['no role', ['--name', 'w'], /token create must have a --name and a --role/],
  [
    'a role that there is none of',
    ['--name', 'w', '--role', 'write'],
    /\/roles\/0 must be one of "read", "push", "admin"\. Received: "write"/,
  ],
  [
    'a time without a zone',
    ['--name', 'w', '--role', 'read', '--expires', '2027-01-01'],
    /expires must be a date and time/,
  ],
  ['an option that there is none of', ['--name', 'w', '--role', 'read', '--sessions', 'a'], /sessions/],
] as const) {
  test(`${name} is refused, and no token is printed`, async () => {
    const { code, stdout, stderr } = await create(...args);
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.match(stderr, rule);
  });
}
