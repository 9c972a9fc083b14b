/**
 * The server under Fastify: plain HTTP/1.1 or, with a certificate, HTTP/2 and HTTP/1.1 by ALPN; and its connections, how many
 * there can be and how long they may take. What a request or a reply on one may take is pace.ts.
 */
import { createServer, type RequestListener, type Server } from 'node:http';
import { createSecureServer, type Http2SecureServer, type ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { FastifyBaseLogger, FastifyServerOptions } from 'fastify';
import type { ConnectionBounds } from '../../config.ts';
import { connectionWindowBytes, headerBytesMax, headerFieldsMax, streamsMax, streamWindowBytes } from '../../limits.ts';
import { type Credentials, contextOf } from './certificate.ts';

/** So often at most it is logged that connections are refused. */
const dropLogMs = 10_000;
/** For a client to take the last of what it was sent. */
const endGraceMs = 1_000;
/** `:method`, `:scheme`, `:authority` and `:path`, which HTTP/2 sends as fields. */
const pseudoFields = 4;

export class Listener {
  readonly #bounds: ConnectionBounds;
  readonly #log: FastifyBaseLogger;
  readonly #credentials: Credentials | undefined;
  /** One for each address of HOST. */
  readonly #secure: Http2SecureServer[] = [];
  readonly #servers: Server[] = [];
  readonly #tasks: ((server: Server) => void)[] = [];
  readonly #sockets = new Set<Socket>();
  readonly sessions = new Set<ServerHttp2Session>();
  #dropped = 0;
  #loggedAt = Number.NEGATIVE_INFINITY;

  constructor(bounds: ConnectionBounds, credentials: Credentials | undefined, log: FastifyBaseLogger) {
    this.#bounds = bounds;
    this.#credentials = credentials;
    this.#log = log;
  }

  /** Connections at present. */
  get open(): number {
    return this.#sockets.size;
  }

  /** Connections that were refused, since there were as many as there can be. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Fastify's, whose types know the plain server alone: the other one has all that it uses. `https` is what it logs. */
  get options(): Pick<FastifyServerOptions, 'serverFactory'> {
    const secured = { https: this.#credentials === undefined ? null : {} };
    return Object.assign({ serverFactory: (handler: RequestListener) => this.#create(handler) }, secured);
  }

  #create(handler: RequestListener): Server {
    const credentials = this.#credentials;
    const server = credentials === undefined ? createServer() : (this.#createSecure(credentials) as unknown as Server);
    server.on('request', handler);
    this.#bound(server);
    this.#servers.push(server);
    for (const task of this.#tasks) task(server);
    return server;
  }

  /** Has `task` done with each server, those to come among them: there is one for each address of HOST. */
  onServer(task: (server: Server) => void): void {
    this.#tasks.push(task);
    for (const server of this.#servers) task(server);
  }

  /** For the handshakes to come. */
  readonly use = (credentials: Credentials): void => {
    for (const server of this.#secure) server.setSecureContext(contextOf(credentials));
  };

  #createSecure(credentials: Credentials): Http2SecureServer {
    const server = createSecureServer({
      ...contextOf(credentials),
      requestCert: credentials.ca !== undefined,
      rejectUnauthorized: credentials.ca !== undefined,
      allowHTTP1: true,
      handshakeTimeout: this.#bounds.headerMs,
      noDelay: true,
      // Among it Node counts replies on their way, whose memory has bounds of its own; new requests are refused beyond it.
      maxSessionMemory: streamsMax * 4,
      maxHeaderListPairs: headerFieldsMax + pseudoFields,
      settings: {
        initialWindowSize: streamWindowBytes,
        maxConcurrentStreams: streamsMax,
        maxHeaderListSize: headerBytesMax,
      },
    });
    this.#secure.push(server);
    // Who has not come through the handshake in time, or at all, cannot be answered.
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    server.on('session', (session) => {
      this.sessions.add(session);
      session.once('close', () => this.sessions.delete(session));
      session.setLocalWindowSize(connectionWindowBytes);
    });
    return Object.assign(server, { closeAllConnections: () => this.#closeAll() });
  }

  /** What Node takes as options of its plain server alone, both have as properties. */
  #bound(server: Server): void {
    server.maxConnections = this.#bounds.max;
    Object.assign(server, {
      // Node's is the first that is too much.
      maxHeaderSize: headerBytesMax + 1,
      // Beyond its own number Node passes over fields without a word; connections.ts refuses them.
      maxHeadersCount: 0,
      requireHostHeader: true,
      headersTimeout: this.#bounds.headerMs,
      // How long a body may take depends on its size.
      requestTimeout: 0,
      keepAliveTimeout: this.#bounds.keepAliveMs,
      connectionsCheckingInterval: this.#bounds.checkMs,
    });
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('drop', () => this.#drop());
  }

  #drop(): void {
    this.#dropped++;
    if (performance.now() - this.#loggedAt < dropLogMs) return;
    this.#loggedAt = performance.now();
    this.#log.warn(
      { connections: this.open, dropped: this.#dropped },
      'connections are refused: CONNECTIONS_MAX is met',
    );
  }

  #closeAll(): void {
    const isSession = this.sessions.size > 0;
    for (const session of this.sessions) session.destroy();
    const destroy = (): void => {
      for (const socket of this.#sockets) socket.destroy();
    };
    if (isSession) setTimeout(destroy, endGraceMs).unref();
    else destroy();
  }
}
