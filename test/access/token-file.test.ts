/** What a file of tokens may say, what each of them then may, and that a fault is told without what could be a secret. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import type { Token } from '../../src/access/token.ts';
import { parseTokenFile } from '../../src/access/token-file.ts';
import { tokensMax } from '../../src/limits.ts';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const entry = { name: 'w1', sha256: sha256('secret'), roles: ['push'], sessions: ['team-a-*'] };
const parse = (...entries: object[]) => parseTokenFile(JSON.stringify({ tokens: entries }));
const only = (more: object) => parse({ ...entry, ...more })[0] as Token;

test("the contract's example is taken as it says", () => {
  const token = only({ expires: '2027-01-01T00:00:00Z' });
  assert.equal(token.name, 'w1');
  assert.deepEqual(token.digest, createHash('sha256').update('secret').digest());
  assert.equal(token.expiresAt, Date.UTC(2027, 0, 1));
  assert.ok(!token.hasExpired(Date.UTC(2027, 0, 1) - 1), 'a millisecond before');
  assert.ok(token.hasExpired(Date.UTC(2027, 0, 1)), 'from that instant on');
  assert.equal(only({}).expiresAt, Infinity);
  assert.equal(only({ sha256: entry.sha256.toUpperCase() }).digest.toString('hex'), entry.sha256);
  assert.deepEqual(parse(), []);
});

test('a role has those below it, and several roles are as much as the highest', () => {
  const can = (...roles: string[]) => (['read', 'push', 'admin'] as const).filter((role) => only({ roles }).may(role));
  assert.deepEqual(can('read'), ['read']);
  assert.deepEqual(can('push'), ['read', 'push']);
  assert.deepEqual(can('admin'), ['read', 'push', 'admin']);
  assert.deepEqual(can('read', 'admin', 'push'), ['read', 'push', 'admin']);
});

const patterns: [pattern: string, reached: string[], others: string[]][] = [
  ['*', ['a', 'team-a-1', '..'], []],
  ['team-a', ['team-a'], ['team-a-1', 'Team-a', 'xteam-a', 'team-', '']],
  ['team-a-*', ['team-a-', 'team-a-1', 'team-a-b-c'], ['team-a', 'team-b-1', 'my-team-a-1', 'team-a\n-1']],
  ['*-eval', ['a-eval', '-eval', 'a-eval-eval'], ['a-evals', 'eval']],
  ['a*b*c', ['abc', 'a1b2c', 'abbcc', 'abcbc'], ['ab', 'acb', 'abcd']],
  ['a.b', ['a.b'], ['axb']],
  ['a**b', ['ab', 'axb'], ['a', 'b']],
];
for (const [pattern, reached, others] of patterns) {
  test(`the pattern ${pattern}`, () => {
    const token = only({ sessions: ['another', pattern] });
    for (const name of reached) assert.ok(token.reaches(name), `${pattern} must reach ${name}`);
    for (const name of others) assert.ok(!token.reaches(name), `${pattern} must not reach ${name}`);
  });
}

test('a pattern of stars takes no time', () => {
  const token = only({ sessions: [`${'a*'.repeat(60)}b`] });
  const started = performance.now();
  assert.ok(!token.reaches('a'.repeat(768)), 'it does not fit');
  // Trying every split would take longer than the universe has.
  assert.ok(performance.now() - started < 1000, 'a second is more than enough');
});

describe('a file with a fault has no tokens, and the fault is named', () => {
  const faults: [string, object | string, RegExp][] = [
    ['no JSON', 'secret', /^it must be JSON\. Received: a text that is not$/],
    ['another form', [], /must be object/],
    ['a misspelt member', { token: [] }, /must have/],
    [
      'a role that there is none of',
      { roles: ['write'] },
      /^\/tokens\/0\/roles\/0 must be one of "read", "push", "admin"\. Received: "write"$/,
    ],
    ['no role', { roles: [] }, /^\/tokens\/0\/roles must NOT have fewer than 1 items/],
    ['no session', { sessions: [] }, /^\/tokens\/0\/sessions must NOT have fewer than 1 items/],
    ['a pattern that no name can have', { sessions: ['a/b'] }, /^\/tokens\/0\/sessions\/0 must match pattern/],
    ['a pattern of 129 characters', { sessions: ['a'.repeat(129)] }, /^\/tokens\/0\/sessions\/0 must match pattern/],
    ['a name of 129 characters', { name: 'a'.repeat(129) }, /^\/tokens\/0\/name must match pattern/],
    ['an unknown member', { secret: 'x' }, /^\/tokens\/0 must have no member "secret"/],
    [
      'a day for a time',
      { expires: '2027-01-01' },
      /^\/tokens\/0\/expires must be a date and time like .* Received: "2027-01-01"$/,
    ],
    ['a time that there is none of', { expires: '2027-13-01T00:00:00Z' }, /^\/tokens\/0\/expires must be/],
    ['no requests at all', { requests_per_second: 0 }, /^\/tokens\/0\/requests_per_second must be > 0/],
    ['half a session', { sessions_max: 0.5 }, /^\/tokens\/0\/sessions_max must be integer/],
    ['fewer than no bytes', { bytes_max: -1 }, /^\/tokens\/0\/bytes_max must be >= 0/],
  ];
  for (const [name, more, rule] of faults) {
    test(name, () => {
      const isEntry = typeof more === 'object' && !Array.isArray(more) && !('token' in more);
      const text =
        typeof more === 'string' ? more : JSON.stringify(isEntry ? { tokens: [{ ...entry, ...more }] } : more);
      assert.throws(
        () => parseTokenFile(text),
        ({ message }: Error) => {
          assert.match(message, rule);
          return true;
        },
      );
    });
  }

  test('the token itself in place of its hash is not repeated', () => {
    assert.throws(
      () => only({ sha256: 'adamax_very-secret' }),
      ({ message }: Error) => {
        assert.match(
          message,
          /^\/tokens\/0\/sha256 must be the SHA-256 of a token in 64 hexadecimal digits\. Received: 18 characters$/,
        );
        return true;
      },
    );
  });

  test('two of one name, and two of one secret', () => {
    assert.throws(
      () => parse(entry, { ...entry, sha256: sha256('other') }),
      /^Error: \/tokens\/1 must have a name and a sha256 of its own\. Received: w1$/,
    );
    assert.throws(
      () => parse(entry, { ...entry, name: 'w2' }),
      /^Error: \/tokens\/1 must have a name and a sha256 of its own/,
    );
  });

  test(`${tokensMax} tokens are taken, one more is not`, () => {
    const many = (count: number) =>
      Array.from({ length: count }, (_, k) => ({ ...entry, name: `w${k}`, sha256: sha256(`${k}`) }));
    assert.equal(parse(...many(tokensMax)).length, tokensMax);
    assert.throws(() => parse(...many(tokensMax + 1)), /^Problem: \/tokens must NOT have more than 1000 items/);
  });
});
