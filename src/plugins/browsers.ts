/**
 * What browsers need to be told: whose pages may call the API (CORS), that replies are what they say they are, that a server with
 * TLS has it tomorrow too, and on pages what they may load. Preflights are answered here, before anything asks for a token, since
 * browsers send none with them.
 */
import cors, { type FastifyCorsOptions } from '@fastify/cors';
import helmet from '@fastify/helmet';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { synchronous } from './synchronous.ts';

export interface BrowsersOptions {
  readonly origins: readonly string[];
  readonly isSecure: boolean;
}

/** A year, as browsers' lists want it. */
const hstsSeconds = 31_536_000;
/** How long a browser remembers what a preflight said: no browser keeps it for longer than two hours. */
const preflightSeconds = 7_200;
/** Those that the API gives a meaning to, besides the few that every page can read. */
const exposedHeaders = [
  'Accept-Ranges',
  'Allow',
  'Content-Disposition',
  'Content-Range',
  'Durability',
  'ETag',
  'Idempotency-Replayed',
  'Location',
  'Preference-Applied',
  'Retry-After',
  'WWW-Authenticate',
];

export const browsers = fp(async (app: FastifyInstance, { origins, isSecure }: BrowsersOptions) => {
  const headers: Record<string, string> = { 'x-content-type-options': 'nosniff' };
  if (isSecure) headers['strict-transport-security'] = `max-age=${hstsSeconds}`;
  app.decorate('replyHeaders', headers);
  app.decorate('securePages', async (pages) => {
    await pages.register(helmet, pageHeaders(isSecure));
  });
  app.addHook(
    'onRequest',
    synchronous((_request, reply) => void reply.headers(headers)),
  );
  if (origins.length > 0) await app.register(cors, { delegator: corsFor(origins), hideOptionsRoute: true });
});

/** A preflight is an OPTIONS with two headers; any other is the API's own to answer. */
function corsFor(origins: readonly string[]) {
  const plain: FastifyCorsOptions = {
    origin: origins.includes('*') ? '*' : [...origins],
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders,
    maxAge: preflightSeconds,
    preflight: false,
  };
  const preflight: FastifyCorsOptions = { ...plain, preflight: true };
  return ({ headers }: FastifyRequest, done: (error: Error | null, options: FastifyCorsOptions) => void): void => {
    const isPreflight = headers.origin !== undefined && headers['access-control-request-method'] !== undefined;
    done(null, isPreflight ? preflight : plain);
  };
}

/** For the pages under /docs, whose scripts and styles are files of ours. Swagger's page sets styles by hand, and has small images in its own text. */
function pageHeaders(isSecure: boolean) {
  return {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        'default-src': ["'self'"],
        'base-uri': ["'self'"],
        'font-src': ["'self'", 'data:'],
        'form-action': ["'self'"],
        'frame-ancestors': ["'none'"],
        'img-src': ["'self'", 'data:'],
        'object-src': ["'none'"],
        'script-src': ["'self'"],
        'script-src-attr': ["'none'"],
        'style-src': ["'self'", "'unsafe-inline'"],
        // Over plain HTTP it would have the browser look for the page's files where there is no TLS.
        ...(isSecure ? { 'upgrade-insecure-requests': [] } : {}),
      },
    },
    // The hook for all replies says it.
    strictTransportSecurity: false,
    xFrameOptions: { action: 'deny' as const },
  };
}

declare module 'fastify' {
  interface FastifyInstance {
    /** On every reply. */
    replyHeaders: Readonly<Record<string, string>>;
    /** Gives the pages of a scope the headers that pages need. */
    securePages: (pages: FastifyInstance) => Promise<void>;
  }
}
