/**
 * A container's health check, as a program of its own that loads next to nothing: does the server of this environment answer
 * `/healthz`? It asks the address that the server listens on, by HTTP or by TLS. Whose certificate that is does not matter, since
 * nothing is told to it.
 */
import { request as http } from 'node:http';
import { request as https } from 'node:https';
import { readConfig } from './config.ts';

/** Within the time-out of a health check; a server whose event loop is held up for so long is not well. */
const timeoutMs = 4000;

export interface Address {
  readonly host: string;
  readonly port: number;
  readonly isSecure: boolean;
}

/** Resolves to what the server says of itself. Throws where it does not answer, or not well. */
export function askHealth({ host, port, isSecure }: Address): Promise<string> {
  const options = { host: reachable(host), port, path: '/healthz', timeout: timeoutMs, agent: false };
  return new Promise((resolve, reject) => {
    const asked = isSecure ? https({ ...options, rejectUnauthorized: false }) : http(options);
    asked.once('timeout', () => asked.destroy(new Error(`a server must answer within ${timeoutMs} ms`)));
    // One that wants certificates of its clients says so by an alert, which it could not do if it stood still.
    asked.once('error', (error) => {
      if (isSecure && /SSL alert number/.test(error.message)) resolve('alive, for clients with a certificate');
      else reject(error);
    });
    asked.once('response', (response) => {
      response.resume();
      if (response.statusCode === 200) resolve('alive');
      else reject(new Error(`/healthz must answer 200. Received: ${response.statusCode}`));
    });
    asked.end();
  });
}

/** An address of this machine, where the server listens on all of them. */
function reachable(host: string): string {
  return { '0.0.0.0': '127.0.0.1', '::': '::1' }[host] ?? host;
}

if (process.argv[1] === import.meta.filename) {
  const config = readConfig();
  await askHealth({ ...config, isSecure: config.tls !== undefined }).catch((error: Error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  });
}
