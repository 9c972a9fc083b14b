/**
 * Who may do what. Each route says in its `access` what it takes: a role, any token at all, or none. That is looked at before
 * the body is read. A session that the token does not reach is answered as one that does not exist. Without AUTH_FILE everybody
 * may do everything; config.ts sees to it that nobody can then come from elsewhere, or that the operator wants it so.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { AuthFile } from '../access/auth-file.ts';
import { Guesses } from '../access/guesses.ts';
import type { Rate } from '../access/rate.ts';
import { type Role, roles, type Token } from '../access/token.ts';
import { Problem } from '../errors.ts';
import { notFound } from '../store/live-session.ts';
import { audit } from './audit.ts';
import { cutOff } from './connections/http2.ts';
import { synchronous } from './synchronous.ts';

/** `open`: without a token, too. `any`: a token, whatever its role. */
export type Access = 'open' | 'any' | Role;

/** How often it is looked whether those who follow events still may. */
const streamsCheckedMs = 1000;

export const authorisation = fp(async (app: FastifyInstance, { authFile }: { authFile: string | undefined }) => {
  app.decorateRequest('token', undefined);
  app.addHook('onRoute', (route) => {
    const access = route.config?.access ?? (route.url.startsWith('/docs') ? 'any' : undefined);
    if (access === undefined) throw new Error(`${route.method} ${route.url} must say what access it takes`);
    route.config = { ...route.config, access };
  });
  if (authFile === undefined) return;

  const file = await AuthFile.open(authFile, app.log, (tokens) => audit(app.log, { action: 'reloadTokens', tokens }));
  app.addHook('onClose', () => file.close());
  const known = new Bearers(file);
  endRevoked(app, file);
  app.addHook(
    'onRequest',
    synchronous((request) => {
      // An address that there is none of has no rule of its own.
      const { access = 'any' } = request.routeOptions.config;
      if (access === 'open') return;
      const token = known.bearer(request);
      request.token = token;
      if (token.rate !== undefined) requireRate(token.rate, token);
      requireAccess(token, access, request);
    }),
  );
});

/** Throws unless the token allows what the request is for. */
function requireAccess(token: Token, access: Exclude<Access, 'open'>, request: FastifyRequest): void {
  if (access !== 'any' && !token.may(access)) {
    const needed = roles.slice(roles.indexOf(access)).join(' or ');
    throw forbidden(`token "${token.name}" must have the role ${needed} for this request. Received: ${token.role}`);
  }
  const { session } = request.params as { session?: string };
  if (session === undefined || token.reaches(session)) return;
  if (request.routeOptions.config.creates) throw outOfReach(token, session);
  throw notFound(session);
}

/** For a session that a request would make. Throws `forbidden` where the token would not reach it. */
export function requireReach({ token }: FastifyRequest, session: string): void {
  if (token !== undefined && !token.reaches(session)) throw outOfReach(token, session);
}

/** Whether the request may know of a session. */
export function mayKnow({ token }: FastifyRequest, session: string): boolean {
  return token === undefined || token.reaches(session);
}

function outOfReach(token: Token, session: string): Problem {
  return forbidden(
    `a new session's name must match a pattern of token "${token.name}". Received: ${session.slice(0, 128)}`,
  );
}

function forbidden(detail: string): Problem {
  return new Problem('forbidden', detail);
}

function requireRate(rate: Rate, { name }: Token): void {
  const wait = rate.take();
  if (wait > 0) throw rateLimited(`token "${name}" must not send more requests a second than AUTH_FILE says`, wait);
}

function rateLimited(rule: string, waitSeconds: number): Problem {
  return new Problem('rate_limited', `${rule}. Received: another one`, {
    headers: { 'retry-after': String(Math.ceil(waitSeconds)) },
  });
}

/**
 * Whose requests are whose. A connection is known by the last token that came on it, which spares its other requests the
 * search, and keeps those who are known out of the count of guesses from their address.
 */
class Bearers {
  readonly #file: AuthFile;
  readonly #guesses = new Guesses();
  readonly #known = new WeakMap<object, { header: string; token: Token; among: readonly Token[] }>();

  constructor(file: AuthFile) {
    this.#file = file;
  }

  /** Throws `unauthenticated` and `rate_limited`. */
  bearer(request: FastifyRequest): Token {
    const header = request.headers.authorization;
    const connection = connectionOf(request);
    const known = this.#known.get(connection);
    if (known !== undefined && known.header === header && known.among === this.#file.tokens) {
      return notExpired(known.token);
    }
    if (header === undefined)
      throw unauthenticated('a request must have the header Authorization: Bearer <token>', 'none');
    const [, secret] = /^bearer +([\x21-\x7e]+)$/i.exec(header) ?? [];
    if (secret === undefined) throw unauthenticated('Authorization must be Bearer and a token', 'something else');
    const wait = known?.header === header ? 0 : this.#guesses.wait(request.ip);
    if (wait > 0) throw rateLimited('an address must not send many unknown tokens, and has', wait);
    const token = this.#file.find(secret);
    if (token === undefined) {
      this.#guesses.count(request.ip);
      throw unauthenticated('a token must be one that the server knows', 'an unknown one');
    }
    this.#known.set(connection, { header, token, among: this.#file.tokens });
    return notExpired(token);
  }
}

/** What lasts from one request of a client to the next: the HTTP/2 session, or else the socket. */
function connectionOf({ raw }: FastifyRequest): object {
  return (raw as { stream?: { session?: object } }).stream?.session ?? raw.socket;
}

function notExpired(token: Token): Token {
  if (!token.hasExpired(Date.now())) return token;
  const at = new Date(token.expiresAt).toISOString();
  throw unauthenticated(`token "${token.name}" must not have expired`, `one that did at ${at}`);
}

function unauthenticated(rule: string, received: string): Problem {
  return new Problem('unauthenticated', `${rule}. Received: ${received}`, {
    headers: { 'www-authenticate': 'Bearer realm="adamax-server"' },
  });
}

/** Cuts off who follows events with a token that is no longer good for it. */
function endRevoked(app: FastifyInstance, file: AuthFile): void {
  const timer = setInterval(() => {
    for (const { raw, request } of app.replies) {
      const { token, routeOptions } = request;
      if (token === undefined || !routeOptions.config.isEndless) continue;
      const { session } = request.params as { session: string };
      const current = file.current(token);
      if (current === undefined || current.hasExpired(Date.now()) || !current.reaches(session)) cutOff(raw);
    }
  }, streamsCheckedMs).unref();
  app.addHook('onClose', async () => clearInterval(timer));
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Who sent the request; undefined where nobody needs a token. */
    token: Token | undefined;
  }
  interface FastifyContextConfig {
    access?: Access;
    /** Whether the session in the address is one that there is not yet. */
    creates?: boolean;
  }
}
