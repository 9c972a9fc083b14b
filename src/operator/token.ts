/** `token create`: a new token, for its bearer, and what AUTH_FILE is to say of it, which is all that the server ever knows. */
import { createHash, randomBytes } from 'node:crypto';
import { readEntry, type TokenEntry } from '../access/token-file.ts';
import { type Exit, exits, type Report } from './report.ts';

export interface WantedToken {
  readonly name: string;
  readonly roles: readonly string[];
  readonly sessions: readonly string[];
  readonly expires: string | undefined;
}

/** Throws an error that names the rule where AUTH_FILE could not hold such a token. */
export function createToken({ name, roles, sessions, expires }: WantedToken, asJson: boolean, report: Report): Exit {
  const token = `adamax_${randomBytes(32).toString('base64url')}`;
  const sha256 = createHash('sha256').update(token).digest('hex');
  const entry = { name, sha256, roles, sessions, ...(expires === undefined ? {} : { expires }) } as TokenEntry;
  readEntry(entry, '');
  if (asJson) {
    report.say(JSON.stringify({ token, entry }));
    return exits.well;
  }
  report.say(`token, for its bearer alone; it cannot be shown again:\n${token}\n`);
  report.say(`entry for the list "tokens" of AUTH_FILE:\n${JSON.stringify(entry)}`);
  return exits.well;
}
