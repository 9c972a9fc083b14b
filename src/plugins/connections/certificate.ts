/**
 * The files that TLS needs, read whole and checked before a server gets them, and watched: a renewed certificate is used from
 * the next handshake on, whether its file was renamed into place, written anew, or came with Kubernetes' change of a link.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { FastifyBaseLogger } from 'fastify';
import type { TlsFiles } from '../../config.ts';
import { ContentWatch } from '../../content-watch.ts';

/** PEM. With `ca`, who comes without a certificate that it has signed is turned away. */
export interface Credentials {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | undefined;
}

/** Throws an error that names the variable whose file is no good. */
export async function readCredentials(files: TlsFiles): Promise<Credentials> {
  const credentials = await readAll(files);
  check(credentials);
  return credentials;
}

/** What a TLS server is made of, and given anew. TLS 1.0 and 1.1 are broken (RFC 8996). */
export function contextOf({ cert, key, ca }: Credentials) {
  return { cert, key, ...(ca === undefined ? {} : { ca }), minVersion: 'TLSv1.2' as const };
}

/** Reads the files every so often and calls `use` with what is new and good. What is no good is logged, once. */
export function watchCredentials(
  files: TlsFiles,
  first: Credentials,
  { checkMs, log, use }: { checkMs: number; log: FastifyBaseLogger; use: (credentials: Credentials) => void },
): ContentWatch<Credentials> {
  return new ContentWatch(first, {
    everyMs: checkMs,
    read: () => readAll(files),
    textOf,
    use: (credentials) => {
      check(credentials);
      use(credentials);
      const { subject, validTo } = new X509Certificate(credentials.cert);
      log.info({ subject, validTo }, 'a new certificate is in use');
    },
    onFault: ({ message }) => log.error({ reason: message }, 'the new certificate is of no use, the old one stays'),
  });
}

async function readAll({ cert, key, ca }: TlsFiles): Promise<Credentials> {
  return {
    cert: await readOne('TLS_CERT', cert),
    key: await readOne('TLS_KEY', key),
    ca: ca === undefined ? undefined : await readOne('TLS_CA', ca),
  };
}

function readOne(name: string, path: string): Promise<Buffer> {
  return readFile(path).catch((error: Error) => {
    throw new Error(`${name} must be the path of a file that can be read. Received: ${error.message}`, {
      cause: error,
    });
  });
}

function check(credentials: Credentials): void {
  const { cert, key, ca } = credentials;
  const certificate = attempt('TLS_CERT must have a certificate in PEM', () => new X509Certificate(cert));
  const keyRule = 'TLS_KEY must have a private key in PEM, without a passphrase';
  const privateKey = attempt(keyRule, () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new Error('TLS_KEY must have the key of the first certificate in TLS_CERT. Received: the key of another one');
  }
  if (ca !== undefined) attempt('TLS_CA must have certificates in PEM', () => new X509Certificate(ca));
  // Finds what is wrong further down in the files.
  attempt('TLS_CERT, TLS_KEY and TLS_CA must be usable', () => createSecureContext(contextOf(credentials)));
}

function attempt<T>(rule: string, task: () => T): T {
  try {
    return task();
  } catch (error) {
    throw new Error(`${rule}. Received: ${(error as Error).message}`, { cause: error });
  }
}

function textOf({ cert, key, ca }: Credentials): string {
  return [cert, key, ca ?? ''].join('\0');
}
