/** The text of AUTH_FILE, read: `{"tokens": [{name, sha256, roles, sessions, expires, …}]}`. A text with one fault has no tokens. */
import { type Static, Type } from 'typebox';
import { tokensMax } from '../limits.ts';
import { validate } from '../schemas/validate.ts';
import { roles, Token } from './token.ts';

const TokenName = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$' });
const SessionPattern = Type.String({ pattern: '^[A-Za-z0-9*][A-Za-z0-9._*-]{0,127}$' });

const TokenEntry = Type.Object(
  {
    name: TokenName,
    sha256: Type.String(),
    roles: Type.Array(Type.Enum(roles), { minItems: 1 }),
    sessions: Type.Array(SessionPattern, { minItems: 1, maxItems: 1000 }),
    expires: Type.Optional(Type.String()),
    requests_per_second: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
    sessions_max: Type.Optional(Type.Integer({ minimum: 0 })),
    bytes_max: Type.Optional(Type.Integer({ minimum: 0 })),
  },
  { additionalProperties: false },
);
export type TokenEntry = Static<typeof TokenEntry>;

const TokenFile = Type.Object(
  { tokens: Type.Array(TokenEntry, { maxItems: tokensMax }) },
  { additionalProperties: false },
);

/** Throws an error that names the rule and the place, and never what could be a token. */
export function parseTokenFile(text: string): Token[] {
  const { tokens } = parse(text);
  const seen = new Set<string>();
  return tokens.map((entry, k) => {
    const token = readEntry(entry, `/tokens/${k}`);
    for (const unique of [token.name, token.digest.toString('hex')]) {
      if (seen.has(unique))
        throw new Error(`/tokens/${k} must have a name and a sha256 of its own. Received: ${unique}`);
      seen.add(unique);
    }
    return token;
  });
}

/** One entry. Throws as `parseTokenFile`. */
export function readEntry(entry: TokenEntry, pointer: string): Token {
  validate(TokenEntry, entry, 'body');
  if (!/^[0-9a-f]{64}$/i.test(entry.sha256)) {
    const rule = `${pointer}/sha256 must be the SHA-256 of a token in 64 hexadecimal digits`;
    throw new Error(`${rule}. Received: ${entry.sha256.length} characters`);
  }
  return new Token({
    name: entry.name,
    digest: Buffer.from(entry.sha256, 'hex'),
    roles: entry.roles,
    sessions: entry.sessions,
    expiresAt: entry.expires === undefined ? Infinity : instant(entry.expires, `${pointer}/expires`),
    requestsPerSecond: entry.requests_per_second ?? Infinity,
    sessionsMax: entry.sessions_max ?? Infinity,
    bytesMax: entry.bytes_max ?? Infinity,
  });
}

function parse(text: string): Static<typeof TokenFile> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // V8's message quotes the text.
    throw new Error('it must be JSON. Received: a text that is not');
  }
  validate(TokenFile, value, 'body');
  return value as Static<typeof TokenFile>;
}

/** RFC 3339, in milliseconds since 1970. */
function instant(text: string, pointer: string): number {
  const at = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) {
    throw new Error(`${pointer} must be a date and time like 2027-01-01T00:00:00Z. Received: ${JSON.stringify(text)}`);
  }
  return at;
}
